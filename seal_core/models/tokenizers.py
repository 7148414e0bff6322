"""Loads a model's tokenizer, and its chat template, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from seal_core.engines import ChatOptions
from seal_core.errors import InputError
from seal_core.models.chat import Chat


def load_tokenizer(path: str, revision: str | None = None) -> Any:
    """The tokenizer of a local folder or a hub id; never remote code.

    Raises:
        InputError: It cannot be loaded.
    """
    try:
        return AutoTokenizer.from_pretrained(
            path, revision=revision or "main", trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"cannot load the tokenizer of {path}: {reason}") from error


def load_chat(path: str, revision: str | None, options: ChatOptions) -> Chat:
    """The chat template of a model, by its tokenizer alone.

    Raises:
        InputError: The tokenizer cannot be loaded.
    """
    return Chat(load_tokenizer(path, revision), options, model_name(path))


def check_chat(path: str, revision: str | None, options: ChatOptions) -> None:
    """Passes if a model can be asked and trained by its chat template.

    Raises:
        InputError: It cannot; says why.
    """
    load_chat(path, revision, options).check()


def model_name(path: str) -> str:
    """Hub id or folder name, without any machine's path."""
    return Path(path).name if Path(path).expanduser().is_dir() else path
