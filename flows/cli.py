"""The `seal` command: parses arguments, hands over, and turns errors into one line."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from flows.hints import complete
from flows.prefect_server.leaving import leave
from seal_core import __version__
from seal_core.errors import InputError, SealError, what_next

_STYLE: Any = {"pretty_exceptions_enable": False, "rich_markup_mode": None}

_PLACES = {
    "demo": "running.demo.demo",
    "run": "running.run.run",
    "plan": "running.plan.plan",
    "estimate": "running.estimate.estimate",
    "status": "running.status.status",
    "results": "asking.results.results",
    "compare": "asking.compare.compare",
    "report": "asking.report.report",
    "sql": "asking.sql.sql",
    "show": "asking.show.show",
    "ask": "models.ask.ask",
    "export": "models.export.export",
    "import": "upkeep.import_.import_file",
    "compact": "upkeep.compact.compact",
    "verify": "upkeep.verify.verify",
    "plugins": "upkeep.plugins.plugins",
    "doctor": "upkeep.doctor.doctor",
    "policy": "models.policy.app",
    "minilm": "models.minilm.app",
    "model": "models.model.app",
}
"""Where each command, or group of commands, is in `flows.commands`."""


class _Commands(Mapping[str, Any]):
    """Commands by name. Each is imported when it is asked for: `seal sql` needs no scipy."""

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = _PLACES[name].rpartition(".")
        found = getattr(importlib.import_module(f"flows.commands.{module}"), attribute)
        alone = typer.Typer(**_STYLE)
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=name)
        else:
            alone.command(name)(found)
        return typer.main.get_group(alone).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


class _Group(TyperGroup):
    """`seal` itself."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands: Any = _Commands()


app = typer.Typer(
    name="seal",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    help="Self-adapting language models: run the loop, resume it, ask its history.",
    **_STYLE,
)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit()


def main() -> None:
    """Entry point: 0 done, 1 the work failed, 2 wrong input, 130 or 143 interrupted."""
    leave(_answer())


def _answer() -> int:
    try:
        app()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except InputError as error:
        _say(str(error))
        return 2
    except SealError as error:
        _say(f"{error}{what_next(error)}")
        return 1
    except OSError as error:
        _say(f"{_told(error)}{what_next(error)}")
        return 1
    return 0


def _told(error: OSError) -> str:
    """Which file, and what is wrong with it, without the system's number for that."""
    if error.filename is None or error.strerror is None:
        return str(error)
    fix = ": check its rights" if isinstance(error, PermissionError) else ""
    return f"{error.filename}: {error.strerror}{fix}"


def _say(message: str) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(f"seal: {complete(message)}", markup=False)
