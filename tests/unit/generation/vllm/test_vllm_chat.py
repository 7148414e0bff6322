"""vLLM gets the tokens of a conversation, and the token that ends its reply, from here."""

from __future__ import annotations

from pathlib import Path

import pytest

from seal_core.engines import ChatSettings, GenerateRequest, ScoreRequest
from seal_core.errors import InputError
from seal_core.generation.request_rows import decode_row
from seal_core.generation.vllm.requests import Texts
from seal_core.models.loading import load_model
from tests.chat_models import CONTROL, save_chat_model

CONTEXT = 1000
PROMPT = "What is <|eot|> for?"


def test_every_engine_reads_the_same_tokens_and_stops_at_the_same(tmp_path: Path) -> None:
    settings = ChatSettings(date="2025-02-03")
    for kind in CONTROL:
        path = save_chat_model(tmp_path / kind, kind)
        texts, loaded = Texts(path, chat=settings), load_model(path, chat=settings)
        for chat in (True, False):
            request = GenerateRequest("a", PROMPT, chat=chat)
            body = texts.completion(request, CONTEXT).body
            row = decode_row(loaded, 0, request)
            assert body["prompt"] == row.prompt
            assert body["stop_token_ids"] == list(row.ends)
            scoring = texts.scoring(ScoreRequest("a", PROMPT, "Yes </s>", chat=chat), CONTEXT)
            assert scoring.body["prompt"][: len(row.prompt)] == row.prompt


def test_the_token_that_ends_a_reply_is_no_part_of_it(tmp_path: Path) -> None:
    path = save_chat_model(tmp_path, "chatml")
    texts, codec = Texts(path), load_model(path).codec
    request = GenerateRequest("a", "Q", chat=True)
    written = texts.completion(request, CONTEXT)
    ids = codec.literal.encode("Yes<|im_end|>")
    answer = {
        "choices": [
            {
                "token_ids": ids,
                "logprobs": {"token_logprobs": [-0.5] * len(ids)},
                "finish_reason": "stop",
            }
        ]
    }
    result = texts.generation(request, written, answer)
    assert (result.text, result.n_tokens, result.finish_reason) == ("Yes", 4, "stop")


def test_a_thought_without_an_end_is_an_error_of_its_request(tmp_path: Path) -> None:
    path = save_chat_model(tmp_path, "switch")
    texts, codec = Texts(path, chat=ChatSettings(thinking=True)), load_model(path).codec
    request = GenerateRequest("a", "Q", chat=True)
    written = texts.completion(request, CONTEXT)
    ids = codec.literal.encode("<think>\nHm")
    logprobs = {"token_logprobs": [-0.5] * len(ids)}
    answer = {"choices": [{"token_ids": ids, "logprobs": logprobs, "finish_reason": "length"}]}
    result = texts.generation(request, written, answer)
    assert result.text is None and "within its thought" in (result.error or "")


def test_a_token_that_the_model_lacks_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    texts = Texts(save_chat_model(tmp_path / "narrow", "chatml", spare=-1))
    with pytest.raises(InputError, match=r"'<\|im_end\|>'\) is beyond the model's"):
        texts.completion(GenerateRequest("a", "Q", chat=True), CONTEXT)
    with pytest.raises(InputError, match=r"'<\|im_end\|>'\) is beyond the model's"):
        texts.scoring(ScoreRequest("a", "Q", "A", chat=True), CONTEXT)
