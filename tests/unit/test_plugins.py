"""Kinds of other packages: found without being imported, checked, and refused by name.

1. `all_kinds` lists what is there, with why something cannot be used.
2. A wrong name tells the near ones; one that does not load is an error.
3. Options are checked as built-in ones are, and bear identity with the package's version.
4. A recorded config is read without the package, and carried out by the same version alone.
5. What fails in a kind is named.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, field_validator

from seal_core.config import Config
from seal_core.errors import Ended, InputError, StageError
from seal_core.kinds import entry_points as plugins
from seal_core.kinds.chosen import make_domain, make_reward
from seal_core.kinds.foreign import version_note
from seal_core.section import Section
from tests.foreign import Flat, Sums, install

__all__ = ["install"]
MODULE = "tests.unit.test_plugins"


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
    assert "extra==2.0 and more==2.0 both have this" in found["reward", "twice", "more==2.0"]
    assert "names no point" in found["colour", "red", "extra==2.0"]
    assert "no_such_module" not in sys.modules


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "flatt"}, r"'flatt' is not known: use 'flat', or install the package"),
        ({"kind": "lost"}, r"'lost' of extra==2\.0 does not load \(ModuleNotFoundError: .*remove"),
        ({"kind": "twice"}, r"'twice': extra==2\.0 and more==2\.0 both have this name"),
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
    with pytest.raises(ValueError, match=r"unknown key 'reward\.wort' \(kind 'flat' has worth"):
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


class Loose(Flat):
    """Does not say that it refuses other options."""

    class Options(BaseModel):
        model_config = ConfigDict(extra="allow")
        worth: float = 1.0


class Untyped(Flat):
    Options = dict


class Undecided(Flat):
    class Options(Section):
        @field_validator("worth", check_fields=False)
        @classmethod
        def _fails(cls, value: Any) -> Any:
            raise KeyError("no such table")

        worth: float = 1.0


def test_misspelt_options_are_refused_whatever_a_kind_says(install) -> None:
    """3"""
    install("reward.loose", f"{MODULE}:Loose")
    config = Config.model_validate({"reward": {"kind": "loose", "worth": 3}})
    assert make_reward(config).worth == 3.0
    with pytest.raises(ValueError, match=r"unknown key 'reward\.wort' \(kind 'loose' has worth"):
        Config.model_validate({"reward": {"kind": "loose", "wort": 2}})
    install("reward.untyped", f"{MODULE}:Untyped")
    with pytest.raises(ValueError, match="its Options are no pydantic 2 model"):
        Config.model_validate({"reward": {"kind": "untyped"}})
    install("reward.undecided", f"{MODULE}:Undecided")
    with pytest.raises(InputError, match=r"'undecided': its Options fail \(KeyError: 'no such tab"):
        Config.model_validate({"reward": {"kind": "undecided", "worth": 1}})


@pytest.mark.parametrize("kind", [5, ["flat"], None, 1.5])
def test_a_kind_is_named_by_text(install, kind) -> None:
    """2"""
    with pytest.raises(InputError, match=r"reward\.kind = .* is no name of a kind"):
        Config.model_validate({"reward": {"kind": kind}})


def test_another_version_carries_nothing_out(install) -> None:
    """4"""
    install("domain.sums", "Sums")
    install("reward.flat")
    config = Config.model_validate({"reward": {"kind": "flat"}, "domain": {"kind": "sums"}})
    make_reward(config)
    assert version_note(config.domain) is None is version_note(config.run)
    install("domain.sums", "Sums", version="2.1")
    install("reward.flat", version="2.1")
    words = r"'flat' of extra==2\.0 is extra==2\.1 here: install the version"
    with pytest.raises(InputError, match=words):
        make_reward(config)
    with pytest.raises(InputError, match=r"'sums' of extra==2\.0 is extra==2\.1 here"):
        make_domain(config)
    assert make_domain(config, any_version=True).name == "sums"
    assert version_note(config.domain) == "domain.kind = 'sums' of extra==2.0 is extra==2.1 here"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"worth": "much"},
            r"reward\.worth: input should.*has other options than were recorded",
        ),
        ({"old": 1}, r"unknown key 'reward\.old'.*has other options than were recorded"),
        ({}, "its options are incomplete"),
    ],
)
def test_recorded_options_are_checked_before_they_are_used(install, options, words) -> None:
    """4"""
    install("reward.flat")
    section = {"kind": "flat", "package": "extra==2.0", "options": options}
    with pytest.raises(InputError, match=words):
        make_reward(Config.model_validate({"reward": section}))


class Unmade(Flat):
    def __init__(self, options: Any) -> None:
        raise RuntimeError("no licence")


class Failing(Sums):
    def edit_prompt(self, problem: Any) -> Any:
        raise KeyError("no such thing")

    def check_edit(self, problem: Any, text: str) -> Any:
        raise InputError("said on purpose")

    def answer_prompts(self, problem: Any, question: Any, in_context: bool = False) -> Any:
        yield "one"
        raise ValueError("too late")

    @property
    def name(self) -> str:
        raise OSError("gone")


def test_what_fails_in_a_kind_is_named(install) -> None:
    """5"""
    install("domain.it", f"{MODULE}:Failing")
    install("reward.it", f"{MODULE}:Unmade")
    config = Config.model_validate({"reward": {"kind": "it"}, "domain": {"kind": "it"}})
    with pytest.raises(InputError, match=r"of extra==2\.0 cannot be made \(RuntimeError: no lic"):
        make_reward(config)
    domain: Any = make_domain(config)
    named = r"domain\.kind = 'it' of extra==2\.0 fails in "
    with pytest.raises(StageError, match=rf"{named}'edit_prompt' \(KeyError: ") as caught:
        domain.edit_prompt(None)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(StageError, match=rf"{named}'answer_prompts' \(ValueError: too late"):
        domain.answer_prompts(None, None)
    with pytest.raises(StageError, match=rf"{named}'name' \(OSError: gone"):
        _ = domain.name
    with pytest.raises(StageError, match=rf"{named}'absent' \(AttributeError: "):
        _ = domain.absent
    with pytest.raises(InputError, match=r"^said on purpose$"):
        domain.check_edit(None, "")
    assert not hasattr(domain, "__deepcopy__")


class Leaving(Flat):
    def judge(self, answers: Any, edit: Any) -> Any:
        sys.exit(0)


class Told(Flat):
    def judge(self, answers: Any, edit: Any) -> Any:
        raise Ended(143)


def test_whoever_ends_the_process_is_named(install) -> None:
    """5. A run would end with 0 and without a word otherwise."""
    install("reward.it", f"{MODULE}:Leaving")
    reward = make_reward(Config.model_validate({"reward": {"kind": "it"}}))
    with pytest.raises(StageError, match=r"fails in 'judge' \(SystemExit: 0\)"):
        reward.judge([], None)
    install("reward.gone", "tests.leaving:X")
    with pytest.raises(InputError, match=r"'gone' of extra==2\.0 does not load \(SystemExit: 3"):
        Config.model_validate({"reward": {"kind": "gone"}})
    install("reward.told", f"{MODULE}:Told")
    told = make_reward(Config.model_validate({"reward": {"kind": "told"}}))
    with pytest.raises(Ended):  # By a signal, which is no fault of the package.
        told.judge([], None)


@pytest.mark.parametrize(("name", "version"), [(None, None), ("extra", None), (None, "1.0")])
def test_a_package_without_its_metadata_is_refused(install, name, version) -> None:
    """1. Another version of it could not be told from this one."""
    install("reward.it", package=name, version=version)
    with pytest.raises(InputError, match=r"metadata of its package is incomplete.*install it"):
        Config.model_validate({"reward": {"kind": "it"}})


def test_what_is_no_entry_point_is_listed_with_its_problem(install) -> None:
    """1, 2"""
    install("reward.it", "tests.foreign:not a name at all!")
    install("reward.")
    problems = {kind.name: kind.problem for kind in plugins.all_kinds() if kind.package}
    assert "is no module:name" in problems["it"] and "names no point" in problems[""]
    with pytest.raises(InputError, match=r"is not known: use 'accuracy' or 'likelihood', or"):
        Config.model_validate({"reward": {"kind": "zzz"}})
