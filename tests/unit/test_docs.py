"""Docs that cannot go stale: every config key and every command is documented."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import typer.main
from pydantic import BaseModel

from flows.cli import app
from flows.loading import load_config
from seal_core.config import Config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(ROOT.glob("configs/*.toml"))


def _rows(text: str) -> dict[str, str]:
    """Default by key of the tables in docs/configuration.md."""
    return dict(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| `([^`]*)` \|", text, re.MULTILINE))


def _fields() -> dict[str, object]:
    found = {}
    for section, field in Config.model_fields.items():
        model = type(field.get_default())
        assert issubclass(model, BaseModel)
        for name, value in model.model_fields.items():
            found[f"{section}.{name}"] = value.get_default()
    return found


def test_every_config_key_is_documented_with_its_default() -> None:
    documented = _rows((ROOT / "docs/configuration.md").read_text())
    expected = {key: json.dumps(default) for key, default in _fields().items()}
    assert documented == expected


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_loads(path: Path) -> None:
    assert load_config(path).identity() == load_config(path).identity()
    assert tomllib.loads(path.read_text())["run"]["name"] == path.stem


def test_every_command_is_documented() -> None:
    text = (ROOT / "docs/cli.md").read_text()
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"`seal {name}" in text, f"docs/cli.md does not tell of `seal {name}`"


def test_commands_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"^(?:\$ )?make ([a-z-]+)", text, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for command in re.findall(r"^(?:\$ )?seal ([a-z]+)", text, re.MULTILINE):
        assert command in commands, f"seal {command}"
