"""Loads a model's tokenizer, safely and without its weights."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from seal_core.engines import PLAIN_CHAT, ChatSettings
from seal_core.errors import InputError
from seal_core.models.files.model_files import model_name
from seal_core.models.files.reading import reading
from seal_core.models.text.context import longest_row
from seal_core.models.text.literal import LiteralEncoder
from seal_core.models.text.tokens import Codec

_LETTERS = " ".join(string.ascii_letters + string.digits)
_FEW_TOKENS = 3
"""An empty vocabulary gives at most a blank and an unknown token."""


def load_tokenizer(path: str) -> Any:
    """Loads from a local folder; never remote code.

    Raises:
        InputError: Files are missing or cannot be loaded, or hold no vocabulary.
    """
    load_config(path)  # The tokenizer would be blamed for its faults.
    with reading("the tokenizer", path, _tokenizer_fix(path)):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        ids = LiteralEncoder(tokenizer).encode_text(_LETTERS)
    if len(set(ids)) < _FEW_TOKENS:
        # The library makes an empty one where it does not find the files that it expects.
        raise InputError(
            f"the tokenizer of {path} ({type(tokenizer).__name__}) cannot tell letters apart: its "
            f"vocabulary was not found; {_tokenizer_fix(path)}"
        )
    return tokenizer


def _tokenizer_fix(path: str) -> str:
    folder = Path(path)
    if folder.is_dir() and not (folder / "tokenizer.json").is_file():
        return (
            "save its tokenizer.json there; without one, SentencePiece files need "
            "`pip install sentencepiece protobuf`, tiktoken files `pip install tiktoken`"
        )
    return "see that tokenizer.json and tokenizer_config.json are whole, or save both again"


def load_codec(path: str, chat: ChatSettings = PLAIN_CHAT) -> Codec:
    """As `load_tokenizer`, in the form that engines use."""
    return Codec(load_tokenizer(path), model_name(path), chat)


def saved_end_tokens(tokenizer: Any, path: str) -> tuple[int, tuple[int, ...]]:
    """As `end_tokens`, of a model whose weights are not loaded.

    Raises:
        InputError: Its config cannot be loaded, or there is no end token.
    """
    generation = load_generation(path)
    return end_tokens(tokenizer, generation, path, vocabulary_size(path))


def load_generation(path: str) -> GenerationConfig:
    """A model's own settings of `generate()`, of which the end tokens are used.

    Raises:
        InputError: They cannot be loaded.
    """
    with reading("the generation_config.json", path, "correct it, or take it out"):
        try:
            return GenerationConfig.from_pretrained(path)
        except OSError:  # Old models have none.
            return GenerationConfig.from_model_config(load_config(path))


def vocabulary_size(path: str) -> int:
    """Tokens that a model knows, by its config.

    Raises:
        InputError: The config cannot be loaded.
    """
    return load_config(path).get_text_config().vocab_size


def saved_context(path: str) -> int | None:
    """As `longest_row`, of a model whose weights are not loaded.

    Raises:
        InputError: The config cannot be loaded.
    """
    return longest_row(load_config(path).get_text_config())


def right_below(path: str) -> int | None:
    """Longest row of a model that is right for shorter ones only; None for others.

    Raises:
        InputError: The config cannot be loaded.
    """
    config = load_config(path).get_text_config()
    longest = longest_row(config)
    return longest if longest != getattr(config, "max_position_embeddings", longest) else None


def load_config(path: str) -> Any:
    """A model's config as the library reads it.

    Raises:
        InputError: It cannot.
    """
    with reading("the config.json", path, "correct it, or save the model again"):
        return AutoConfig.from_pretrained(path, trust_remote_code=False)


def end_tokens(
    tokenizer: Any, generation: Any, path: str, n_tokens: int
) -> tuple[int, tuple[int, ...]]:
    """The token that ends a text, and all that end a completion, itself among them.

    Args:
        generation: The model's generation config, which may add some to the tokenizer's.
        n_tokens: That the model knows.

    Raises:
        InputError: Neither names one, or one is no token of the model.
    """
    listed = getattr(generation, "eos_token_id", None)
    ids = [] if listed is None else listed if isinstance(listed, list) else [listed]
    for token in ids:
        if type(token) is not int or not 0 <= token < n_tokens:
            raise InputError(
                f"{path} has eos_token_id = {listed!r} in its generation_config.json or "
                f"config.json, which is none of the model's {n_tokens} tokens: correct it"
            )
    eos_id = tokenizer.eos_token_id
    if eos_id is None:
        if not ids:
            raise InputError(f"the tokenizer of {path} has no end token: set its eos_token")
        eos_id = ids[0]
    if eos_id >= n_tokens:
        raise InputError(
            f"the tokenizer of {path} ends texts with token {eos_id} ({tokenizer.eos_token!r}), "
            f"beyond the model's {n_tokens} tokens: set its eos_token to one that the model knows"
        )
    return eos_id, tuple(sorted({eos_id, *ids}))
