"""Replies end with their turn in every local engine, and a token that a model lacks is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from seal_core.engines import GenerateRequest, Generator, LoraSettings, ScoreRequest, TrainJob
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import load_model
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.peft_trainer import PeftTrainer
from seal_core.training.policy_sft import update_policy
from seal_core.types import TrainRow
from tests.chat_models import save_chat_model

GENERATORS = [TransformersGenerator, PlainGenerator]
TRAINERS = [BatchedTrainer, PeftTrainer]
ROWS = (
    TrainRow("In 1871.", "When?", chat=True),
    TrainRow("A set of </s> and <|eot|>.", "What?", chat=True),
)
SETTINGS = LoraSettings(rank=16, alpha=32.0, lr=1e-2, epochs=40, clip=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_chat_model(tmp_path_factory.mktemp("chat"), "dated")


@pytest.fixture(scope="module")
def open_ended(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model whose reply is ended by the next turn, and whose header lacks a line break."""
    return save_chat_model(tmp_path_factory.mktemp("open_ended"), "glm4")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that lacks the last token of its tokenizer, which ends a turn."""
    return save_chat_model(tmp_path_factory.mktemp("narrow"), "chatml", spare=-1)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_model_trained_on_replies_answers_with_them_and_stops(
    trainer: type, model: str, tmp_path: Path
) -> None:
    job = TrainJob("learnt", ROWS, SETTINGS, seed=1)
    (trained,) = trainer(load_model(model)).train([job], tmp_path)
    assert trained.error is None and trained.path is not None
    assert_learnt([trained.path], model)


def test_so_does_one_whose_turns_end_with_the_next(open_ended: str, tmp_path: Path) -> None:
    job = TrainJob("learnt", ROWS, SETTINGS, seed=1)
    (trained,) = BatchedTrainer(load_model(open_ended)).train([job], tmp_path)
    assert trained.error is None and trained.path is not None
    assert_learnt([trained.path], open_ended, "\n")


def test_so_does_a_policy_that_was_updated_on_replies(model: str, tmp_path: Path) -> None:
    trained = update_policy(load_model(model), ROWS, SETTINGS, 1, tmp_path / "policy")
    assert trained.error is None and trained.path is not None
    assert_learnt([trained.path], model)


def assert_learnt(adapters: list[str], model: str, header: str = "") -> None:
    requests = [
        GenerateRequest(row.text, row.prompt, tuple(adapters), max_tokens=60, chat=True)
        for row in ROWS
    ]
    loaded = load_model(model)
    texts = [header + row.text for row in ROWS]
    n_tokens = [len(loaded.codec.literal.encode_text(text)) + 1 for text in texts]
    for generator in GENERATORS:
        found = generator(load_model(model)).generate(requests)
        assert [one.text for one in found] == texts
        assert [one.finish_reason for one in found] == ["stop", "stop"]
        assert [one.n_tokens for one in found] == n_tokens  # The turn's end, and nothing after it.


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_token_that_the_model_lacks_is_an_error_of_its_request(
    generator: type, narrow: str
) -> None:
    engine: Generator = generator(load_model(narrow))
    asked = [
        GenerateRequest("chat", "Q", chat=True, max_tokens=2),
        GenerateRequest("plain", "Q", max_tokens=2),
    ]
    chat, plain = engine.generate(asked)
    assert chat.error is not None and plain.error is None
    assert "'<|im_end|>') is beyond the model's" in chat.error
    scores = engine.score([ScoreRequest("chat", "Q", "A", chat=True), ScoreRequest("p", "Q", "A")])
    assert "'<|im_end|>') is beyond the model's" in (scores[0].error or "")
    assert scores[1].error is None


@pytest.mark.parametrize("trainer", TRAINERS)
def test_and_an_error_of_its_training(trainer: type, narrow: str, tmp_path: Path) -> None:
    settings = LoraSettings(rank=2, epochs=1)
    jobs = [
        TrainJob("chat", ROWS, settings, seed=1),
        TrainJob("plain", (TrainRow("It ends with <|im_end|>"),), settings, seed=1),
    ]
    chat, plain = trainer(load_model(narrow)).train(jobs, tmp_path)
    assert "'<|im_end|>') is beyond the model's" in (chat.error or "")
    assert plain.error is None
