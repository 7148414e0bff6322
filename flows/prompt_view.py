"""Shows what a model is really given for a problem: prompts and training rows, as tokens."""

from __future__ import annotations

import importlib
import json
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from seal_core.config import EMBEDDED, Config
from seal_core.domains.knowledge import KnowledgeDomain
from seal_core.errors import InputError
from seal_core.minilm import weights_path
from seal_core.models.model_files import model_place
from seal_core.types import Problem, Question
from storage.catalog import Catalog


def prompts_of(catalog: Catalog, found: dict[str, Any]) -> list[dict[str, Any]]:
    """What a run's model is given for one of its problems; no model is loaded.

    Args:
        found: What `showing.explain` told of the problem.

    Returns:
        Name, text and tokens of each; `n_context` of them come before what is trained on.

    Raises:
        InputError: It is no problem, the run was imported, or its model's tokenizer is not
            there any more.
    """
    if found["kind"] != "problem":
        raise InputError("--prompt shows problems, whose ids are problem-…: `seal sql problems`")
    run = str(found["problem"]["run"])
    config = _config(catalog, run)
    domain = KnowledgeDomain.from_config(config)
    problem = _problem(found)
    path = config.model.path
    path = str(weights_path()) if path == EMBEDDED else model_place(path)
    # They import transformers, which the other forms of this command do without.
    tokenizers = importlib.import_module("seal_core.models.tokenizers")
    tokens = importlib.import_module("seal_core.models.tokens")
    tokenizer = tokenizers.load_tokenizer(path, config.model.revision)
    chat = tokenizers.load_chat(path, config.model.revision, config.chat_options())

    def asked(name: str, prompt: Any) -> dict[str, Any]:
        ids = tokens.encode_prompt(tokenizer, prompt.text, chat if prompt.chat else None)
        return _shown(name, tokenizer, ids, len(ids))

    views = [asked("prompt of a self-edit", domain.edit_prompt(problem))]
    for question in problem.questions[:1]:
        views.append(asked("prompt of a question", domain.answer_prompt(problem, question)))
        in_context = domain.answer_prompt(problem, question, in_context=True)
        views.append(asked("prompt of a question, passage in view", in_context))
    eos_id = tokenizer.eos_token_id
    for row in domain.train_rows(problem, ""):
        encoded = tokens.encode_row(tokenizer, row, eos_id, config.finetune.max_length, chat)
        name = "training row of the passage alone"
        views.append(_shown(name, tokenizer, list(encoded.ids), encoded.n_context))
    return views


def print_prompts(views: list[dict[str, Any]], console: Console) -> None:
    """Prints each token between bars, and where training begins."""
    for view in views:
        title = f"{view['name']} ({len(view['tokens'])} tokens)"
        console.print(f"\n[bold]{escape(title)}[/]")
        pieces = [json.dumps(token, ensure_ascii=False)[1:-1] for token in view["tokens"]]
        cut = view["n_context"]
        line = "|".join(pieces[:cut])
        if cut < len(pieces):
            line += " ⟶ " + "|".join(pieces[cut:])
        console.print(f"  {line}", markup=False)


def _shown(name: str, tokenizer: Any, ids: list[int], n_context: int) -> dict[str, Any]:
    tokens = [tokenizer.decode([id_], clean_up_tokenization_spaces=False) for id_ in ids]
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return {"name": name, "text": text, "ids": ids, "tokens": tokens, "n_context": n_context}


def _config(catalog: Catalog, run: str) -> Config:
    (text,) = catalog.fetch("SELECT config_json FROM runs WHERE run = $run", run=run)[0]
    plain = {k: v for k, v in json.loads(text).items() if k in Config.model_fields}
    try:
        return Config.model_validate(plain)
    except ValidationError as error:
        raise InputError(f"run {run!r} was imported: it has no prompts of its own") from error


def _problem(found: dict[str, Any]) -> Problem:
    row = found["problem"]
    questions = (
        Question(q["question_id"], q["prompt"], tuple(q["gold"])) for q in found["questions"]
    )
    return Problem(
        row["problem_id"],
        row["domain"],
        row["split"],
        row["title"],
        row["context"],
        tuple(questions),
    )
