"""Build the tokenizer: the world's words are whole tokens, any other text falls back to bytes."""

from __future__ import annotations

import re
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from .names import FEMALE, LAST, MALE, VALUES
from .prompts import ANSWER_PROMPT, EDIT_PROMPT
from .relations import RELATIONS
from .world import FILLERS, NAMING

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
_SPECIALS = (PAD, BOS, EOS)
_PIECE = re.compile(r" ?[A-Za-z]+| ?[^\sA-Za-z]+")


def _sentences() -> list[str]:
    """Every template of the world, with its slots removed."""
    texts = [EDIT_PROMPT, ANSWER_PROMPT, "Record", *FILLERS, *NAMING, "He She. he she"]
    for r in RELATIONS:
        texts += [*r.passage, *r.questions, *r.facts, r.pronoun, *r.reversed, *r.vague]
    return [re.sub(r"\{\w+\}", "", text) for text in texts]


def _words() -> list[str]:
    """Words with the space in front that they have in running text, in a fixed order."""
    pieces = {p for text in _sentences() for p in _PIECE.findall(text)}
    pieces |= {" " + p for p in pieces if p.isalpha()}
    names = [*MALE, *FEMALE, *LAST, *(v for values in VALUES.values() for v in values)]
    pieces |= {" " + word for name in names for word in name.split()}
    return sorted(piece for piece in pieces if piece.strip() and len(piece) > 1)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Make the tokenizer from nothing; it adds no special token to a text by itself."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [word.replace(" ", "Ġ") for word in _words()]
    vocab = {token: i for i, token in enumerate([*_SPECIALS, *alphabet, *words])}
    # Without merges and with `ignore_merges`, a piece is either a whole token or its bytes.
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        model_max_length=1024,
        # Tidying would lose double spaces and spaces before punctuation.
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Build the tokenizer and save it as `AutoTokenizer.from_pretrained(folder)` loads it."""
    tokenizer = build_tokenizer()
    tokenizer.save_pretrained(folder)
    return tokenizer


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """Number of one token, as an integer."""
    number = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(number, int)
    return number
