"""A tokenizer of single characters that every model of the zoo shares.

Each id but the special ones is one printable character, so texts keep all ids and can be
compared. It is byte-level BPE without merges, since the library gives some types a tokenizer
class of their own that rebuilds whatever is saved as that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, EOS, BOS = 0, 1, 2
_SPECIAL = ("<pad>", "<end>", "<start>")
_CHARACTERS = [chr(code) for code in range(ord("!"), ord("~"))]
FIRST = len(_SPECIAL)
"""Id of the first ordinary token."""

SIZE = FIRST + len(_CHARACTERS)


def text_of(ids: Sequence[int]) -> str:
    """The text that is tokenized to these ordinary ids."""
    return "".join(_CHARACTERS[i - FIRST] for i in ids)


def save_tokenizer(folder: Path) -> None:
    """Writes the tokenizer into a model's folder."""
    vocabulary = {token: i for i, token in enumerate([*_SPECIAL, *_CHARACTERS])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_SPECIAL[PAD],
        eos_token=_SPECIAL[EOS],
        bos_token=_SPECIAL[BOS],
    ).save_pretrained(folder)
