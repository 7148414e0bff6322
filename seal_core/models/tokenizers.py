"""Loads a model's tokenizer, safely and without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from seal_core.engines import PLAIN_CHAT, ChatSettings
from seal_core.errors import InputError
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
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"cannot load the tokenizer of {path}: {error}") from error


def load_codec(path: str, revision: str | None = None, chat: ChatSettings = PLAIN_CHAT) -> Codec:
    """As `load_tokenizer`, in the form that engines use."""
    return Codec(load_tokenizer(path, revision), model_name(path), chat)


def model_name(path: str) -> str:
    """Hub id or folder name, without any machine's path."""
    return Path(path).name if Path(path).expanduser().is_dir() else path
