"""An engine that answers with other weights, another prompt or without an adapter is found out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from seal_core.errors import EngineError
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import load_model
from seal_core.probe.served_check import check_served, references
from tests.models import save_qwen2

TARGETS = ("all-linear",)


class Changed:
    """An engine that is asked something else than it should be."""

    def __init__(self, path: str, change) -> None:
        self._generator, self._change = TransformersGenerator(load_model(path)), change

    def generate(self, requests, progress=None):
        return self._generator.generate([self._change(r) for r in requests])

    def score(self, requests, progress=None):
        return self._generator.score([self._change(r) for r in requests])

    def close(self) -> None:
        self._generator.close()


def faults(generator, path: str, folder: Path) -> list[str | None]:
    expected = references(load_model(path), TARGETS, folder)
    plain = PlainGenerator(load_model(path))
    return [found.fault for found in check_served(generator, expected, plain.score)]


def test_a_sound_engine_passes(model_path, tmp_path) -> None:
    generator = TransformersGenerator(load_model(model_path))
    assert faults(generator, model_path, tmp_path) == [None, None]


@pytest.mark.parametrize(
    "change",
    [
        lambda r: replace(r, adapters=()),
        lambda r: replace(r, adapters=r.adapters[:1]),
        lambda r: replace(r, prompt=r.prompt + " "),
    ],
    ids=["no adapters", "one adapter of two", "another prompt"],
)
def test_an_engine_that_does_something_else_is_found_out(model_path, tmp_path, change) -> None:
    found = faults(Changed(model_path, change), model_path, tmp_path)
    assert found[0] is not None and "where rounding explains 0.001" in found[0]


def test_other_weights_are_found_out(model_path, tmp_path) -> None:
    other = TransformersGenerator(load_model(str(save_qwen2(tmp_path / "other", seed=1))))
    assert faults(other, model_path, tmp_path)[0] is not None


def test_an_engine_that_fails_has_no_verdict(model_path, tmp_path) -> None:
    broken = Changed(model_path, lambda r: replace(r, adapters=("/no/such/adapter",)))
    with pytest.raises(EngineError, match="a text could not be scored"):
        faults(broken, model_path, tmp_path)
