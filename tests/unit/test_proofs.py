"""Kinds of other packages prove themselves before a run starts, and say what is wrong.

1. A reward, with the grades of the run's own domain, answers of the baseline, and evidence.
2. A selection and an outer loop, with self-edits that were lost or teach nothing.
3. A domain: its problems are whole, its reference answers right and empty ones wrong.
4. What fails while it is tried is wrong input, and named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from seal_core.config import Config
from seal_core.domains.base import Grading, ProblemSet
from seal_core.errors import InputError
from seal_core.kinds import proofs
from seal_core.kinds.chosen import load_problems, make_domain, prove_rules
from seal_core.rewards.reward import Accuracy, Judgement, Likelihood
from tests.foreign import Even, Flat, KeepAll, Sums, install

__all__ = ["install"]
MODULE = "tests.unit.test_proofs"


def prove(section: str, domain: str = "knowledge") -> None:
    """As before a run, with the kind `it` in one section."""
    plain: dict[str, Any] = {"domain": {"kind": domain}, "data": {"limit": 2}}
    config = Config.model_validate({**plain, section: {"kind": "it"}})
    made = make_domain(config)
    prove_rules(config, made, load_problems(config, made))


class Backwards(Flat):
    """Wrong answers earn more."""

    def judge(self, answers: Any, edit: Any) -> Judgement:
        return replace(super().judge(answers, edit), reward=-float(answers[0].correct))


class Endless(Flat):
    def judge(self, answers: Any, edit: Any) -> Judgement:
        return Judgement(float("nan"))


class Broken(Flat):
    def judge(self, answers: Any, edit: Any) -> Judgement:
        raise KeyError("no such thing")


class Unjudged(Flat):
    def judge(self, answers: Any, edit: Any) -> Any:
        return Judgement(None)


class Number(Flat):
    def judge(self, answers: Any, edit: Any) -> Any:
        return 1.0


class Words(Flat):
    def judge(self, answers: Any, edit: Any) -> Any:
        return replace(super().judge(answers, edit), components={"v": "text"})


class Unknowing(Flat):
    def judge(self, answers: Any, edit: Any) -> Any:
        return replace(super().judge(answers, edit), components={"v": float("nan")})


class Unsure(Flat):
    def judge(self, answers: Any, edit: Any) -> Any:
        return replace(super().judge(answers, edit), uncertainty="high")


class AdaptedOnly(Flat):
    """Forgets that the baseline has no self-edit."""

    def judge(self, answers: Any, edit: Any) -> Judgement:
        return Judgement(float(answers[0].correct) / edit.n_tokens)


class Unasked(Flat):
    """Wants evidence that it did not ask for."""

    def judge(self, answers: Any, edit: Any) -> Judgement:
        return Judgement(sum(answer.reference_logprob for answer in answers))


class Asked(Unasked):
    evidence = frozenset({"reference_logprobs"})


class Letters(Flat):
    evidence: Any = "reference_logprobs"


class Strange(Flat):
    evidence: Any = frozenset({"gradients"})


class Nameless(Flat):
    name = ""


class Agreement(Flat):
    """Reads a grade that one domain alone gives."""

    def judge(self, answers: Any, edit: Any) -> Judgement:
        return Judgement(sum(answer.grades["agreement"] for answer in answers))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Backwards", "gives right answers -1 and wrong ones -?0: right ones must earn more"),
        ("Endless", "the reward 'flat' gives the baseline of p nan, which is no finite number"),
        ("Broken", r"'it' of extra==2\.0 fails in 'judge' \(KeyError: 'no such thing'\)"),
        ("Unjudged", "gives graded answers no reward"),
        ("Number", r"gives the baseline of p 1\.0, which is no Judgement"),
        ("Words", r"the component v = 'text', which is no finite number"),
        ("Unknowing", r"the component v = nan, which is no finite number"),
        ("Unsure", r"the uncertainty 'high', which is no finite number"),
        ("AdaptedOnly", r"fails in 'judge' \(AttributeError: 'NoneType'"),
        ("Unasked", r"fails in 'judge' \(TypeError"),
        ("Letters", "evidence is 'reference_logprobs': use a set within {'reference_logprobs'}"),
        ("Strange", "evidence is .*gradients.*: use a set within"),
        ("Nameless", "has no name"),
        ("Agreement", r"fails in 'judge' \(KeyError: 'agreement'\)"),
    ],
)
def test_a_reward_proves_itself(install, kind, words) -> None:
    """1, 4"""
    install("reward.it", f"{MODULE}:{kind}")
    with pytest.raises(InputError, match=words):
        prove("reward")


def test_a_reward_may_read_what_it_asks_for_and_its_own_domains_grades(install) -> None:
    """1"""
    install("domain.sums", "Sums")
    install("reward.it", f"{MODULE}:Agreement")
    prove("reward", "sums")
    install("reward.it", f"{MODULE}:Asked")
    prove("reward")


def test_built_in_rewards_prove_themselves() -> None:
    """1"""
    problem = Sums().load().train[0]
    for reward in (Accuracy(), Likelihood()):
        proofs.prove_reward(reward.name, reward, Sums(), problem)


class KeepBlank(KeepAll):
    def select(self, scores: Any) -> Any:
        return [replace(own, kept=own.reward is not None) for own in super().select(scores)]


class KeepLost(KeepAll):
    def select(self, scores: Any) -> Any:
        return [replace(own, kept=own.self_edit_id == "edit-2") for own in super().select(scores)]


class Few(KeepAll):
    def select(self, scores: Any) -> Any:
        return super().select(scores)[:1]


class Ids(KeepAll):
    def select(self, scores: Any) -> Any:
        return None


class Elsewhere(Even):
    start = "anywhere"


class Weights(Even):
    given: ClassVar[Any] = None

    def weights(self, edits: Any, scores: Any, selections: Any) -> Any:
        return self.given


class Unknown(Weights):
    given: ClassVar[Any] = {"edit-9": 1.0}


class Negative(Weights):
    given: ClassVar[Any] = {"edit-0": -1.0}


class Text(Weights):
    given: ClassVar[Any] = {"edit-0": "1"}


class Blank(Weights):
    given: ClassVar[Any] = {"edit-0": 1.0, "edit-3": 1.0}


class Lost(Weights):
    given: ClassVar[Any] = {"edit-2": 1.0}


class Idle(Weights):
    given: ClassVar[Any] = {}


@pytest.mark.parametrize(
    ("point", "kind", "words"),
    [
        ("selection", "KeepBlank", "keeps edit-3, a self-edit that teaches nothing: blank"),
        ("selection", "KeepLost", "keeps edit-2, which has no reward"),
        ("selection", "Few", "must give one verdict per score"),
        ("selection", "Ids", "must give one verdict per score"),
        ("outer_loop", "Unknown", "weighs 'edit-9', which is no self-edit of the round"),
        ("outer_loop", "Negative", r"gives edit-0 the weight -1\.0: it must be a positive number"),
        ("outer_loop", "Text", "gives edit-0 the weight '1'"),
        ("outer_loop", "Blank", "weighs edit-3, which teaches nothing: blank"),
        ("outer_loop", "Lost", "weighs edit-2, which teaches nothing: lost"),
        ("outer_loop", "Weights", "gives NoneType for weights"),
        ("outer_loop", "Idle", "learns nothing from a round"),
        ("outer_loop", "Elsewhere", "start is 'anywhere': use 'policy' or 'base'"),
    ],
)
def test_rules_and_loops_prove_themselves(install, point, kind, words) -> None:
    """2"""
    install(f"{point}.it", f"{MODULE}:{kind}")
    with pytest.raises(InputError, match=rf"{point}\.kind = 'it' of extra==2\.0.*{words}"):
        prove(point)


def test_rules_and_loops_that_do_as_they_should(install) -> None:
    """2"""
    for point, kind in (("selection", "KeepAll"), ("outer_loop", "Even"), ("domain", "Sums")):
        install(f"{point}.it", kind)
        prove(point, "it" if point == "domain" else "knowledge")


class Severe(Sums):
    def grade(self, question: Any, texts: Any) -> Grading:
        return Grading(texts[0], False, {})


class Lax(Sums):
    def grade(self, question: Any, texts: Any) -> Grading:
        return Grading(texts[0], True, {})


class Graded(Sums):
    """Gives the same grading to every answer."""

    given: ClassVar[Any] = None

    def grade(self, question: Any, texts: Any) -> Any:
        return self.given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (True, "grades an answer as True: use a Grading"),
        (Grading("a", 1, {}), "grades an answer as 1: correct is True or False"),
        (Grading("a", 0.5, {}), "grades an answer as 0.5"),
        (
            Grading("a", True, {"f": float("nan")}),
            r"gives the grade f = nan: use a number",
        ),
        (Grading("a", True, {"f": 7.0}), "gives the grade f = 7.0"),
        (Grading("a", True, {"f": "high"}), "gives the grade f = 'high'"),
        (Grading("a", True, [0.5]), r"gives \[0\.5\] for grades: use numbers by name"),
        (Grading(b"a", True, {}), "says that the answer is b'a': use Unicode text"),
    ],
)
def test_a_grading_is_whole(monkeypatch, given, words) -> None:
    """1"""
    monkeypatch.setattr(Graded, "given", given)
    with pytest.raises(InputError, match=f"it {words}"):
        proofs.prove_problems("it", Graded(), Sums().load())


class Unnamed(Sums):
    name = ""


class Unloaded(Sums):
    def load(self) -> Any:
        raise FileNotFoundError("sums.json")


class Unset(Sums):
    def load(self) -> Any:
        return {"train": []}


class Unasking(Sums):
    def answer_prompts(self, problem: Any, question: Any, in_context: bool = False) -> Any:
        raise LookupError("no prompt")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Severe", "grades its own reference answer 'C0' to 'P0\\?' as wrong"),
        ("Lax", "grades an empty answer to 'P0\\?' as right"),
        ("Unnamed", "has no name"),
        ("Unloaded", r"fails in 'load' \(FileNotFoundError: sums\.json\)"),
        ("Unset", r"fails when it is tried \(AttributeError"),
        ("Unasking", r"fails in 'answer_prompts' \(LookupError: no prompt\)"),
    ],
)
def test_a_domain_proves_itself(install, kind, words) -> None:
    """3, 4"""
    install("domain.it", f"{MODULE}:{kind}")
    with pytest.raises(InputError, match=rf"domain\.kind = 'it' of extra==2\.0.*{words}"):
        prove("domain", "it")


def _twice(own: ProblemSet) -> ProblemSet:
    return replace(own, train=(*own.train, own.train[0]))


def _leaking(own: ProblemSet) -> ProblemSet:
    return replace(own, heldout=(*own.heldout, replace(own.train[0], split="heldout")))


def _swapped(own: ProblemSet) -> ProblemSet:
    return replace(own, heldout=(*own.heldout, own.train[0]))


def _unanswered(own: ProblemSet) -> ProblemSet:
    (question,) = own.train[1].questions
    bare = replace(own.train[1], questions=(replace(question, gold=()),))
    return replace(own, train=(own.train[0], bare))


def _questioned_twice(own: ProblemSet) -> ProblemSet:
    first = own.train[0]
    return replace(own, train=(replace(first, questions=first.questions * 2),))


def _unquestioned(own: ProblemSet) -> ProblemSet:
    return replace(own, train=(replace(own.train[0], questions=()),))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_twice, "it has {0} twice, in train and in train"),
        (_leaking, "it has {0} twice, in train and in heldout"),
        (_swapped, "it has {0} among its heldout problems, and its split is 'train'"),
        (_questioned_twice, "it has {q0} twice"),
        (_unanswered, "it has no reference answer to {q1}"),
        (_unquestioned, "it has no question about {0}"),
        (lambda own: replace(own, heldout=()), "it has no heldout problem"),
        (lambda own: replace(own, train=()), "it has no train problem"),
        (lambda own: replace(own, train=iter(own.train)), "it has a tuple_iterator of train"),
        (
            lambda own: replace(own, train=(replace(own.train[0], title="\ud800"),)),
            r"it has '\\ud800' in {0}: use Unicode text",
        ),
    ],
)
def test_a_set_of_problems_is_whole(change: Callable[[ProblemSet], ProblemSet], words: str) -> None:
    """3"""
    own = Sums().load()
    first, second = own.train
    ids = {"q0": first.questions[0].question_id, "q1": second.questions[0].question_id}
    with pytest.raises(InputError, match=words.format(first.problem_id, **ids)):
        proofs.prove_problems("it", Sums(), change(own))
