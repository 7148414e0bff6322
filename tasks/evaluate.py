"""The evaluate stage: adapted models answer questions without the passage, and are graded."""

from __future__ import annotations

from dataclasses import dataclass

from seal_core.engines import GenerateRequest, Generation
from seal_core.fingerprint import make_id
from seal_core.stages import Handle, Place
from seal_core.types import IN_CONTEXT, Adapter, Answer, Problem, Question
from tasks.basis import Basis, refs
from tasks.chatting import chat_identity
from tasks.context import RunContext
from tasks.policies import PolicyRef, adapter_stack, read_policy
from tasks.shards import read_problems
from tasks.work import Stage, StageOutput, Work


def evaluate_works(
    basis: Basis, problems: Handle, policy: Handle, at: Place, adapters: Handle | None
) -> list[Work]:
    """Answers and grades with the adapters of each shard; None asks the policy itself."""
    config = basis.config
    settings = {
        **config.evaluate.model_dump(mode="json"),
        "condition": at.condition,
        "variant": config.rows.variant,
        **chat_identity(config),
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
    answerable = [ask for ask in asks if ask.adapter is None or ask.adapter.error is None]
    requests = [_request(context, work, policy, ask) for ask in answerable]
    generations = context.generator.generate(requests)
    by_id = {generation.request_id: generation for generation in generations}
    answers = [_answer(context, work, policy, a, by_id.get(a.answer_id)) for a in asks]
    return StageOutput({"answers": answers}, n_tokens=sum(a.n_tokens or 0 for a in answers))


EVALUATE = Stage("evaluate", version=4, table="answers", uses="answers", body=_evaluate)


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
