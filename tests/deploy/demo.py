"""Shows the deployments at work on loopback: `make deploy-demo`. Exit code 0 if all is as promised.

Schedule, retry from command line and UI, death of a worker and of a machine, evaluation and
cancellation; with a real Prefect server on a real Postgres.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.deploy.obstacles import block_adapter, unblock
from tests.deploy.postgres import Postgres, running_postgres
from tests.deploy.runs import (
    RUN_SECONDS,
    Case,
    await_gone,
    await_stage,
    await_state,
    kill_machine,
    kill_worker,
    process_of,
    read,
    repeats,
    seconds_between,
    start,
)
from tests.deploy.site import ROOT, Site, documented_commands, open_site, wait_for

CRASH_SECONDS = 150.0
_CLOCK = time.monotonic()


def main() -> None:
    """All steps in order."""
    folder = Path(tempfile.mkdtemp(prefix="seal-deploy-"))
    try:
        with running_postgres() as postgres, open_site(folder, settings(folder, postgres)) as site:
            show(site, postgres, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say("all as promised")


def settings(folder: Path, postgres: Postgres) -> dict[str, str]:
    """The exports of docs/deploy.md, and shorter waits than a real site has."""
    return {
        "PREFECT_API_DATABASE_CONNECTION_URL": postgres.url,
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "SEAL_HOME": str(ROOT),
        "SEAL_STORE": str(folder / "store"),
        "PREFECT_UI_ENABLED": "0",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "3",
        "PREFECT_SERVER_DEPLOYMENT_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }


def show(site: Site, postgres: Postgres, folder: Path) -> None:
    """The promises, one after the other."""
    set_up(site, postgres)
    nightly = Case("nightly", folder / "store-1")
    worker = start_worker(site)
    scheduled_run(site, nightly)
    switched_schedule(site)
    lost = machine_dies(site, worker, Case("lost", folder / "store-2"))
    worker = start_worker(site)
    retried_run(site, nightly, Case("nightly", folder / "store-3"))
    worker = crashed_run(site, worker, nightly, Case("nightly", folder / "store-4"))
    cancelled_run(site, worker, Case("stopped", folder / "store-5"))
    evaluation(site, nightly)
    compaction(site, nightly)
    machine_noticed(site, lost)
    stop_worker(site, worker)
    unused = set(documented_commands()) - set(site.commands)
    assert not unused, f"docs/deploy.md has commands that were not tried: {unused}"


def set_up(site: Site, postgres: Postgres) -> None:
    """Server, pool, limit, automation, deployments."""
    site.start_server()
    version = site.ask("/admin/version")
    tables = postgres.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    release = postgres.ask("SHOW server_version").split()[0]
    say(f"server: Prefect {version} on Postgres {release}", f"asyncpg, {tables} tables")
    site.run("prefect work-pool create seal --type process")
    site.run("prefect global-concurrency-limit create gpu --limit 1")
    site.run("prefect automation create --from-file configs/crash-automation.yaml")
    site.run("prefect deploy --all")
    pool = site.ask("/work_pools/seal")
    say(f"pool: {pool['name']}, type {pool['type']}")
    for item in site.ask("/deployments/filter", {}):
        limit = item["global_concurrency_limit"]["limit"]
        how = item["concurrency_options"]["collision_strategy"]
        say(f"deployment: {item['name']}, at most {limit} at once, {how}", ", ".join(item["tags"]))


def scheduled_run(site: Site, case: Case) -> None:
    """A run that Prefect's scheduler makes fires and completes."""
    deployment = site.ask("/deployments/name/seal/run")
    anchor = datetime.now(UTC) + timedelta(seconds=12)
    every = {"interval": 60, "anchor_date": anchor.isoformat(), "timezone": "UTC"}
    plan = [{"schedule": every, "active": True, "parameters": case.parameters}]
    (schedule,) = site.ask(f"/deployments/{deployment['id']}/schedules", plan)
    wanted = {"deployments": {"id": {"any_": [deployment["id"]]}}, "sort": "START_TIME_ASC"}

    def fired() -> str | None:
        runs = site.ask("/flow_runs/filter", wanted)
        return next((run["id"] for run in runs if run["start_time"]), None)

    run_id = wait_for(fired, "a scheduled run to fire", RUN_SECONDS)
    place = f"/deployments/{deployment['id']}/schedules/{schedule['id']}"
    site.api.patch(place, json={"active": False}).raise_for_status()
    run = await_state(site, run_id, "COMPLETED")
    assert run["auto_scheduled"] and run["created_by"]["type"] == "SCHEDULE", run["created_by"]
    took = seconds_between(run["start_time"], run["end_time"])
    say(f"scheduled run: {run['state_name']}, made by Prefect's scheduler", run["name"])
    due, begun = (run[key][11:19] for key in ("expected_start_time", "start_time"))
    say(f"  due {due}, begun {begun}, took {took:.1f} s")
    keys = [item["key"] for item in site.ask("/artifacts/filter", {"sort": "KEY_ASC"})]
    assert keys == ["seal-results-nightly", "seal-stages-nightly"], keys
    say(f"  artifacts: {', '.join(keys)}; {len(case.done())} shards in the store")


def switched_schedule(site: Site) -> None:
    """The schedule that comes with a deployment is off, and is switched on and off."""

    def schedule() -> dict[str, Any]:
        return site.ask("/deployments/name/seal/nightly")["schedules"][0]

    number = schedule()["id"]
    assert number in site.run("prefect deployment schedule ls seal/nightly")
    found = [schedule()["active"]]
    for verb in ("resume", "pause"):
        site.run(f"prefect deployment schedule {verb} seal/nightly SCHEDULE_ID", SCHEDULE_ID=number)
        found.append(schedule()["active"])
    assert found == [False, True, False], found
    say("schedule of nightly: off, then on, then off")


def retried_run(site: Site, whole: Case, case: Case) -> None:
    """A run whose shards meet an obstacle is retried, from the command line and as by the UI."""
    labels = ("finetune round_0", "finetune heldout round_1")
    obstacles = [block_adapter(whole, case, label) for label in labels]
    run_id = start(site, case)
    for obstacle, way in zip(obstacles, ("prefect flow-run retry", "the UI's retry"), strict=True):
        failed = await_state(site, run_id, "FAILED")
        before = case.executions()
        errors = [row for row in before if row.error and row.identity == obstacle.identity]
        assert len(errors) == 1, before[-1]
        say(f"failed run: {obstacle.label}, shard {obstacle.shard}", failed["name"])
        what = str(errors[0].error).partition(": '")[0]
        say(f"  {what}: {obstacle.path.relative_to(case.store)}")
        unblock(obstacle)
        if way == "the UI's retry":
            state = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "Retry from the UI"}
            site.ask(f"/flow_runs/{run_id}/set_state", {"state": state, "force": False})
        else:
            site.run("prefect flow-run retry FLOW_RUN_ID", FLOW_RUN_ID=run_id)
        await_state(site, run_id, "FAILED", "COMPLETED")
        again = repeats(before, case.executions())
        say(f"  {way}: {again.cached} shards cached, {again.again} run again")
        assert (again.again, again.doubled) == (1, 0), again
    run = await_state(site, run_id, "COMPLETED")
    assert run["run_count"] == 3, run["run_count"]
    assert case.parts() == whole.parts()
    say(f"  {run['state_name']} in its {run['run_count']}rd go; tables equal the scheduled run's")


def crashed_run(
    site: Site, worker: subprocess.Popen[bytes], whole: Case, case: Case
) -> subprocess.Popen[bytes]:
    """A run whose worker is killed is marked Crashed, and the next run goes on; the new worker."""
    run_id = start(site, case)
    await_stage(case, "finetune heldout round_0")
    process = process_of(worker)
    kill_worker(worker)
    ended = await_gone(process, 30)
    crashed = await_state(site, run_id, "CRASHED", seconds=CRASH_SECONDS)
    say(f"worker killed: run {crashed['state_name']}, flow and engines gone in {ended:.1f} s")
    say(f"  {crashed['state']['message']}")
    before = case.executions()
    worker = start_worker(site)
    next_id = start(site, case)
    await_state(site, next_id, "COMPLETED")
    again = repeats(before, case.executions())
    say(f"  the next run: Completed; {again.cached} shards cached, {again.again} in flight again")
    assert again.cached > 0 and again.doubled == 0, again
    assert again.again <= 2, again
    assert case.parts() == whole.parts()
    say("  tables equal the scheduled run's")
    return worker


def machine_dies(site: Site, worker: subprocess.Popen[bytes], case: Case) -> str:
    """Kills worker and flow at once; the flow run's id."""
    run_id = start(site, case, "nightly")
    await_stage(case, "sample heldout round_0")
    kill_machine(worker, process_of(worker))
    assert read(site, run_id)["state_type"] == "RUNNING"
    say("machine lost: worker and flow killed at once; the server believes the run alive")
    return run_id


def machine_noticed(site: Site, run_id: str) -> None:
    """The automation has marked the lost run Crashed, since its heartbeat stopped."""
    run = await_state(site, run_id, "CRASHED", seconds=CRASH_SECONDS)
    stopped = seconds_between(run["start_time"], run["end_time"])
    say(f"machine lost: run {run['state_name']}, {stopped:.0f} s after its start", run["name"])
    say(f"  {run['state']['message']}")
    assert "heartbeat" in run["state"]["message"]
    assert stopped < CRASH_SECONDS


def cancelled_run(site: Site, worker: subprocess.Popen[bytes], case: Case) -> None:
    """Cancelling a run ends its process and its engines."""
    run_id = start(site, case)
    await_stage(case, "sample heldout round_0")
    process = process_of(worker)
    site.run("prefect flow-run cancel FLOW_RUN_ID", FLOW_RUN_ID=run_id)
    ended = await_gone(process, 30)
    run = await_state(site, run_id, "CANCELLED")
    say(f"cancelled run: {run['state_name']}, flow and {len(process.engines)} engine gone")
    say(f"  {ended:.1f} s after the command")


def evaluation(site: Site, case: Case) -> None:
    """The deployment `evaluate` measures the latest policy of a run."""
    output = site.run(
        "prefect deployment run seal-evaluate/evaluate --params PARAMETERS",
        PARAMETERS=json.dumps({**case.parameters, "run": case.name, "name": None}),
    )
    run_id = output.partition("UUID: ")[2].split()[0]
    await_state(site, run_id, "COMPLETED")
    wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_DESC"}

    def said() -> list[str]:
        lines = [line["message"] for line in site.ask("/logs/filter", wanted)]
        return [line for line in lines if line.startswith(("Held-out accuracy", "round_1: "))]

    # Logs reach the server in batches, a little after the state.
    wait_for(lambda: len(said()) == 2, "the evaluation's log", 30)
    for line in reversed(said()):
        say(f"evaluation: {line}")


def compaction(site: Site, case: Case) -> None:
    """The deployment `compact` makes fewer files of the same rows."""
    before = len(list(case.store.rglob("*.parquet")))
    output = site.run(
        "prefect deployment run seal-compact/compact --params PARAMETERS",
        PARAMETERS=json.dumps({"store": str(case.store)}),
    )
    await_state(site, output.partition("UUID: ")[2].split()[0], "COMPLETED")
    after = len(list(case.store.rglob("*.parquet")))
    say(f"compaction: {before} Parquet files, then {after}")
    assert after < before


def start_worker(site: Site) -> subprocess.Popen[bytes]:
    """A worker of the pool that is seen online by the server."""
    worker = site.start("prefect worker start --pool seal", "worker.log")

    def online() -> bool:
        found = site.ask("/work_pools/seal/workers/filter", {})
        return sum(item["status"] == "ONLINE" for item in found) >= 1

    wait_for(online, "a worker", 60)
    return worker


def stop_worker(site: Site, worker: subprocess.Popen[bytes]) -> None:
    """SIGTERM ends an idle worker of a paused pool in good order."""
    site.run("prefect work-pool pause seal")
    worker.terminate()
    say(f"worker stopped: exit code {worker.wait(timeout=60)}")
    site.run("prefect work-pool resume seal")


def say(line: str, more: str = "") -> None:
    """One line, with the time since the start."""
    print(f"[{time.monotonic() - _CLOCK:5.1f} s] {line}{' (' + more + ')' if more else ''}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
