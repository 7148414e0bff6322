"""Configuration: wrong values fail at once, and only what may change a result is identity."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
import tomllib

import pytest
from pydantic import BaseModel, ValidationError

import seal_core.config as config_module
from seal_core.config import EXECUTION, Config, DataSection, ExecutionSection
from seal_core.fingerprint import digest


def test_defaults_are_a_valid_run_of_the_embedded_model():
    config = Config()
    assert (config.model.path, config.data.source) == ("minilm", "minilm")


@pytest.mark.parametrize(
    "values",
    [
        {"sample": {"edits_per_problem": 0}},
        {"sample": {"temperature": -0.1}},
        {"sample": {"top_p": 0.0}},
        {"sample": {"top_p": 1.1}},
        {"finetune": {"rank": 0}},
        {"finetune": {"lr": 0.0}},
        {"finetune": {"lr": float("inf")}},
        {"finetune": {"dropout": 1.0}},
        {"finetune": {"schedule": "cosine"}},
        {"finetune": {"repeats": 0}},
        {"rows": {"variant": "chat"}},
        {"rows": {"variant": "instruct"}, "chat": {"date": "26 Jul 2024"}},
        {"rows": {"variant": "instruct"}, "chat": {"date": "2024-02-30"}},
        {"chat": {"thinking": True}},
        {"chat": {"system": "Be brief."}},
        {"filter": {"keep_fraction": 0.0}},
        {"filter": {"min_gain": 2.0}},
        {"filter": {"rule": "best"}},
        {"run": {"rounds": -1}},
        {"run": {"name": "../up"}},
        {"run": {"name": ""}},
        {"data": {"limit": 0}},
        {"data": {"heldout_share": 1.0}},
        {"data": {"source": "csv"}},
        {"execution": {"max_error_share": 1.5}},
        {"execution": {"shard_timeout": 0}},
        {"engine": {"servers": ["localhost:8000"]}},
        {"engine": {"adapter_slots": 0}},
        {"engine": {"gpu_memory_utilization": 1.5}},
    ],
)
def test_impossible_values_are_refused(values):
    with pytest.raises(ValidationError):
        Config.model_validate(values)


@pytest.mark.parametrize("values", [{"smaple": {}}, {"sample": {"temprature": 1.0}}])
def test_misspelt_keys_are_refused(values):
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Config.model_validate(values)


@pytest.mark.parametrize("values", [{"path": "x.json"}, {"heldout_path": "x.json"}])
def test_the_embedded_world_takes_no_path(values):
    with pytest.raises(ValidationError, match=r"set data\.source to 'squad' or 'dataset'"):
        DataSection.model_validate(values)


@pytest.mark.parametrize("source", ["squad", "dataset"])
def test_other_sources_need_a_path(source):
    with pytest.raises(ValidationError, match=r"needs data\.path"):
        DataSection(source=source)
    assert DataSection(source=source, path="x.json").path == "x.json"


def test_sections_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Config().run.rounds = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_execution_and_name_are_no_identity():
    plain = Config().identity()
    other = Config.model_validate(
        {
            "run": {"name": "another"},
            "execution": {"store": "elsewhere", "workers": 8, "shard_size": 3, "device": "cpu"},
            "engine": {"kind": "vllm", "servers": ["http://127.0.0.1:8000"], "adapter_slots": 3},
        }
    )
    assert digest(other.identity()) == digest(plain)
    assert not set(EXECUTION) & set(plain) and "name" not in plain["run"]


def test_every_other_value_is_identity():
    plain = digest(Config().identity())
    changes = {
        "run": {"seed": 1},
        "data": {"limit": 3},
        "model": {"revision": "main"},
        "sample": {"temperature": 0.5},
        "rows": {"split_lines": False},
        "finetune": {"rank": 4},
        "evaluate": {"grader": "f1"},
        "reward": {"kind": "likelihood"},
        "selection": {"min_gain": 0.0},
        "outer_loop": {"start": "base"},
        "update": {"epochs": 1},
        "heldout": {"repeats": 2},
    }
    assert set(changes) | {"domain", "chat", *EXECUTION} == set(Config.model_fields)
    for section, values in changes.items():
        assert digest(Config.model_validate({section: values}).identity()) != plain, section


@pytest.mark.parametrize(
    "values", [{"thinking": True}, {"date": "2025-01-31"}, {"system": "Be brief."}]
)
def test_what_a_chat_template_is_told_is_identity_where_there_are_chats(values):
    instruct = {"rows": {"variant": "instruct"}}
    plain = Config.model_validate(instruct).identity()
    told = Config.model_validate({**instruct, "chat": values}).identity()
    assert digest(told) != digest(plain) and plain["chat"]["date"] == "2024-07-26"
    assert "chat" not in Config().identity()
    with pytest.raises(ValidationError, match=rf"chat\.{next(iter(values))} needs rows\.variant"):
        Config.model_validate({"chat": values})


def test_a_blank_system_message_is_none():
    config = Config.model_validate({"chat": {"system": " \n"}})
    assert config.chat.system == "" and config.identity() == Config().identity()


def test_a_date_may_be_written_without_quotes():
    values = tomllib.loads("[rows]\nvariant = 'instruct'\n[chat]\ndate = 2025-01-31")
    assert Config.model_validate(values).chat.date == "2025-01-31"


def test_a_config_survives_its_own_json():
    config = Config.model_validate({"finetune": {"targets": ["q_proj"]}, "run": {"name": "a.b-1"}})
    assert Config.model_validate(json.loads(config.model_dump_json())) == config


def sections() -> list[type[BaseModel]]:
    return [type(getattr(Config(), name)) for name in Config.model_fields]


def test_every_section_says_what_it_is():
    assert len(sections()) == len(Config.model_fields)
    for section in sections():
        own_docstring = ast.get_docstring(ast.parse(inspect.getsource(section)).body[0])  # pyright: ignore[reportArgumentType]
        assert own_docstring, section.__name__


def test_shard_settings_live_in_execution_only():
    """Shard and batch sizes must never enter an identity, wherever a new field is added."""
    for section in sections():
        if section is not ExecutionSection:
            assert not [
                name for name in section.model_fields if "shard" in name or "device" in name
            ]


def test_importing_the_configuration_is_light():
    code = (
        f"import sys, {config_module.__name__}; "
        "sys.exit(','.join({'torch', 'numpy', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
