"""The evaluate stage: adapted models answer questions without the passage, and are graded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from seal_core.engines import GenerateRequest, Generation, Scored, ScoreRequest
from seal_core.errors import StageError
from seal_core.fingerprint import make_id
from seal_core.kinds.chosen import make_reward
from seal_core.kinds.worth import grading_fault
from seal_core.rewards.reward import REFERENCE_LOGPROBS
from seal_core.stages import Handle, Place
from seal_core.types import IN_CONTEXT, Adapter, Answer, Problem, Question
from tasks.basis import Basis, refs
from tasks.context import RunContext
from tasks.stages.chatting import domain_identity
from tasks.stages.earlier import find_earlier
from tasks.stages.policies import PolicyRef, adapter_stack, read_policy
from tasks.stages.shards import read_problems
from tasks.work import Stage, StageOutput, Work


def evaluate_works(
    basis: Basis, problems: Handle, policy: Handle, at: Place, adapters: Handle | None
) -> list[Work]:
    """Answers and grades with the adapters of each shard; None asks the policy itself."""
    config = basis.config
    evidence = sorted(make_reward(config).evidence)
    settings = {
        **config.evaluate.model_dump(mode="json"),
        **({"evidence": evidence} if evidence else {}),
        "condition": at.condition,
        "variant": config.rows.variant,
        **domain_identity(config),
    }
    inputs = {} if adapters is None else {"adapters": refs(adapters, "adapters")}
    return basis.works(EVALUATE, at, settings, problems, policy, inputs)


@dataclass(frozen=True)
class _Ask:
    """One question put to one model."""

    answer_id: str
    problem: Problem
    question: Question
    adapter: Adapter | None


def _evaluate(context: RunContext, work: Work) -> StageOutput:
    """Answers the questions of one shard."""
    problems = read_problems(context.store, work.inputs["problems"], work.inputs["questions"])
    policy = read_policy(context, work.inputs["policy"][0])
    asks = _asks(context, work, problems)
    made = _made_before(context, work, asks)
    wanted = [ask for ask in asks if ask.answer_id not in made]
    answerable = [ask for ask in wanted if ask.adapter is None or ask.adapter.error is None]
    requests = [_requests(context, work, policy, ask) for ask in answerable]
    asked = [own for group in requests for own in group]
    done = context.progress.begin("answers", len(asked))
    generations = iter(context.generator.generate(asked, done))
    said = {
        ask.answer_id: [next(generations) for _ in group]
        for ask, group in zip(answerable, requests, strict=True)
    }
    references = _references(context, work, answerable, requests)
    fresh = [
        _answer(context, work, policy, ask, said.get(ask.answer_id), references.get(ask.answer_id))
        for ask in wanted
    ]
    made.update((answer.answer_id, answer) for answer in fresh)
    return StageOutput(
        {"answers": [made[ask.answer_id] for ask in asks]},
        n_tokens=sum(answer.n_tokens or 0 for answer in fresh),
        n_reused=len(asks) - len(fresh),
    )


EVALUATE = Stage("evaluate", version=6, table="answers", uses="answers", body=_evaluate)


def _made_before(context: RunContext, work: Work, asks: Sequence[_Ask]) -> dict[str, Answer]:
    """Answers with the same weights, by id."""
    if "adapters" not in work.inputs:
        return {}
    earlier = find_earlier(context, work, "adapters")
    same = {ask.adapter for ask in asks} & set(earlier.given)
    ids = {adapter.adapter_id for adapter in same if adapter is not None}
    return {row.answer_id: row for row in earlier.rows if row.adapter_id in ids}


def _asks(context: RunContext, work: Work, problems: dict[str, Problem]) -> list[_Ask]:
    adapters: list[Adapter | None]
    if "adapters" in work.inputs:
        adapters = [a for ref in work.inputs["adapters"] for a in context.store.read(ref)]
        pairs = [(problems[a.problem_id], a) for a in adapters if a is not None]
    else:
        pairs = [(problem, None) for problem in problems.values()]
    return [
        _Ask(_answer_id(work, adapter, question), problem, question, adapter)
        for problem, adapter in pairs
        for question in problem.questions
    ]


def _answer_id(work: Work, adapter: Adapter | None, question: Question) -> str:
    adapter_id = adapter.adapter_id if adapter else None
    return make_id("answer", adapter_id, question.question_id, work.settings)


def _requests(
    context: RunContext, work: Work, policy: PolicyRef, ask: _Ask
) -> list[GenerateRequest]:
    in_context = work.settings["condition"] == IN_CONTEXT
    uri = ask.adapter.uri if ask.adapter else None
    stack = adapter_stack(context.store, policy.policy, uri)
    prompts = context.domain.answer_prompts(ask.problem, ask.question, in_context=in_context)
    return [
        GenerateRequest(
            request_id=f"{ask.answer_id}/{i}" if i else ask.answer_id,
            prompt=prompt.text,
            adapters=stack,
            max_tokens=work.settings["max_tokens"],
            stop=prompt.stop,
            chat=prompt.chat,
        )
        for i, prompt in enumerate(prompts)
    ]


def _references(
    context: RunContext,
    work: Work,
    asks: Sequence[_Ask],
    requests: Sequence[Sequence[GenerateRequest]],
) -> dict[str, Scored]:
    """How probable the reference answers are after the first prompts, if the reward asks for it."""
    if REFERENCE_LOGPROBS not in work.settings.get("evidence", ()):
        return {}
    wanted = [
        ScoreRequest(ask.answer_id, first.prompt, ask.question.gold[0], first.adapters, first.chat)
        for ask, (first, *_) in zip(asks, requests, strict=True)
    ]
    done = context.progress.begin("reference answers", len(wanted))
    return {found.request_id: found for found in context.generator.score(wanted, done)}


def _answer(
    context: RunContext,
    work: Work,
    policy: PolicyRef,
    ask: _Ask,
    said: list[Generation] | None,
    reference: Scored | None,
) -> Answer:
    error, grading = None, None
    if said is None:
        error = f"no adapter: {ask.adapter.error}" if ask.adapter else "it was not asked"
    else:
        failed = [own.error for own in (*said, *([reference] if reference else [])) if own.error]
        error = failed[0] if failed else None
        texts = [own.text for own in said if own.text is not None]
        if error is None:
            grading = context.domain.grade(ask.question, texts)
            if fault := grading_fault(grading):
                raise StageError(f"domain.kind = {context.config.domain.kind!r} {fault}")
    return Answer(
        answer_id=ask.answer_id,
        problem_id=ask.problem.problem_id,
        question_id=ask.question.question_id,
        split=ask.problem.split,
        condition=work.settings["condition"],
        policy_id=policy.policy.policy_id,
        adapter_id=ask.adapter.adapter_id if ask.adapter else None,
        self_edit_id=ask.adapter.self_edit_id if ask.adapter else None,
        repeat=ask.adapter.repeat if ask.adapter else 0,
        text=grading.text if grading else None,
        correct=grading.correct if grading else None,
        grades={k: float(v) for k, v in sorted(grading.grades.items())} if grading else None,
        logprob=_total(own.logprob for own in said or ()),
        n_tokens=sum(own.n_tokens for own in said or ()),
        reference_logprob=reference.logprob if reference else None,
        reference_tokens=reference.n_tokens if reference else None,
        # Another package's domain grades by itself; `evaluate.grader` is of the built-in one.
        grader=context.domain.name if "domain" in work.settings else work.settings["grader"],
        error=error,
    )


def _total(values: Iterable[float | None]) -> float | None:
    """The sum; None if there is nothing, or a part of it is not known."""
    known = list(values)
    return None if not known or None in known else sum(value or 0.0 for value in known)
