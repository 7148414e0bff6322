"""Options of other packages' kinds mean the same when they are read again, and at every start.

Cases of public reports: pydantic-core#851, pydantic#12085, #11966, #10824, #7158, #10681.
"""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr, computed_field, field_validator

from seal_core.config import Config
from seal_core.kinds.chosen import make_reward
from seal_core.section import Section
from tests.foreign import Flat, install

__all__ = ["install"]
MODULE = "tests.unit.test_foreign_options"


class Keeping(Flat):
    def __init__(self, options: Any) -> None:
        self.options = options


class Secret(Keeping):
    class Options(Section):
        price: SecretStr = SecretStr("")


class Percent(Keeping):
    class Options(Section):
        pct: float = 40.0

        @field_validator("pct")
        @classmethod
        def _share(cls, value: float) -> float:
            return value / 100


class Excluded(Keeping):
    class Options(Section):
        x: float = Field(1.0, exclude=True)


class Words(Keeping):
    class Options(Section):
        words: frozenset[str] = frozenset("ab")


class Fresh(Keeping):
    class Options(Section):
        token: str = Field(default_factory=lambda: uuid.uuid4().hex)


class Undefined(Keeping):
    class Options(BaseModel):
        x: float = float("nan")


class Inner(BaseModel):
    a: int = 0


class Wider(Inner):
    b: int = 5


class Subclass(Keeping):
    class Options(Section):
        i: Inner = Wider()


class Nested(Keeping):
    class Options(Section):
        i: Inner = Inner()
        many: tuple[Inner, ...] = ()


class Table(Keeping):
    class Options(Section):
        table: dict[int, float] = Field(default_factory=dict)


def test_keys_that_are_converted_are_no_unknown_ones(install) -> None:
    install("reward.it", f"{MODULE}:Table")
    config = Config.model_validate({"reward": {"kind": "it", "table": {"1": 0.5}}})
    assert make_reward(config).options.table == {1: 0.5}


class Raw(Keeping):
    class Options(Section):
        by: bytes = b"\xff"


class Reserved(Keeping):
    class Options(Section):
        package: str = "x"


class Judged(Keeping):
    class Options(Section):
        x: int = 1

        @field_validator("x")
        @classmethod
        def _is_small(cls, value: int) -> int:
            if value > 5:
                raise ValueError("x is too big: use at most 5")
            return value


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("Secret", {"price": "AAA"}, r"'it': reward\.price cannot be recorded"),
        ("Percent", {}, r"reward\.pct cannot be recorded"),
        ("Excluded", {"x": 2}, r"reward\.x cannot be recorded"),
        ("Words", {}, r"reward\.words is a set, which has no order: use a tuple"),
        ("Fresh", {}, r"reward\.token: the default of .* is another one at each start"),
        ("Undefined", {}, r"reward\.x: the default"),
        ("Subclass", {}, r"reward\.i cannot be recorded"),
        ("Nested", {"i": {"a": 1, "zz": 2}}, r"unknown key 'reward\.i\.zz'"),
        ("Nested", {"many": [{"a": 1}, {"b": 2}]}, r"unknown key 'reward\.many\.1\.b'"),
        ("Raw", {}, r"'it': its options cannot be recorded as JSON"),
        ("Reserved", {}, r"'it': its Options may have no field 'package'"),
        ("Judged", {"x": 9}, r"reward\.x: x is too big: use at most 5"),
    ],
)
def test_options_that_would_be_others_are_refused(install, kind, given, words) -> None:
    install("reward.it", f"{MODULE}:{kind}")
    with pytest.raises(ValueError, match=words):
        Config.model_validate({"reward": {"kind": "it", **given}})


class Aliased(Keeping):
    class Options(Section):
        n: int = Field(3, alias="max-count")

        @computed_field
        @property
        def twice(self) -> int:
            return 2 * self.n


def test_aliases_and_computed_fields_are_no_matter(install) -> None:
    install("reward.it", f"{MODULE}:Aliased")
    for given, n in (({}, 3), ({"max-count": 4}, 4)):
        config = Config.model_validate({"reward": {"kind": "it", **given}})
        assert config.reward.model_dump()["options"] == {"max-count": n}
        assert make_reward(config).options.n == n
        again = Config.model_validate(config.model_dump(mode="json"))
        assert again == config and make_reward(again).options.n == n
    with pytest.raises(ValueError, match=r"unknown key 'reward\.n' \(kind 'it' has max-count\)"):
        Config.model_validate({"reward": {"kind": "it", "n": 4}})


def test_fresh_values_may_be_given(install) -> None:
    install("reward.it", f"{MODULE}:Fresh")
    config = Config.model_validate({"reward": {"kind": "it", "token": "abc"}})
    assert make_reward(config).options.token == "abc"
