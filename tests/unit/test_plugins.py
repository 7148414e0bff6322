"""Kinds of other packages: found without being imported, checked, and refused by name.

1. `all_kinds` lists what is there, with why something cannot be used.
2. A wrong name tells the near ones; one that does not load is an error.
3. Options are checked as built-in ones are, and bear identity with the package's version.
4. A recorded config is read without the package.
5. Each kind proves itself, and says what is wrong.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from types import SimpleNamespace
from typing import Any

import pytest

from seal_core import plugins, proofs
from seal_core.chosen import make_outer_loop, make_reward, make_selection
from seal_core.config import Config
from seal_core.domains.base import Grading, new_problem
from seal_core.errors import InputError
from seal_core.rewards.reward import Accuracy, Judgement, Likelihood
from seal_core.section import Section

MODULE = "tests.unit.test_plugins"


class Flat:
    """A reward whose right answers earn `worth`."""

    name, evidence = "flat", frozenset()

    class Options(Section):
        worth: float = 1.0

    def __init__(self, options: Options, config: Config) -> None:
        self.worth = options.worth

    def judge(self, answers: Any, edit: Any) -> Judgement:
        return Judgement(self.worth * float(answers[0].correct), None, {}, 1)


@dataclass(frozen=True)
class Entry:
    """An entry point of a package that is not installed."""

    name: str
    value: str
    dist: Any

    def load(self) -> Any:
        return EntryPoint(self.name, self.value, plugins.GROUP).load()


@pytest.fixture
def install(monkeypatch):
    """Makes entry points appear, `name: target`, of a package `extra` 2.0 or another one."""
    entries: list[Entry] = []
    monkeypatch.setattr(plugins, "entry_points", lambda group: tuple(entries))

    def add(name: str, target: str = f"{MODULE}:Flat", package: str = "extra") -> None:
        entries.append(Entry(name, target, SimpleNamespace(name=package, version="2.0")))

    return add


def test_what_is_there_is_listed_without_being_imported(install) -> None:
    """1"""
    install("reward.flat")
    install("reward.accuracy")
    install("colour.red")
    install("reward.twice")
    install("reward.twice", package="more")
    install("reward.lost", "no_such_module:X")
    found = {(kind.point, kind.name, kind.package): kind.problem for kind in plugins.all_kinds()}
    assert found["reward", "accuracy", ""] == found["reward", "flat", "extra==2.0"] == ""
    assert found["reward", "lost", "extra==2.0"] == ""
    assert "built in" in found["reward", "accuracy", "extra==2.0"]
    assert "extra and more both have this name" in found["reward", "twice", "more==2.0"]
    assert "names no point" in found["colour", "red", "extra==2.0"]
    assert "no_such_module" not in sys.modules


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "flatt"}, r"'flatt' is not known: use 'flat', or install the package"),
        ({"kind": "lost"}, r"'lost' of extra==2\.0 does not load \(ModuleNotFoundError: .*remove"),
        ({"kind": "twice"}, r"'twice': extra and more both have this name: remove one"),
    ],
)
def test_a_name_that_cannot_be_used_is_an_error(install, given, words) -> None:
    """2"""
    install("reward.flat")
    install("reward.twice")
    install("reward.twice", package="more")
    install("reward.lost", "no_such_module:X")
    with pytest.raises(InputError, match=words):
        Config.model_validate({"reward": given})


def test_options_are_checked_and_bear_identity(install) -> None:
    """3"""
    install("reward.flat")
    plain = Config.model_validate({"reward": {"kind": "flat"}})
    assert plain.reward.model_dump() == {
        "kind": "flat",
        "package": "extra==2.0",
        "options": {"worth": 1.0},
    }
    other = Config.model_validate({"reward": {"kind": "flat", "worth": 2}})
    assert other.identity() != plain.identity() != Config().identity()
    assert make_reward(other).worth == 2.0
    with pytest.raises(ValueError, match=r"reward\.wort: extra inputs.*kind 'flat' has worth"):
        Config.model_validate({"reward": {"kind": "flat", "wort": 2}})
    with pytest.raises(ValueError, match=r"reward\.worth: input should be a valid number"):
        Config.model_validate({"reward": {"kind": "flat", "worth": "much"}})


def test_a_recorded_config_is_read_without_the_package(install, monkeypatch) -> None:
    """4"""
    install("reward.flat")
    recorded = Config.model_validate({"reward": {"kind": "flat"}}).model_dump(mode="json")
    monkeypatch.setattr(plugins, "entry_points", lambda group: ())
    config = Config.model_validate(recorded)
    assert config.model_dump(mode="json") == recorded
    with pytest.raises(InputError, match="'flat' is not known"):
        make_reward(config)


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


class Unmade(Flat):
    def __init__(self, options: Any, config: Any) -> None:
        raise RuntimeError("no licence")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Backwards", "gives right answers -1 and wrong ones -?0: right ones must earn more"),
        ("Endless", "gives graded answers no finite reward"),
        ("Broken", r"fails when it is tried \(KeyError: 'no such thing'\)"),
        ("Unmade", r"of extra==2\.0 cannot be made \(RuntimeError: no licence\)"),
    ],
)
def test_a_reward_proves_itself(install, kind, words) -> None:
    """5"""
    install("reward.it", f"{MODULE}:{kind}")
    with pytest.raises(InputError, match=words):
        make_reward(Config.model_validate({"reward": {"kind": "it"}}))


class Rule:
    """Keeps all, also what is unusable."""

    def __init__(self, options: Any, config: Any) -> None: ...

    def select(self, scores: Any) -> Any:
        chosen = make_selection(Config()).select(scores)
        return [replace(own, kept=True) for own in chosen]


class Few(Rule):
    def select(self, scores: Any) -> Any:
        return super().select(scores)[:1]


class Loop:
    start = "policy"

    def __init__(self, options: Any, config: Any) -> None: ...

    def weights(self, edits: Any, scores: Any, selections: Any) -> dict[str, float]:
        return {"edit-9": 1.0}


class Negative(Loop):
    def weights(self, edits: Any, scores: Any, selections: Any) -> dict[str, float]:
        return {edit.self_edit_id: -1.0 for edit in edits}


class Idle(Loop):
    def weights(self, edits: Any, scores: Any, selections: Any) -> dict[str, float]:
        return {}


class Elsewhere(Loop):
    start = "anywhere"


@pytest.mark.parametrize(
    ("point", "kind", "words"),
    [
        ("selection", "Rule", "keeps a self-edit that teaches nothing"),
        ("selection", "Few", "must give one verdict per score"),
        ("outer_loop", "Loop", "weighs 'edit-9', which is no self-edit of the round"),
        ("outer_loop", "Negative", r"gives edit-0 the weight -1\.0: it must be positive"),
        ("outer_loop", "Idle", "learns nothing from a round"),
        ("outer_loop", "Elsewhere", "start is 'anywhere': use 'policy' or 'base'"),
    ],
)
def test_rules_and_loops_prove_themselves(install, point, kind, words) -> None:
    """5"""
    install(f"{point}.it", f"{MODULE}:{kind}")
    config = Config.model_validate({point: {"kind": "it"}})
    make = make_selection if point == "selection" else make_outer_loop
    with pytest.raises(InputError, match=words):
        make(config)


@pytest.mark.parametrize(
    ("right", "words"),
    [({"4"}, "grades its own reference answer 'four'"), ({"4", "four", ""}, "an empty answer")],
)
def test_the_questions_of_a_domain_prove_themselves(right, words) -> None:
    """5"""
    domain: Any = SimpleNamespace(
        name="sums",
        answer_prompts=lambda problem, question: ("a", "b"),
        grade=lambda question, texts: Grading(texts[0], texts[0] in right, {}),
    )
    problem = new_problem("sums", "train", "", "2 + 2", [("2 + 2?", ["4", "four"])])
    with pytest.raises(InputError, match=words):
        proofs.prove_problems(domain, [problem])
    domain.grade = lambda question, texts: Grading(texts[0], texts[0] in ("4", "four"), {})
    proofs.prove_problems(domain, [problem])


def test_built_in_rewards_prove_themselves() -> None:
    """5"""
    for reward in (Accuracy(), Likelihood()):
        proofs.prove_reward(reward.name, reward)
