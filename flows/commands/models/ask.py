"""`seal ask`: what the models of a run answer to a question."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import IO, Annotated

import typer

from flows.commands.options import STORE, JsonOption, StoreOption
from flows.run_models.asking import Answered, open_models
from flows.views.formats import visible
from seal_core.errors import EngineError, InputError
from storage.store import Store


def ask(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of the run.")],
    question: Annotated[str | None, typer.Argument(help="The question; none with --chat.")] = None,
    base: Annotated[bool, typer.Option("--base", help="Ask the base model.")] = False,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="Ask this policy, or `last`; the default, alone. May be repeated."),
    ] = None,
    edit: Annotated[
        list[str] | None,
        typer.Option(help="Ask the model that learnt this self-edit. May be repeated."),
    ] = None,
    passage: Annotated[
        str | None, typer.Option(help="Id of a problem; its passage is in view.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Go on asking: one question per line, each by itself.")
    ] = False,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer; default is evaluate.max_tokens.")
    ] = None,
    device: Annotated[str, typer.Option(help="As execution.device.")] = "auto",
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Asks models of a run, in the prompt format of the run's own questions."""
    if (question is None) != chat:
        raise InputError(
            "--chat reads its questions from the terminal: leave the argument out"
            if chat
            else "no question: give one after the run's name, or --chat to ask several"
        )
    opened = Store.open(store, create=False)
    output = sys.stdout
    screen = None if as_json else Screen(output)
    with redirect_stdout(sys.stderr):  # What packages print is no part of it.
        models = open_models(
            opened,
            run,
            base=base,
            policies=policy or (),
            edits=edit or (),
            passage=passage,
            device=device,
            hear=screen.hear if screen else None,
        )
        for text in [question] if question is not None else _typed():
            if screen is None:
                found = [asdict(answer) for answer in models.ask(text, max_tokens)]
                print(json.dumps(found, ensure_ascii=False), file=output, flush=True)
                continue
            try:
                begin = screen.begin if len(models) > 1 else None
                for answer in models.ask(text, max_tokens, begin):
                    screen.end(answer)
            except EngineError as error:
                if not chat:
                    raise
                typer.echo(f"seal: {error}", err=True)  # The next question may do.


class Screen:
    """Shows answers as they come."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._starts = True

    def begin(self, name: str) -> None:
        """Says who answers, where there are several."""
        self._write(f"{name}: ")

    def hear(self, text: str) -> None:
        """A piece of an answer, whose blanks at the start are the prompt format's."""
        text = text.lstrip() if self._starts else text
        self._starts = self._starts and not text
        self._write(visible(text, keep="\n\t"))  # It cannot move the cursor.

    def end(self, answer: Answered) -> None:
        """Ends the line, and says so if the answer was cut."""
        cut = answer.finish_reason == "length"
        self._write(f" … (cut at {answer.n_tokens} tokens: --max-tokens)\n" if cut else "\n")
        self._starts = True

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _typed() -> Iterator[str]:
    """Questions from standard input, up to its end; blank lines ask nothing."""
    if sys.stdin.isatty():
        typer.echo("one question per line; ctrl-D ends", err=True)
    for line in sys.stdin:
        if line.strip():
            yield line.strip()
