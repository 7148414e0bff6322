"""Text stays text: what looks like a special token is encoded as the characters it is made of."""

from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, Tokenizer, normalizers, processors
from transformers import PreTrainedTokenizerFast

from seal_core.engines import TrainRow
from seal_core.errors import InputError
from seal_core.models.text.literal import LiteralEncoder
from seal_core.models.text.tokens import Codec, encode_completion, encode_prompt, encode_row
from tests.chat_models import BACKENDS, chat_tokenizer

ORDINARY = [
    "",
    " ",
    "a",
    "In a list:  a, in, in\n\n\n and a <table> of <b>things</b>",
    "é ü 漢字 🙂 \u00a0\u200b <|not a token|> [INST]",
    "  leading and trailing  ",
]


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_ordinary_text_has_the_tokenizers_own_tokens(backend: str, special: bool) -> None:
    tokenizer = chat_tokenizer("chatml", backend)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    literal = LiteralEncoder(tokenizer)
    for text in ORDINARY:
        expected = tokenizer(text, add_special_tokens=special)["input_ids"]
        assert literal.encode_text(text, special) == expected
        # The copy that other text goes through differs in names alone.
        assert literal._copy.encode(text, add_special_tokens=special).ids == expected


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_a_special_token_in_a_text_is_encoded_as_its_characters(backend: str) -> None:
    tokenizer = chat_tokenizer("strict", backend)
    literal = LiteralEncoder(tokenizer)
    assert set(literal.ids) == {"<s>", "</s>", "<unk>", "<turn>", "</turn>"}
    for name in literal.ids:
        text = f"x{name}{name}y"
        assert not set(literal.encode_text(text)) & set(literal.ids.values())
        assert tokenizer.decode(literal.encode_text(text)).strip() == text
    # An added token that no template writes is the tokenizer's way to write the text.
    assert tokenizer.convert_tokens_to_ids("<table>") in literal.encode_text("a <table> </s>")


def test_a_control_token_that_merges_build_is_written_without_them() -> None:
    plain = json.loads(BACKENDS["pieces"]().to_str())
    plain["model"]["merges"].append(["</s", ">"])
    # Nothing but the token itself leads to this one.
    plain["model"]["vocab"]["</s>a"] = len(plain["model"]["vocab"])
    plain["model"]["merges"].append(["</s>", "a"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(plain)), eos_token="</s>", unk_token="<unk>"
    )
    ids = LiteralEncoder(tokenizer).encode_text("x</s>a")
    assert tokenizer.convert_ids_to_tokens(ids) == ["▁", "x", "</s", ">", "a"]


def test_a_text_that_becomes_a_control_token_is_refused() -> None:
    tokenizer = chat_tokenizer("chatml", "unigram")
    # As in SentencePiece's own; the vocabulary holds the token, so that `normalized` is no help.
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    literal = LiteralEncoder(tokenizer)
    wide = "a\uff1c/s\uff1e"
    assert tokenizer(wide)["input_ids"][-1] == tokenizer.eos_token_id
    with pytest.raises(InputError, match=r"reads '</s>' in the text: take it out"):
        literal.encode_text(wide)
    assert tokenizer.unk_token_id in literal.encode_text("\u6f22")


def test_a_control_token_that_is_normalized_is_one_or_is_refused() -> None:
    tokenizer = chat_tokenizer("chatml")
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.add_tokens([AddedToken("<|stop|>", special=True, normalized=True)])
    literal = LiteralEncoder(tokenizer)
    (stop,) = literal.encode("<|stop|>")
    assert stop == literal.ids["<|stop|>"] not in literal.encode_text("a <|stop|>")
    with pytest.raises(InputError, match=r"reads '<\|stop\|>' in the text"):
        literal.encode_text("a <|STOP|>")


def test_a_row_that_looks_ended_gets_an_end_of_its_own() -> None:
    tokenizer = chat_tokenizer("chatml")
    codec, eos = Codec(tokenizer), tokenizer.eos_token_id
    for row in (TrainRow("It ends.</s>"), TrainRow("It ends.</s>", prompt="How? ")):
        ids = encode_row(codec, row, eos, 100).ids
        assert ids.count(eos) == 1 and ids[-1] == eos
        assert tokenizer.decode(ids[:-1]) == row.prompt + row.text


def test_a_tokenizer_that_ends_every_text_does_so_once() -> None:
    tokenizer = chat_tokenizer("chatml")
    eos = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", eos)]
    )
    codec = Codec(tokenizer)
    assert encode_prompt(codec, "Q</s>") == codec.literal.encode_text("Q</s>")
    assert encode_completion(codec, "Q") == tokenizer("Q", add_special_tokens=False)["input_ids"]
    ids = encode_row(codec, TrainRow("It ends.</s>"), eos, 100).ids
    assert ids.count(eos) == 1 and ids[-1] == eos


@pytest.mark.parametrize("text", [" in", "in", " a </s> in", "  two blanks", "\nin", "", " "])
@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_a_text_that_continues_a_prompt_has_no_blank_of_the_tokenizers(backend, text) -> None:
    tokenizer = chat_tokenizer("chatml", backend)
    codec = Codec(tokenizer)
    ids = encode_prompt(codec, "A:\n")
    row = encode_row(codec, TrainRow(text, "A:\n"), tokenizer.eos_token_id, 100).ids
    assert row == (*ids, *encode_completion(codec, text), tokenizer.eos_token_id)
    # Unlike a text of its own, it is what the whole decodes to.
    whole = tokenizer.decode(row[:-1], clean_up_tokenization_spaces=False)
    assert whole.endswith(f"A:\n{text}")
    if "</s>" not in text and not text.startswith(("\n", "  ")):
        assert list(row[:-1]) == tokenizer(f"A:\n{text}")["input_ids"]


def test_text_with_the_encoders_own_marks_is_refused() -> None:
    codec = Codec(chat_tokenizer("chatml"))
    with pytest.raises(InputError, match=r"U\+FDD0, which is no character"):
        encode_prompt(codec, "a\ufdd01\ufdd1")


def test_a_tokenizer_without_a_fast_backend_says_what_it_cannot_do() -> None:
    class Slow:
        chat_template = None
        all_special_tokens: tuple[str, ...] = ("</s>",)
        added_tokens_decoder: dict[int, object] = {}  # noqa: RUF012

        def convert_tokens_to_ids(self, name: str) -> int:
            return 2

        def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
            return {"input_ids": [5]}

    literal = LiteralEncoder(Slow())
    assert literal.encode_text("fine") == [5]
    with pytest.raises(InputError, match=r"special token.*Slow cannot keep it text"):
        literal.encode_text("not fine</s>")
