"""A word-level tokenizer that every model of the zoo shares: each id is a word of its own."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, EOS, BOS = 0, 1, 2
SIZE = 128
_SPECIAL = ("<pad>", "<end>", "<start>")


def words() -> list[str]:
    """All ordinary words, by id from `len(_SPECIAL)` on."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    pairs = [a + b for a in syllables for b in syllables if a < b]
    return [*syllables, *pairs][: SIZE - len(_SPECIAL)]


def save_tokenizer(folder: Path) -> None:
    """Writes the tokenizer into a model's folder. Texts keep every id, so they can be compared."""
    vocabulary = {word: i for i, word in enumerate([*_SPECIAL, *words()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_SPECIAL[PAD]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=_SPECIAL[PAD], eos_token=_SPECIAL[EOS]
    ).save_pretrained(folder)
