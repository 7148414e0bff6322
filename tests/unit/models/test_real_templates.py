"""The templates of real families, as TRL ships them, give the tokens of the library."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trl
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from seal_core.engines import ChatSettings
from seal_core.errors import InputError
from seal_core.models.text.tokens import Codec
from tests.chat_models import byte_backend
from tests.unit.models.test_chat import library, said

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
TOKEN = re.compile(r"<[|｜]?[\w/▁]+[|｜]?>|\[/?[A-Z_]+\]")

ENDS = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "deepseek_r1_distill": "<｜end▁of▁sentence｜>",
    "gemma": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
    "glm4moe": "<|user|>",
    "gptoss": "<|return|>",
    "lfm2": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "llama3_1": "<|eot_id|>",
    "llama3_2": "<|eot_id|>",
    "nemotron_3_nano": "<|im_end|>",
    "phi3": "<|end|>",
    "phi3_5": "<|end|>",
    "qwen2_5": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "qwen3_instruct_2507": "<|im_end|>",
}
OPENINGS = {
    "deepseek_r1_distill": "<｜User｜>Q<｜Assistant｜>",
    "gptoss": "<|start|>assistant<|channel|>final<|message|>",
}
"""How a prompt ends where the generation prompt leaves a thought or a header to the model."""


def tokenizer_of(family: str) -> Any:
    path = TEMPLATES / f"{family}.jinja"
    if not path.exists():
        pytest.skip(f"this version of TRL has no {path.name}")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=byte_backend(), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.chat_template = path.read_text()
    names = sorted({*TOKEN.findall(fast.chat_template), "<|user|>", "<|end|>", "<|assistant|>"})
    fast.add_tokens(
        [AddedToken(name, special="think" not in name, normalized=False) for name in names]
    )
    return fast


@pytest.mark.parametrize("family", sorted(ENDS))
def test_prompts_and_rows_are_those_of_the_library(family: str) -> None:
    tokenizer = tokenizer_of(family)
    chat = Codec(tokenizer).chat
    asked, replied = said("user", "What is\n\nin it?"), said("assistant", "Two things.")
    prompt, row = chat.prompt(asked["content"]), chat.row(asked["content"], replied["content"])
    assert tokenizer.convert_ids_to_tokens(row.ids[-1]) == ENDS[family]
    assert row.ids[: row.n_context] == prompt
    whole = library(tokenizer, asked, replied)
    assert row.ids == whole[: len(row.ids)] or (family == "glm4moe" and row.ids[:-1] == whole)
    if family in OPENINGS:
        assert chat.prompt_text("Q").endswith(OPENINGS[family])
    else:
        assert prompt == library(tokenizer, asked, add_generation_prompt=True)


@pytest.mark.parametrize("family", ["deepseek_r1_distill", "qwen3", "nemotron_3_nano"])
def test_with_thinking_the_prompt_is_the_generation_prompt(family: str) -> None:
    tokenizer = tokenizer_of(family)
    prompt = Codec(tokenizer, chat=ChatSettings(thinking=True)).chat.prompt("Q")
    options = {"enable_thinking": True, "thinking": True, "add_generation_prompt": True}
    assert prompt == library(tokenizer, said("user", "Q"), **options)


@pytest.mark.parametrize("family", ["idefics3", "llava_next", "smolvlm"])
def test_templates_for_pictures_alone_are_refused(family: str) -> None:
    with pytest.raises(InputError, match=r"the chat template of .* cannot be used"):
        Codec(tokenizer_of(family)).chat.prompt("Q")
