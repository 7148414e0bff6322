"""Asks the models of a run a question, in the run's own prompt format."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flows.views.recorded import RecordedModel, read_recorded, recorded_model, recorded_problem
from seal_core.domains.base import Domain
from seal_core.engines import GenerateRequest
from seal_core.errors import EngineError, InputError
from seal_core.kinds.chosen import make_domain
from seal_core.types import Problem, Question
from storage.runs.chosen_models import ChosenModel, choose_models
from storage.sql.catalog import Catalog
from storage.store import Store
from tasks.stages.chatting import chat_settings

_NO_PASSAGE = Problem("", "", "heldout", "", "", ())


@dataclass(frozen=True)
class Answered:
    """What a model said.

    Attributes:
        model: `base`, or the id of the policy, self-edit or adapter.
        finish_reason: `stop`, or `length` where `max_tokens` cut it.
    """

    model: str
    question: str
    answer: str
    n_tokens: int
    finish_reason: str


class Models:
    """The chosen models of a run over one copy of its base model.

    They answer through plain transformers and PEFT, one request at a time.

    Args:
        in_view: Problem whose passage the models see; None for none.
        hear: Called with the pieces of each answer while it is generated.
    """

    def __init__(
        self,
        store: Store,
        chosen: Sequence[ChosenModel],
        base: RecordedModel,
        domain: Domain,
        problems: dict[str, Problem],
        in_view: Problem | None,
        device: str,
        hear: Callable[[str], object] | None,
    ) -> None:
        self._base, self._domain, self._problems, self._in_view = base, domain, problems, in_view
        self._stacks = {
            model: tuple(str(store.adapter_folder(uri)) for uri in model.uris) for model in chosen
        }
        # They import torch, which no other command of this kind needs.
        importlib.import_module("transformers.utils.logging").disable_progress_bar()
        loading = importlib.import_module("seal_core.models.loading")
        plain = importlib.import_module("seal_core.generation.plain_generator")
        loaded = loading.load_model(
            base.path, device=device, dtype=base.precision, chat=chat_settings(base.config)
        )
        self._generator: Any = plain.PlainGenerator(loaded, hear)

    def __len__(self) -> int:
        return len(self._stacks)

    def ask(
        self,
        question: str,
        max_tokens: int | None = None,
        begin: Callable[[str], object] | None = None,
    ) -> Iterator[Answered]:
        """The models' answers, one after the other.

        Args:
            max_tokens: None for as many as in the run's evaluation.
            begin: Told the name of a model before it answers.

        Raises:
            InputError: The question is blank.
            EngineError: A model cannot answer it.
        """
        if not question.strip():
            raise InputError("the question is blank")
        for model, stack in self._stacks.items():
            if begin is not None:
                begin(model.name)
            about = self._in_view or self._problems.get(model.problem_id or "", _NO_PASSAGE)
            prompt = self._domain.answer_prompts(
                about, Question("", question, ()), in_context=self._in_view is not None
            )[0]
            request = GenerateRequest(
                request_id=model.name,
                prompt=prompt.text,
                adapters=stack,
                max_tokens=max_tokens or self._base.config.evaluate.max_tokens,
                stop=prompt.stop,
                chat=prompt.chat,
            )
            (said,) = self._generator.generate([request])
            if said.text is None:
                raise EngineError(f"{model.name} cannot answer: {said.error}")
            yield Answered(model.name, question, said.text, said.n_tokens, said.finish_reason)


def open_models(
    store: Store,
    run: str,
    *,
    base: bool = False,
    policies: Sequence[str] = (),
    edits: Sequence[str] = (),
    passage: str | None = None,
    device: str = "auto",
    hear: Callable[[str], object] | None = None,
) -> Models:
    """Loads the base model of a run for the models that are named, or for its last policy.

    Args:
        passage: Id of a problem whose passage the models see.

    Raises:
        InputError: something that is named is not there, or the base model is another one now.
    """
    chosen = choose_models(store, run, base, policies, edits)
    with Catalog(store) as catalog:
        recorded = read_recorded(catalog, run)
        model = recorded_model(store, run, recorded)
        in_view = recorded_problem(catalog, run, passage) if passage else None
        about = {item.problem_id for item in chosen if item.problem_id}
        problems = {item: recorded_problem(catalog, run, item) for item in about}
    domain = make_domain(model.config)
    return Models(store, chosen, model, domain, problems, in_view, device, hear)
