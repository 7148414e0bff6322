"""Engines and trainers of other packages: chosen by kind, in no cache key, and held to their word.

1. They are named, checked and refused as other kinds are, and change no identity.
2. An engine says its library's version and its share of a GPU before a run.
3. What is no answer to what was asked ends the stage with its reason.
4. A trainer is held to PEFT before its first adapter counts.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flows.loading import valid_config
from seal_core.config import Config
from seal_core.engines import (
    GenerateRequest,
    Generation,
    LoraSettings,
    Scored,
    ScoreRequest,
    TrainJob,
)
from seal_core.errors import InputError, StageError
from seal_core.kinds.chosen import make_engine
from seal_core.process.host import Engines
from seal_core.process.spec import EngineSpec
from seal_core.section import Section
from seal_core.training.peft_trainer import PeftTrainer
from seal_core.types import TrainRow
from tasks.opening.serving import check_serving, model_in_use, server_share
from tests.foreign import install

__all__ = ["install"]
MODULE = "tests.unit.test_foreign_engines"
ASKED = [GenerateRequest("a", "p", max_tokens=4, stop=("\n",)), GenerateRequest("b", "p")]
SOUND = [Generation("a", "yes", 1, 2, -0.5, "stop"), Generation("b", "no", 1, 1, -0.1, "stop")]

LOST = Generation("a", None, 1, 0, None, "", "out of memory")


class Fixed:
    """An engine whose answers are known."""

    answers: Any = SOUND
    scores: Any = (Scored("s", -1.0, 2),)
    version: Any = "7.1"
    share: Any = 0.25

    class Options(Section):
        level: int = 1

    def __init__(self, options: Any) -> None:
        self.options = options

    def check(self, model: Any) -> Any:
        return self.version

    def memory_share(self, trainers: str | None) -> Any:
        return self.share

    def open(self, model: Any, log_dir: Path, timeout: float) -> Any:
        return self

    def generate(self, requests: Any, progress: Any = None) -> Any:
        return self.answers

    def score(self, requests: Any, progress: Any = None) -> Any:
        return self.scores

    def close(self) -> None: ...


class Nameless(Fixed):
    version = None


class Greedy(Fixed):
    share = 1.5


class Absent(Fixed):
    def check(self, model: Any) -> Any:
        raise InputError("libfixed is not installed: pip install libfixed")


class Broken(Fixed):
    def check(self, model: Any) -> Any:
        raise KeyError("libfixed")


def config(**engine: Any) -> Config:
    return Config.model_validate({"engine": {"kind": "it", **engine}})


def generator(kind: str, install: Any) -> Any:
    install("engine.it", f"{MODULE}:{kind}")
    engine = make_engine(config())
    assert engine is not None
    return engine.open(model_in_use(config(), "/model", "float32"), Path(), 1.0)


def test_they_are_chosen_by_kind_and_change_no_identity(install) -> None:
    """1"""
    install("engine.it", f"{MODULE}:Fixed")
    install("trainer.mine", f"{MODULE}:Wrong")
    chosen = Config.model_validate({"engine": {"kind": "it", "level": 3}})
    assert chosen.engine.model_dump()["options"] == {"level": 3}
    both = Config.model_validate({"engine": {"kind": "it"}, "trainer": {"kind": "mine"}})
    assert both.identity() == chosen.identity() == Config().identity()
    with pytest.raises(InputError, match=r"engine\.level: input should be a valid integer"):
        valid_config({"engine": {"kind": "it", "level": "high"}}, "file")
    with pytest.raises(InputError, match=r"engine\.kind = 'vlm' is not known: use 'vllm'"):
        valid_config({"engine": {"kind": "vlm"}}, "file")
    with pytest.raises(InputError, match=r"trainer\.kind = 'pefft' is not known: use 'peft'"):
        valid_config({"trainer": {"kind": "pefft"}}, "file")
    with pytest.raises(InputError, match=r"file: unknown key 'trainer\.rank': did you mean"):
        valid_config({"trainer": {"rank": 3}}, "file")


def test_the_trainers_old_name_is_told() -> None:
    """1"""
    with pytest.raises(ValidationError, match=r"execution\.trainer is called trainer\.kind now"):
        Config.model_validate({"execution": {"trainer": "peft"}})


def test_an_engine_is_checked_before_a_run(install) -> None:
    """2"""
    install("engine.it", f"{MODULE}:Fixed")
    assert check_serving(config(), "/model", "float32") == "7.1"
    assert server_share(config()) == 0.25


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Nameless", r"'it' of extra==2\.0: check gives None: use the library's version"),
        ("Greedy", r"'it' of extra==2\.0: memory_share is 1\.5"),
        ("Absent", r"^libfixed is not installed: pip install libfixed$"),
        ("Broken", r"'it' of extra==2\.0 fails in 'check' \(KeyError: 'libfixed'\)"),
    ],
)
def test_what_an_engine_lacks_is_told_before_a_run(install, kind, words) -> None:
    """2"""
    install("engine.it", f"{MODULE}:{kind}")
    with pytest.raises(InputError, match=words):
        check_serving(config(), "/model", "float32")


def test_sound_answers_pass(install) -> None:
    """3"""
    own = generator("Fixed", install)
    assert own.generate(ASKED) == SOUND
    assert own.score([ScoreRequest("s", "p", "c")]) == [Scored("s", -1.0, 2)]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (None, "one Generation per request"),
        (SOUND[:1], "one Generation per request"),
        ([*SOUND, None], "one Generation per request"),
        (SOUND[::-1], "one Generation per request"),
        ([replace(SOUND[0], text=None), SOUND[1]], "asked for a, gives the text None and"),
        ([replace(SOUND[0], error="lost", logprob=None), SOUND[1]], "the error 'lost': use one"),
        (
            [replace(SOUND[0], logprob=None), SOUND[1]],
            "asked for a, gives the log-probability None",
        ),
        ([replace(SOUND[0], logprob="-1"), SOUND[1]], "gives the log-probability '-1'"),
        ([replace(SOUND[0], logprob=5.0), SOUND[1]], "5.0: none is above 0"),
        ([replace(SOUND[0], n_tokens=None), SOUND[1]], "gives None tokens: use a whole number"),
        ([replace(SOUND[0], n_tokens=1.5), SOUND[1]], "gives 1.5 tokens"),
        ([replace(SOUND[0], text=b"yes"), SOUND[1]], "gives b'yes' for text"),
        ([replace(SOUND[0], text="\ud800"), SOUND[1]], "use Unicode text"),
        (
            [replace(SOUND[0], text=None, logprob=None, error=ValueError("x")), SOUND[1]],
            "the error",
        ),
        ([replace(SOUND[0], text=None, logprob=None, error=""), SOUND[1]], "the error ''"),
        ([replace(SOUND[0], logprob=float("nan")), SOUND[1]], "use a finite number or an error"),
        ([replace(SOUND[0], finish_reason="eos"), SOUND[1]], "the finish reason 'eos'"),
        ([replace(SOUND[0], n_tokens=5), SOUND[1]], "gives 5 tokens, where 4 were the most"),
        ([replace(SOUND[0], text="yes\nQ"), SOUND[1]], r"goes on after '\\n'"),
    ],
)
def test_what_is_no_answer_ends_the_stage(install, monkeypatch, answers, words) -> None:
    """3"""
    monkeypatch.setattr(f"{MODULE}.Fixed.answers", answers)
    with pytest.raises(StageError, match=rf"engine\.kind = 'it' of extra==2\.0.*{words}"):
        generator("Fixed", install).generate(ASKED)


def test_a_package_is_asked_by_one_thread_at_a_time(install, monkeypatch) -> None:
    """3. As adapters are put on the one model of the example's engine."""
    inside, most = [], []

    def slow(own: Any, requests: Any, progress: Any = None) -> Any:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return SOUND

    monkeypatch.setattr(f"{MODULE}.Fixed.generate", slow)
    own = generator("Fixed", install)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(own.generate, [ASKED] * 4))
    assert found == [SOUND] * 4 and max(most) == 1


@pytest.mark.parametrize(
    "scores", [(), (Scored("x", -1.0, 2),), (Scored("s", None, 0),), (Scored("s", -1.0, 0),)]
)
def test_what_is_no_score_ends_the_stage(install, monkeypatch, scores) -> None:
    """3"""
    monkeypatch.setattr(f"{MODULE}.Fixed.scores", scores)
    with pytest.raises(
        StageError, match=r"'it' of extra==2\.0 must give one Sc|2\.0, asked for s, "
    ):
        generator("Fixed", install).score([ScoreRequest("s", "p", "c")])


class Right:
    """A trainer over PEFT."""

    def __init__(self, options: Any) -> None: ...

    def open(self, loaded: Any, memory_bytes: int | None) -> Any:
        return PeftTrainer(loaded)


class Wrong(Right):
    """One that trains with another rate than it is told."""

    def open(self, loaded: Any, memory_bytes: int | None) -> Any:
        plain = PeftTrainer(loaded)
        inner = plain.train

        def train(jobs: Any, out: Any, progress: Any = None) -> Any:
            faster = [replace(j, settings=replace(j.settings, lr=2 * j.settings.lr)) for j in jobs]
            return inner(faster, out, progress)

        plain.train = train
        return plain


class Crashing(Right):
    def open(self, loaded: Any, memory_bytes: int | None) -> Any:
        raise OSError("no licence")


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("Wrong", InputError, r"'it' of extra==2\.0 is .* from PEFT's.*use trainer\.kind ="),
        ("Crashing", StageError, r"'it' of extra==2\.0 fails in 'open' \(OSError: no licence"),
    ],
)
def test_a_trainer_is_held_to_peft(install, model_path, tmp_path, kind, error, words) -> None:
    """4"""
    job = TrainJob("a", (TrainRow("some text"),), LoraSettings(rank=2, epochs=1), seed=1)

    def train(name: str) -> Any:
        install("trainer.it", f"{MODULE}:{name}")
        chosen = Config.model_validate({"trainer": {"kind": "it"}}).trainer
        spec = EngineSpec(model_path, device="cpu", trainer=chosen.model_dump(mode="json"))
        return Engines(spec).train([job], str(tmp_path / name), lambda n: None)

    (sound,) = train("Right")
    assert sound.error is None
    with pytest.raises(error, match=words):
        train(kind)
