"""prefect.yaml, the crash automation and docs/deploy.md fit Prefect, the flows and each other.

1. Every deployment loads, its parameters fit its flow, its schedules, limits and job variables
   are ones that Prefect knows.
2. The automation is one, and gives heartbeats time to come.
3. What docs/deploy.md exports is what the demo sets, and it tells of every deployment.
"""

from __future__ import annotations

import inspect
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessVariables

from flows.loading import load_config, with_store
from flows.prefect_server.worker import dated
from tests.deploy.demo import settings
from tests.deploy.postgres import Postgres

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
DOCS = (ROOT / "docs/deploy.md").read_text()


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_every_deployment_loads(
    deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1, 3"""
    monkeypatch.chdir(ROOT)
    loaded = load_flow_from_entrypoint(deployment["entrypoint"], use_placeholder_flow=False)
    parameters = loaded.validate_parameters(deployment["parameters"])
    assert parameters.keys() <= inspect.signature(loaded.fn).parameters.keys()
    if "config" in parameters:
        assert load_config(ROOT / parameters["config"]).run.name
    for schedule in deployment.get("schedules", []):
        assert schedule["active"] is False
        CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    limit = ConcurrencyLimitConfig.model_validate(deployment["concurrency_limit"])
    assert limit.collision_strategy in ("ENQUEUE", "CANCEL_NEW")
    pool = deployment["work_pool"]
    assert pool["name"] == "seal"
    assert pool["job_variables"].keys() <= ProcessVariables.model_fields.keys()
    assert deployment["tags"]
    assert f"| `{loaded.name}/{deployment['name']}` |" in DOCS


def test_the_automation_gives_heartbeats_time() -> None:
    """2"""
    plain = yaml.safe_load((ROOT / "configs/crash-automation.yaml").read_text())
    trigger = AutomationCore.model_validate(plain).trigger
    assert isinstance(trigger, EventTrigger)
    for deployment in DEPLOYMENTS:
        every = int(
            deployment["work_pool"]["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]
        )
        assert trigger.within.total_seconds() >= 3 * every


def test_the_demo_sets_what_the_docs_export(tmp_path: Path) -> None:
    """3"""
    exported = set(re.findall(r"^export ([A-Z_]+)=", DOCS, re.MULTILINE))
    made = settings(tmp_path, Postgres(tmp_path, 1, "x")).keys()
    assert exported - {"PREFECT_API_URL"} <= made
    assert "PREFECT_API_URL" in exported


def test_without_a_store_the_config_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """1"""
    monkeypatch.delenv("SEAL_STORE", raising=False)
    job = apply_values(DEPLOYMENTS[0]["work_pool"]["job_variables"], {})
    monkeypatch.setenv("SEAL_STORE", job["env"]["SEAL_STORE"])
    assert with_store(["a.b=1"]) == ["a.b=1"]
    monkeypatch.setenv("SEAL_STORE", 's3://bucket/"x"')
    config = load_config(ROOT / "configs/demo.toml", with_store([]))
    assert config.execution.store == 's3://bucket/"x"'
    chosen = load_config(ROOT / "configs/demo.toml", with_store(["execution.store=here"]))
    assert chosen.execution.store == "here"


def test_a_name_may_hold_the_date() -> None:
    """1"""
    names = flow(lambda: [dated("a"), dated(None), dated("squad-{date}")], name="test")()
    assert names[:2] == ["a", None]
    assert abs((date.fromisoformat(names[2].removeprefix("squad-")) - date.today()).days) <= 1
