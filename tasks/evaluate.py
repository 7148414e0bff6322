"""The evaluate stage: adapted models answer questions without the passage, and are graded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from seal_core.engines import GenerateRequest, Generation
from seal_core.fingerprint import make_id
from seal_core.types import IN_CONTEXT, Adapter, Answer, Problem, Question
from tasks.chatting import chat_identity
from tasks.context import RunContext, current
from tasks.policies import PolicyRef, adapter_stack, read_policy
from tasks.retention import restore_weights
from tasks.shards import Shard, read_problems
from tasks.stage import run_stage, stage_task
from tasks.work import ShardResult, StageOutput, Work

VERSION = 4


def evaluate(
    shards: Sequence[Shard],
    policy: PolicyRef,
    *,
    condition: str,
    round_index: int,
    label: str,
    adapters: Sequence[ShardResult] | None = None,
) -> list[ShardResult]:
    """Answers and grades; one `answers` part per shard.

    Args:
        adapters: Per shard, the adapters to answer with; None asks the policy itself.
    """
    settings = {
        **current().config.evaluate.model_dump(mode="json"),
        "condition": condition,
        "policy": policy.policy.policy_id,
        "variant": current().config.rows.variant,
        **chat_identity(current().config),
    }
    works = []
    for i, shard in enumerate(shards):
        inputs = {**shard.inputs, **policy.inputs}
        if adapters is not None:
            inputs["adapters"] = [adapters[i].ref("adapters")]
        works.append(
            Work.build(
                "evaluate",
                VERSION,
                label=f"evaluate {label}",
                shard=shard.index,
                round_index=round_index,
                settings=settings,
                inputs=inputs,
                model_digest=current().model_digest,
            )
        )
    if adapters is not None:
        restore_weights(works, adapters)
    return run_stage(evaluate_shard, works)


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
    answerable = [ask for ask in asks if ask.adapter is None or ask.adapter.error is None]
    requests = [_request(context, work, policy, ask) for ask in answerable]
    generations = context.generator.generate(requests)
    by_id = {generation.request_id: generation for generation in generations}
    answers = [_answer(context, work, policy, a, by_id.get(a.answer_id)) for a in asks]
    return StageOutput({"answers": answers}, n_tokens=sum(a.n_tokens or 0 for a in answers))


evaluate_shard = stage_task("evaluate", _evaluate)


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


def _request(context: RunContext, work: Work, policy: PolicyRef, ask: _Ask) -> GenerateRequest:
    in_context = work.settings["condition"] == IN_CONTEXT
    prompt = context.domain.answer_prompt(ask.problem, ask.question, in_context=in_context)
    uri = ask.adapter.uri if ask.adapter else None
    return GenerateRequest(
        request_id=ask.answer_id,
        prompt=prompt.text,
        adapters=adapter_stack(context.store, policy.policy, uri),
        max_tokens=work.settings["max_tokens"],
        stop=prompt.stop,
        chat=prompt.chat,
    )


def _answer(
    context: RunContext, work: Work, policy: PolicyRef, ask: _Ask, generation: Generation | None
) -> Answer:
    text, error = None, None
    if generation is not None:
        text, error = generation.text, generation.error
    elif ask.adapter is not None:
        error = f"no adapter: {ask.adapter.error}"
    grades = None if text is None else context.domain.grade(ask.question, text)
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
        text=text,
        correct=context.domain.is_correct(grades) if grades else None,
        exact_match=grades.exact_match if grades else None,
        f1=grades.f1 if grades else None,
        contains=grades.contains if grades else None,
        logprob=generation.logprob if generation else None,
        n_tokens=generation.n_tokens if generation else 0,
        grader=work.settings["grader"],
        error=error,
    )
