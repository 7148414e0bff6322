"""Chat answers end where the template ends a turn, in every engine.

1. The end of a turn stops a chat answer, and no other one; it is not part of the text.
2. All engines send the same tokens.
3. A question with the text of a special token is answered; one that cannot be read fails alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from seal_core.engines import GenerateRequest, ScoreRequest
from seal_core.errors import InputError
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.request_rows import decode_row
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.generation.vllm.requests import Texts
from seal_core.models.loading import LoadedModel, load_model
from tests.chat_templates import TEMPLATES, save_chat_model

CHAT = GenerateRequest("c", "Hi?", max_tokens=8, chat=True)
PLAIN = GenerateRequest("p", "Hi?", max_tokens=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_chat_model(tmp_path_factory.mktemp("chat") / "model", TEMPLATES["turns"])


@pytest.fixture
def ending(folder: Path) -> LoadedModel:
    """A model whose every token is the end of a turn."""
    loaded = load_model(str(folder))
    head = loaded.model.get_output_embeddings()
    ahead = head.weight.new_zeros(head.weight.shape[0])
    ahead[loaded.chat.end_id] = 1e4
    head.register_forward_hook(lambda _module, _inputs, logits: logits + ahead)
    return loaded


@pytest.mark.parametrize("engine", [TransformersGenerator, PlainGenerator])
def test_the_end_of_a_turn_ends_a_chat_answer_alone(ending: LoadedModel, engine) -> None:
    """1"""
    chat, plain = engine(ending).generate([CHAT, PLAIN])
    assert (chat.finish_reason, chat.n_tokens, chat.text) == ("stop", 1, "")
    assert (plain.finish_reason, plain.n_tokens) == ("length", 8)


def test_the_same_tokens_go_to_every_engine(folder: Path) -> None:
    """1, 2"""
    loaded, texts = load_model(str(folder)), Texts(str(folder))
    end_id = loaded.chat.end_id
    for request in (CHAT, PLAIN, GenerateRequest("s", "What is <|im_end|>?", chat=True)):
        row, written = decode_row(loaded, 0, request), texts.completion(request, 4096)
        assert written.body["prompt"] == row.prompt
        assert written.body["stop_token_ids"] == sorted(row.stops)
        assert (end_id in row.stops) == request.chat
    answer = {
        "choices": [
            {
                "finish_reason": "stop",
                "token_ids": [72, 72, end_id],
                "logprobs": {"token_logprobs": [-1.0, -1.0, -1.0]},
            }
        ]
    }
    written = texts.completion(CHAT, 4096)
    found = texts.generation(CHAT, written, answer)
    assert found.text == loaded.tokenizer.decode([72, 72]) and found.n_tokens == 3


@pytest.mark.parametrize("engine", [TransformersGenerator, PlainGenerator])
def test_a_token_beyond_the_model_fails_alone(tmp_path: Path, engine) -> None:
    """3: the tokenizer knows tokens that the model has no embedding for."""
    folder = save_chat_model(tmp_path / "model", TEMPLATES["turns"], vocabulary=257)
    generator, texts = engine(load_model(str(folder))), Texts(str(folder))
    chat, plain = generator.generate([CHAT, PLAIN])
    assert "beyond the model's 257 tokens" in (chat.error or "") and plain.error is None
    scores = [ScoreRequest("c", "Hi?", " yes", chat=True), ScoreRequest("p", "Hi?", " yes")]
    chat_score, plain_score = generator.score(scores)
    assert "beyond the model's" in (chat_score.error or "") and plain_score.error is None
    for write in (lambda: texts.completion(CHAT, 99), lambda: texts.scoring(scores[0], 99)):
        with pytest.raises(InputError, match="beyond the model's 257 tokens"):
            write()
