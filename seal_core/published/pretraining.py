"""Turns published continued pretraining into two policies and their answers.

The file has no passages and no questions, so there are no rows for them: an answer is known by its
place in the data set. Which answers belong to one passage is not told, so all stand under one id.
"""

from __future__ import annotations

import math
from typing import Literal

from seal_core.errors import InputError
from seal_core.fingerprint import make_id
from seal_core.published.articles import DECIMALS, GRADER, UNKNOWN, optimizer_steps
from seal_core.published.forms import PretrainingForm
from seal_core.types import NO_ADAPTATION, Answer, Policy

CONDITION = "continued_pretraining"


def pretraining_policies(form: PretrainingForm, sha256: str) -> tuple[Policy, Policy]:
    """The base model, of which nothing is told, and what became of it."""
    base = Policy(
        policy_id=make_id("policy", GRADER, sha256),
        parent=None,
        base_model=UNKNOWN,
        model_digest=None,
        uri=None,
        sha256=None,
        n_examples=None,
        n_steps=None,
        final_loss=None,
    )
    trained = Policy(
        policy_id=make_id("policy", GRADER, sha256, CONDITION),
        parent=base.policy_id,
        base_model=UNKNOWN,
        model_digest=None,
        uri=None,
        sha256=None,
        n_examples=form.train_sequences,
        n_steps=optimizer_steps(form.lora_params, form.train_sequences),
        final_loss=None,
    )
    return base, trained


def pretraining_answers(
    form: PretrainingForm, policy: Policy, which: Literal["baseline", "adapter"]
) -> list[Answer]:
    """The answers of one policy.

    Raises:
        InputError: texts, verdicts and their mean do not agree.
    """
    texts: list[str] = getattr(form.server_reply, f"{which}_texts")
    verdicts: list[bool] = getattr(form.server_reply, f"{which}_correct")
    for name, values in (("texts", texts), ("correct", verdicts)):
        if len(values) != form.eval_questions:
            raise InputError(
                f"server_reply.{which}_{name} has {len(values)} values, but eval_questions is "
                f"{form.eval_questions}: the file was cut or edited"
            )
    told: float = getattr(form.overall, f"{which}_accuracy")
    found = math.fsum(verdicts) / len(verdicts)
    if abs(found - told) > 10**-DECIMALS:
        raise InputError(
            f"overall.{which}_accuracy is {told}, but the mean of server_reply.{which}_correct "
            f"is {found:.{DECIMALS}f}: the file was cut or edited"
        )
    condition = NO_ADAPTATION if which == "baseline" else CONDITION
    corpus = make_id("corpus", GRADER, form.dataset, form.n_articles, form.eval_questions)
    return [
        _answer(policy.policy_id, condition, corpus, i, text, correct)
        for i, (text, correct) in enumerate(zip(texts, verdicts, strict=True))
    ]


def _answer(
    policy_id: str, condition: str, corpus: str, index: int, text: str, correct: bool
) -> Answer:
    question_id = make_id("question", corpus, index)
    return Answer(
        answer_id=make_id("answer", GRADER, policy_id, question_id, condition, 0),
        problem_id=corpus,
        question_id=question_id,
        split="heldout",
        condition=condition,
        policy_id=policy_id,
        adapter_id=None,
        self_edit_id=None,
        repeat=0,
        text=text,
        correct=correct,
        grades=None,
        logprob=None,
        n_tokens=None,
        reference_logprob=None,
        reference_tokens=None,
        grader=GRADER,
        error=None,
    )
