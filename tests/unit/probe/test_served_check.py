"""An engine that answers with other weights, another prompt or without an adapter is found out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from seal_core.errors import EngineError
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.minilm import weights_path
from seal_core.models.loading import load_model
from seal_core.probe.served_check import check_served, references
from tests.chat_models import save_chat_model
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


def faults(
    generator, path: str, folder: Path, dtype: str = "float32", chats: bool = False
) -> dict[str, str]:
    expected = references(load_model(path, dtype=dtype), TARGETS, folder, chats)
    plain = PlainGenerator(load_model(path, dtype=dtype))
    found = check_served(generator, expected, plain.score)
    return {one.name: one.fault for one in found if one.fault is not None}


def test_a_sound_engine_passes(model_path, tmp_path) -> None:
    for dtype in ("float32", "bfloat16"):
        generator = TransformersGenerator(load_model(model_path, dtype=dtype))
        assert faults(generator, model_path, tmp_path / dtype, dtype) == {}


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
    assert "nats per token apart, where rounding" in found["log-probabilities of given texts"]


def test_an_engine_that_knows_no_conversations_is_found_out(tmp_path) -> None:
    path = save_chat_model(tmp_path / "model", "dated")
    sound = faults(Changed(path, lambda r: r), path, tmp_path / "sound", chats=True)
    plain = Changed(path, lambda r: replace(r, chat=False))
    found = faults(plain, path, tmp_path / "plain", chats=True)
    assert found.keys() - sound.keys() == {"log-probabilities in conversations"}


def test_other_weights_are_found_out(model_path, tmp_path) -> None:
    other = TransformersGenerator(load_model(str(save_qwen2(tmp_path / "other", seed=1))))
    assert "log-probabilities of given texts" in faults(other, model_path, tmp_path)


class LeftOut(Changed):
    """An engine in half precision that leaves adapters out of one kind of layer."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(path, lambda request: request)
        self._generator = TransformersGenerator(load_model(path, dtype="bfloat16"))
        read = self._generator._bank._read

        def forgetful(paths):
            stack = read(paths)
            down = {n: t for n, t in stack.down.items() if not n.endswith(kind)}
            return replace(stack, down=down, up={n: stack.up[n] for n in down})

        self._generator._bank._read = forgetful


@pytest.mark.parametrize("kind", ["q_proj", "k_proj", "up_proj"])
def test_an_engine_that_leaves_out_one_kind_of_layer_is_found_out(tmp_path, kind) -> None:
    path = str(weights_path())
    found = faults(LeftOut(path, kind), path, tmp_path, "bfloat16")
    assert f"log-probabilities with an adapter on {kind} alone" in found


class Silent(Changed):
    """An engine whose answers all end at once."""

    def generate(self, requests, progress=None):
        return [replace(a, finish_reason="stop") for a in super().generate(requests)]


def test_an_engine_of_whose_answers_none_can_be_compared_is_refused(model_path, tmp_path) -> None:
    found = faults(Silent(model_path, lambda r: r), model_path, tmp_path)
    assert found == {
        "log-probabilities of its own answers": "none could be scored: each ends at once, or its "
        "text is other tokens"
    }


def test_an_engine_that_fails_has_no_verdict(model_path, tmp_path) -> None:
    broken = Changed(model_path, lambda r: replace(r, adapters=("/no/such/adapter",)))
    with pytest.raises(EngineError, match="a text could not be scored"):
        faults(broken, model_path, tmp_path)
