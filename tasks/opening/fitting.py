"""Checks, without a model's weights, that a run's texts, targets and device fit it.

A process of its own looks wherever that takes a tokenizer or torch, which are slow to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from seal_core.config import Config
from seal_core.domains.base import Domain, ProblemSet, PromptText
from seal_core.engines import GenerateRequest
from seal_core.errors import InputError
from seal_core.models.files.model_facts import told_context, told_layers
from seal_core.process.process import EngineProcess
from seal_core.process.spec import EngineSpec
from tasks.stages.chatting import chat_settings
from tasks.stages.lora import all_targets

_SECONDS = 600.0
_BYTES_PER_TOKEN = 2
"""A text of so many bytes per token of the context surely fits: no token is less than a byte, and
the rest is for what normalizers and chat templates add."""
_SHORT = 512
"""The context that is taken for sure where the config does not tell any."""
_NAMED = 3


def check_fit(config: Config, model_path: str, domain: Domain, problems: ProblemSet) -> None:
    """Passes if nothing is found that must fail once the model is loaded.

    Raises:
        InputError: There is no such device, a target that the model lacks, a chat template that
            cannot be used, or a passage that is longer than the model can read; with the fix.
    """
    prompts = _doubtful(config, model_path, domain, problems)
    targets = _unknown_targets(config, model_path)
    device = config.execution.device
    if not (prompts or targets or config.uses_chat or device not in ("auto", "cpu")):
        return
    spec = EngineSpec(
        model_path=model_path,
        device=device,
        chat=chat_settings(config),
        chats=config.uses_chat,
    )
    with TemporaryDirectory() as folder:
        process = EngineProcess(spec, Path(folder) / "fit.log")
        try:
            found = process.call("fit", {"prompts": prompts, "targets": targets}, _SECONDS)
        finally:
            process.close()
    _check_lengths(config, prompts, found)


def _check_lengths(
    config: Config, prompts: Sequence[GenerateRequest], found: dict[str, Any]
) -> None:
    context = found["context"]
    if context is None:
        return
    pairs = zip(prompts, found["lengths"], strict=True)
    too_long = [(prompt.request_id, n) for prompt, n in pairs if n >= context]
    if not too_long:
        return
    named = "; ".join(f"{what} has {n} tokens" for what, n in too_long[:_NAMED])
    more = f"; and {len(too_long) - _NAMED} more" if len(too_long) > _NAMED else ""
    raise InputError(
        f"the context of {config.model.path} is {context} tokens, and {named}{more}: shorten or "
        "split these passages, or use a model with a longer context"
    )


def _doubtful(
    config: Config, model_path: str, domain: Domain, problems: ProblemSet
) -> list[GenerateRequest]:
    """Prompts whose length in bytes does not tell that they fit."""
    room = (told_context(model_path) or _SHORT) // _BYTES_PER_TOKEN
    return [
        GenerateRequest(request_id=what, prompt=prompt.text, chat=prompt.chat)
        for what, prompt in _prompts(config, domain, problems)
        if len(prompt.text.encode(errors="replace")) >= room
    ]


def _prompts(
    config: Config, domain: Domain, problems: ProblemSet
) -> Iterator[tuple[str, PromptText]]:
    """The prompts that a run asks, and what they are."""
    views = (False, True) if config.heldout.controls else (False,)
    asked = problems.train if config.run.rounds else ()
    for problem in (*asked, *problems.heldout):
        name = f"{problem.title[:60]!r} ({problem.problem_id})"
        yield f"the prompt for a self-edit on {name}", domain.edit_prompt(problem)
        for question in problem.questions:
            for in_context in views if problem.split == "heldout" else (False,):
                for asked in domain.answer_prompts(problem, question, in_context=in_context):
                    yield f"a question about {name}", asked


def _unknown_targets(config: Config, model_path: str) -> list[str]:
    """Targets that the names in the files of the weights do not confirm."""
    layers = told_layers(model_path)
    return [
        target
        for target in all_targets(config)
        if target != "all-linear" and not any(_is_last(target, layer) for layer in layers)
    ]


def _is_last(target: str, layer: str) -> bool:
    return layer == target or layer.endswith(f".{target}")
