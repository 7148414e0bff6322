"""Loads a model's tokenizer, safely and without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from seal_core.engines import PLAIN_CHAT, ChatSettings
from seal_core.errors import InputError, in_one_line
from seal_core.models.context import longest_row
from seal_core.models.tokens import Codec


def load_tokenizer(path: str, revision: str | None = None) -> Any:
    """Loads from a local folder or a hub id; never remote code.

    Raises:
        InputError: Files are missing or cannot be loaded.
    """
    try:
        return AutoTokenizer.from_pretrained(
            path, revision=revision or "main", trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"cannot load the tokenizer of {path}: {in_one_line(error)}") from error


def load_codec(path: str, revision: str | None = None, chat: ChatSettings = PLAIN_CHAT) -> Codec:
    """As `load_tokenizer`, in the form that engines use."""
    return Codec(load_tokenizer(path, revision), model_name(path), chat)


def saved_end_tokens(
    tokenizer: Any, path: str, revision: str | None
) -> tuple[int, tuple[int, ...]]:
    """As `end_tokens`, of a model whose weights are not loaded.

    Raises:
        InputError: Its config cannot be loaded, or there is no end token.
    """
    try:
        generation = GenerationConfig.from_pretrained(path, revision=revision or "main")
    except (OSError, ValueError):
        generation = GenerationConfig.from_model_config(_config(path, revision))
    return end_tokens(tokenizer, generation, path)


def vocabulary_size(path: str, revision: str | None) -> int:
    """Tokens that a model knows, by its config.

    Raises:
        InputError: The config cannot be loaded.
    """
    return _config(path, revision).get_text_config().vocab_size


def saved_context(path: str, revision: str | None) -> int | None:
    """As `longest_row`, of a model whose weights are not loaded.

    Raises:
        InputError: The config cannot be loaded.
    """
    return longest_row(_config(path, revision).get_text_config())


def right_below(path: str, revision: str | None) -> int | None:
    """Longest row of a model that is right for shorter ones only; None for others.

    Raises:
        InputError: The config cannot be loaded.
    """
    config = _config(path, revision).get_text_config()
    longest = longest_row(config)
    return longest if longest != getattr(config, "max_position_embeddings", longest) else None


def _config(path: str, revision: str | None) -> Any:
    try:
        return AutoConfig.from_pretrained(
            path, revision=revision or "main", trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot load the config of {path}: {in_one_line(error)}") from error


def end_tokens(tokenizer: Any, generation: Any, path: str) -> tuple[int, tuple[int, ...]]:
    """The token that ends a text, and all that end a completion, itself among them.

    Args:
        generation: The model's generation config, which may add some to the tokenizer's.

    Raises:
        InputError: Neither names one.
    """
    listed = getattr(generation, "eos_token_id", None)
    ids = [] if listed is None else [listed] if isinstance(listed, int) else list(listed)
    eos_id = tokenizer.eos_token_id
    if eos_id is None:
        if not ids:
            raise InputError(f"the tokenizer of {path} has no end token: set its eos_token")
        eos_id = ids[0]
    return eos_id, tuple(sorted({eos_id, *ids}))


def model_name(path: str) -> str:
    """Hub id or folder name, without any machine's path."""
    return Path(path).name if Path(path).is_dir() else path
