"""The `seal` command: parses arguments, hands over, and turns errors into one line."""

from __future__ import annotations

import typer
from rich.console import Console

from flows.commands import (
    compact,
    doctor,
    import_,
    minilm,
    model,
    plan,
    plugins,
    policy,
    results,
    run,
    show,
    sql,
    status,
    verify,
)
from flows.leaving import leave
from seal_core import __version__
from seal_core.errors import InputError, SealError, what_next

app = typer.Typer(
    name="seal",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Self-adapting language models: run the loop, resume it, ask its history.",
)
app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("results")(results.results)
app.command("status")(status.status)
app.command("sql")(sql.sql)
app.command("show")(show.show)
app.command("import")(import_.import_file)
app.command("compact")(compact.compact)
app.command("verify")(verify.verify)
app.command("plugins")(plugins.plugins)
app.command("doctor")(doctor.doctor)
app.add_typer(policy.app, name="policy")
app.add_typer(minilm.app, name="minilm")
app.add_typer(model.app, name="model")


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
    except (SealError, OSError) as error:
        _say(f"{error}{what_next(error)}")
        return 1
    return 0


def _say(message: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"seal: {message}", markup=False)
