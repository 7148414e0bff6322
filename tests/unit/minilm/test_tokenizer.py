"""The tokenizer: whole words inside the world, exact bytes outside of it."""

from __future__ import annotations

import random

import pytest
from transformers import AutoTokenizer

from seal_core.minilm.names import VALUES
from seal_core.minilm.prompts import ANSWER_PROMPT, CONTEXT_ANSWER_PROMPT, EDIT_PROMPT
from seal_core.minilm.tokenizer import build_tokenizer, save_tokenizer
from seal_core.minilm.world import make_passages

TOKENIZER = build_tokenizer()
STRANGE = [
    "",
    " ",
    "two  spaces , and a space before a comma",
    "lines\n\n\r\n\tand tabs \n",
    "OTTERS Otters otters oTTers",
    "naïve Ünïcödé 東京 🦦👩‍👩‍👧",
    "it's n't 're 3.14 <b>&amp;</b>",
    "\x00\x07\u200b\ufeff",
    "a" * 300,
]


def _random_text(seed: int) -> str:
    rng = random.Random(seed)
    points = [rng.choice([rng.randrange(128), rng.randrange(0xD7FF)]) for _ in range(40)]
    return "".join(map(chr, points))


@pytest.mark.parametrize("text", STRANGE + [_random_text(seed) for seed in range(100)])
def test_any_text_comes_back_exactly(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_the_worlds_text_comes_back_and_is_short():
    for passage in make_passages("heldout", 200):
        tokens = TOKENIZER.encode(passage.context)
        assert len(tokens) <= 80
        assert TOKENIZER.decode(tokens) == passage.context


def test_every_value_is_one_token_a_word():
    for value in (v for values in VALUES.values() for v in values):
        assert len(TOKENIZER.encode(f" {value}")) == len(value.split())


def test_a_prompt_and_its_completion_tokenise_apart():
    passage = make_passages("train", 1)[0]
    question, answer = passage.questions[0].question, passage.questions[0].answers[0]
    for template in (ANSWER_PROMPT, CONTEXT_ANSWER_PROMPT):
        prompt = template.format(title=passage.title, context=passage.context, question=question)
        assert TOKENIZER.encode(f"{prompt} {answer}") == (
            TOKENIZER.encode(prompt) + TOKENIZER.encode(f" {answer}")
        )
    edit = EDIT_PROMPT.format(title=passage.title, context=passage.context)
    assert TOKENIZER.encode(edit + "Q: x") == TOKENIZER.encode(edit) + TOKENIZER.encode("Q: x")


def test_a_saved_tokenizer_is_the_same(tmp_path):
    save_tokenizer(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "Q: Where was Néo born? A: \n\n  ok"
    assert loaded.encode(text) == TOKENIZER.encode(text)
    assert loaded.decode(loaded.encode(text)) == text
    assert None not in (loaded.bos_token, loaded.eos_token, loaded.pad_token)


def test_no_special_token_is_added():
    assert TOKENIZER.encode("Q") == TOKENIZER.encode("Q", add_special_tokens=False)
