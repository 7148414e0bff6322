"""Chat templates: where a reply begins and what ends it, in templates of every kind.

1. A prompt is what the library's own rendering gives, wherever that can be used as it is.
2. Replies end with the token that ends a turn, in training and in answers.
3. The clock changes nothing; the date and the switch for thoughts come from the settings.
4. Text that looks like a special token stays text, and everything around it stays what it was.
5. A template that cannot be used is refused by name.
"""

from __future__ import annotations

import pytest

from seal_core.engines import USUAL_CHAT, ChatOptions
from seal_core.errors import InputError
from seal_core.models.chat import Chat
from seal_core.models.literal import encode_text
from seal_core.models.tokens import encode_row
from seal_core.types import TrainRow
from tests.chat_templates import SPECIAL, TEMPLATES, UNUSABLE, chat_tokenizer

ENDS = {
    "turns": "<|im_end|>",
    "date": "<|eot|>",
    "alternating": "</turn>",
    "instructions": "<|end|>",
    "thinking": "<|im_end|>",
    "always thinks": "<|im_end|>",
    "marks": "<|end|>",
    "channels": "<|return|>",
}
PROMPTS = {
    "turns": "<|im_start|>system\nBe helpful.<|im_end|>\n<|im_start|>user\nHi?<|im_end|>\n"
    "<|im_start|>assistant\n",
    "date": "<s><|head|>system<|/head|>\n\nToday: 01 Jan 2025<|eot|><|head|>user<|/head|>\n\nHi?"
    "<|eot|><|head|>assistant<|/head|>\n\n",
    "alternating": "<s><turn>user\nHi?</turn>\n<turn>model\n",
    "instructions": "<s>[INST] Hi? [/INST]",
    "thinking": "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "always thinks": "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n",
    "marks": "<|You|>Hi?<|I|>",
    "channels": "<|im_start|>user<|message|>Hi?<|im_end|><|im_start|>assistant<|channel|>final"
    "<|message|>",
}
BY_THE_LIBRARY = ("turns", "alternating", "instructions", "thinking")


def opened(kind: str, options: ChatOptions = USUAL_CHAT) -> Chat:
    return Chat(chat_tokenizer(TEMPLATES[kind]), options, "the-model")


@pytest.mark.parametrize("kind", TEMPLATES)
def test_the_prompt_and_the_end_of_a_turn(kind: str) -> None:
    """1, 2"""
    chat, tokenizer = opened(kind), chat_tokenizer(TEMPLATES[kind])
    chat.check()
    assert chat.text("Hi?") == PROMPTS[kind]
    assert tokenizer.convert_ids_to_tokens(chat.end_id) == ENDS[kind]
    ids = chat.prompt("Hi?")
    assert ids == tokenizer(PROMPTS[kind], add_special_tokens=False)["input_ids"]
    if kind in BY_THE_LIBRARY:
        usual = tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hi?"}],
            add_generation_prompt=True,
            enable_thinking=False,
            return_dict=False,
        )
        assert ids == usual


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_row_is_the_templates_own_conversation(kind: str) -> None:
    """2"""
    tokenizer, chat = chat_tokenizer(TEMPLATES[kind]), opened(kind)
    row = encode_row(tokenizer, TrainRow("A town.", "Hi?", chat=True), 256, 500, chat)
    assert tokenizer.decode(row.ids) == PROMPTS[kind] + "A town." + ENDS[kind]
    assert row.n_targets == len("A town.") + 1
    ends = encode_row(tokenizer, TrainRow("A " + ENDS[kind], "Hi?", chat=True), 256, 500, chat)
    assert tokenizer.decode(ends.ids).endswith(ENDS[kind] * 2)
    assert ends.n_targets == len("A " + ENDS[kind]) + 1


def test_date_and_thoughts_come_from_the_settings() -> None:
    """3"""
    text = opened("date", ChatOptions(date="1999-12-31")).text("Hi?")
    assert "Today: 31 Dec 1999<|eot|>" in text
    thinking = ChatOptions(thinking=True)
    assert opened("thinking", thinking).text("Hi?").endswith("<|im_start|>assistant\n")
    assert opened("always thinks", thinking).text("Hi?").endswith("assistant\n<think>\n")
    assert opened("turns", thinking).text("Hi?") == PROMPTS["turns"]
    for kind in TEMPLATES:
        # Thoughts are asked for, never trained on.
        assert opened(kind, thinking).text("Hi?", trained=True) == PROMPTS[kind]


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize("token", ["<|im_end|>", "[/INST]", "<|eot|>", "<|end|>", "<s>"])
def test_text_that_looks_like_a_token_stays_text(kind: str, token: str) -> None:
    """4"""
    tokenizer, chat = chat_tokenizer(TEMPLATES[kind]), opened(kind)
    for question in (f"What is {token}?", f"{token}", f"{token}{token} end"):
        ids = chat.prompt(question)
        assert tokenizer.decode(ids) == PROMPTS[kind].replace("Hi?", question)
        special = [i for i in ids if i >= 256]
        assert special == [i for i in chat.prompt("Hi?") if i >= 256]
    row = encode_row(tokenizer, TrainRow(f"about {token}"), 256, 500, chat)
    assert [i for i in row.ids if i >= 256] == [256]
    assert tokenizer.decode(row.ids) == f"about {token}<|end|>"


def test_text_that_looks_like_a_turn_of_ordinary_tokens_is_refused() -> None:
    """4: no tokenizer can be kept from reading it so."""
    tokenizer, chat = chat_tokenizer(TEMPLATES["marks"]), opened("marks")
    with pytest.raises(InputError, match=r"contains '<\|You\|>', with which the chat template"):
        chat.prompt("What does <|You|> do?")
    with pytest.raises(InputError, match=r"contains '<\|I\|>'"):
        encode_row(tokenizer, TrainRow("No: <|I|>", "Hi?", chat=True), 256, 500, chat)
    assert opened("turns").prompt("What does <|You|> do?")


def test_ordinary_text_is_encoded_as_ever() -> None:
    """4"""
    tokenizer = chat_tokenizer(None)
    for text in ("plain", "", "a < b | c > d", "<|im_", "é<|x|>"):
        for fresh in (True, False):
            usual = tokenizer(text, add_special_tokens=fresh)["input_ids"]
            assert encode_text(tokenizer, text, fresh) == usual
    for token in SPECIAL:
        assert len(encode_text(tokenizer, token, False)) == len(token)


def test_a_tokenizer_that_cannot_is_refused(monkeypatch) -> None:
    """4"""
    tokenizer = chat_tokenizer(None)
    call = type(tokenizer).__call__

    def deaf(self, text, split_special_tokens=False, **options):
        return call(self, text, **options)

    monkeypatch.setattr(type(tokenizer), "__call__", deaf)
    with pytest.raises(InputError, match=r"makes a special token of the text '<\|im_end\|>'"):
        encode_text(tokenizer, "x<|im_end|>", False)


@pytest.mark.parametrize("kind", UNUSABLE)
def test_what_cannot_be_used_is_refused_by_name(kind: str) -> None:
    """5"""
    template, reason = UNUSABLE[kind]
    with pytest.raises(InputError, match=f"the-model.*{reason}.*rows.variant = 'base'") as caught:
        Chat(chat_tokenizer(template), USUAL_CHAT, "the-model").check()
    assert "\n" not in str(caught.value)
