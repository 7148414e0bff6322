"""Shows what a model reads of a problem or a self-edit: prompts and training rows, as tokens."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from flows.views.formats import visible
from flows.views.recorded import read_recorded, recorded_model, recorded_problem
from seal_core.config import Config
from seal_core.domains.base import Domain, PromptText
from seal_core.errors import InputError
from seal_core.kinds.chosen import make_domain
from seal_core.types import Problem, TrainRow
from storage.sql.catalog import Catalog
from storage.store import Store
from tasks.stages.chatting import chat_settings

_ANY_LENGTH = 1 << 30


def view_prompts(store: Store, catalog: Catalog, found: dict[str, Any]) -> dict[str, Any]:
    """Each prompt and row that a run makes of a problem or self-edit, as plain JSON types.

    Args:
        found: What `showing.explain` found of it.

    Returns:
        `run`, `model` (its path) and `prompts`: items with `what`, `text`, `n_context` (leading
        tokens that are no target; of a prompt, all), `tokens` (`id`, `token`, and `control`:
        whether it is a special token or one of the chat template), `ends` (the tokens that end
        what follows a prompt) and `note` (that it is cut, or too long; mostly None).

    Raises:
        InputError: Nothing is prompted with it, its run was imported, its model is another one
            now, or the tokenizer or chat template of that cannot be used.
    """
    if found["kind"] in ("adapter", "policy"):
        raise InputError(f"--prompt shows a problem or an edit, and not a {found['kind']}")
    run = str(found["problem"]["run"])
    recorded = read_recorded(catalog, run)
    model = recorded_model(store, run, recorded)
    config = model.config
    problem = recorded_problem(catalog, run, found["problem"]["problem_id"])
    domain, viewer = make_domain(config), _Viewer(config, model.path)
    text = found["edit"]["text"] if found["kind"] == "edit" else ""
    views = [viewer.prompt(what, prompt) for what, prompt in _prompts(domain, problem)]
    rows = domain.train_rows(problem, text)
    views += [viewer.row(f"training row {i}", row) for i, row in enumerate(rows, 1)]
    return {"run": run, "model": config.model.path, "prompts": views}


def print_prompts(found: dict[str, Any], console: Console) -> None:
    """Prints what `view_prompts` found; control tokens stand in double brackets."""
    console.print(escape(visible(f"run {found['run']}, model {found['model']}")))
    for view in found["prompts"]:
        n_context, tokens = view["n_context"], view["tokens"]
        console.print(f"\n[bold]{escape(visible(view['what']))}[/], {len(tokens)} tokens")
        _print(console, visible(view["text"], keep="\n"))
        _print(console, f"read:    {_line(tokens[:n_context])}")
        if n_context < len(tokens):
            _print(console, f"trained: {_line(tokens[n_context:])}")
        if view["ends"]:
            _print(console, f"ends at: {_line(view['ends'])}")
        if view["note"]:
            _print(console, view["note"])


def _print(console: Console, text: str) -> None:
    console.print(f"  {escape(text)}".replace("\n", "\n  "))


def _line(tokens: Sequence[dict[str, Any]]) -> str:
    return " ".join(
        f"⟦{visible(token['token'])}⟧" if token["control"] else visible(token["token"])
        for token in tokens
    )


def _prompts(domain: Domain, problem: Problem) -> Iterator[tuple[str, PromptText]]:
    edit = domain.edit_prompt(problem)
    yield f"self-edit prompt {edit.prompt_id}", edit
    for question in problem.questions[:1]:
        for in_context in (False, True):
            for asked in domain.answer_prompts(problem, question, in_context=in_context):
                yield f"question prompt {asked.prompt_id}", asked


class _Viewer:
    """Encodes as the run's engines do."""

    def __init__(self, config: Config, path: str) -> None:
        # It imports torch, which no other command of this kind needs.
        module = importlib.import_module("seal_core.models.text.tokenizers")
        self._tokens = importlib.import_module("seal_core.models.text.tokens")
        self._codec = module.load_codec(path, chat=chat_settings(config))
        tokenizer = self._codec.tokenizer
        self._eos_id, self._stop_ids = module.saved_end_tokens(tokenizer, path)
        self._context = module.saved_context(path)
        self._row_limit = min(config.finetune.max_length, self._context or _ANY_LENGTH)

    def prompt(self, what: str, prompt: PromptText) -> dict[str, Any]:
        codec = self._codec
        ids = self._tokens.encode_prompt(codec, prompt.text, prompt.chat)
        text = prompt.text
        if prompt.chat:
            text = codec.literal.reveal(codec.chat.prompt_text(text))
        ends = codec.ends(self._stop_ids, prompt.chat)
        note = None
        if self._context is not None and len(ids) >= self._context:
            note = f"too long: the model's context is {self._context} tokens"
        return self._view(what, text, ids, len(ids), ends, note)

    def row(self, what: str, row: TrainRow) -> dict[str, Any]:
        codec, limit = self._codec, self._row_limit
        whole = self._tokens.encode_row(codec, row, self._eos_id, _ANY_LENGTH)
        text = row.prompt + row.text
        if row.chat:
            text = codec.literal.reveal(codec.chat.row_text(row.prompt, row.text))
        note = None
        if len(whole.ids) > limit:
            note = f"cut: {limit} of {len(whole.ids)} tokens are left"
            if whole.n_context >= limit:
                note += ", none of them to train on, so that the row is left out"
        return self._view(what, text, whole.ids[:limit], min(whole.n_context, limit), (), note)

    def _view(
        self,
        what: str,
        text: str,
        ids: Sequence[int],
        n_context: int,
        ends: Sequence[int],
        note: str | None,
    ) -> dict[str, Any]:
        return {
            "what": what,
            "text": text,
            "n_context": n_context,
            "tokens": self._named(ids),
            "ends": self._named(ends),
            "note": note,
        }

    def _named(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        control = set(self._codec.literal.ids.values())
        names = self._codec.tokenizer.convert_ids_to_tokens(list(ids))
        return [
            {"id": token_id, "token": name, "control": token_id in control}
            for token_id, name in zip(ids, names, strict=True)
        ]
