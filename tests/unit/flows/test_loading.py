"""Configs: overrides, and errors that name the key and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.loading import load_config
from seal_core.errors import InputError


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text('[run]\nname = "a"\n[sample]\nedits_per_problem = 3\n')
    return path


def test_overrides_are_toml_values_or_plain_text(toml: Path) -> None:
    config = load_config(
        toml,
        [
            "sample.edits_per_problem=7",
            "sample.temperature=0.5",
            "selection.min_gain=0.0",
            "finetune.targets=['q_proj', 'v_proj']",
            "model.path=some/folder with spaces",
            "run.name=None",
        ],
    )
    assert config.sample.edits_per_problem == 7
    assert config.sample.temperature == 0.5
    assert config.selection.min_gain == 0.0
    assert config.finetune.targets == ("q_proj", "v_proj")
    assert config.model.path == "some/folder with spaces"
    assert config.run.name is None


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sample.edits_per_problem=0", ["sample.edits_per_problem = 0", "greater than or equal"]),
        ("sample.edits=3", ["unknown key 'sample.edits'", "'sample.edits_per_problem'"]),
        ("sample.temprature=1", ["'sample.temperature'"]),
        ("execution.rounds=1", ["unknown key 'execution.rounds'", "'run.rounds'"]),
        ("data.store=x", ["unknown key 'data.store'", "'execution.store'"]),
        ("execution.batch_size=1", ["'finetune.batch_size' or 'update.batch_size'"]),
        ("finetune.colour=1", ["unknown key 'finetune.colour': see docs/configuration.md"]),
        ("finetune.targets=q_proj", ["finetune.targets = 'q_proj'", 'list, like ["a", "b"]']),
        ("smaple.top_p=1.0", ["unknown key 'smaple'", "'sample'"]),
        ("selection.kind=worst", ["selection.kind", "best_of_k"]),
        ("data.path=x.json", ["data.path", "data.source"]),
        ("data.source=squad", ["data.path"]),
        ("run.name=../evil", ["run.name"]),
        ("nodot=1", ["section.key=value"]),
        ("finetune.lr=nan", ["finetune.lr"]),
        ("finetune.learning_rate=1", ["'finetune.learning_rate': did you mean 'finetune.lr'?"]),
        ("update.lora_alpha=1", ["'update.alpha'"]),
        ("evaluate.max_new_tokens=1", ["'evaluate.max_tokens'"]),
    ],
)
def test_wrong_settings_are_named(toml: Path, override: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_config(toml, [override])
    message = str(caught.value)
    assert "\n" not in message and "run.toml" not in message
    for word in words:
        assert word in message


def test_a_mistake_of_the_file_is_the_file_s(toml: Path) -> None:
    toml.write_text('[run]\nname = "a"\n[sample]\nedits = 3\n')
    for overrides in ([], ["finetune.lr=0.1"], ["finetune.lr=nan"]):
        with pytest.raises(InputError, match=r"run\.toml: unknown key 'sample\.edits'"):
            load_config(toml, overrides)


def test_a_setting_that_the_file_needs_may_come_later(toml: Path) -> None:
    toml.write_text('[data]\nsource = "squad"\n')
    with pytest.raises(InputError, match=r"^--set: finetune\.lr"):
        load_config(toml, ["data.path=a.json", "finetune.lr=nan"])


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml: no such config file"):
        load_config(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    for text in ("[run\n", "a = " + "9" * 5000, "a = " + "[" * 100_000):
        broken.write_text(text)
        with pytest.raises(InputError, match=r"broken\.toml: not valid TOML") as caught:
            load_config(broken)
        assert "\n" not in str(caught.value)
