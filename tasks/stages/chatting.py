"""What a run's conversations depend on, and a check, before any work, that they can be had."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from seal_core.config import Config
from seal_core.engines import ChatSettings
from seal_core.process.process import EngineProcess
from seal_core.process.spec import EngineSpec

_SECONDS = 600.0


def chat_settings(config: Config) -> ChatSettings:
    """`[chat]` as engines take it."""
    return ChatSettings(**config.chat.model_dump(mode="json"))


def domain_identity(config: Config) -> dict[str, Any]:
    """The settings of a stage that asks the domain for prompts, rows or grades.

    Another package's domain with its options and version; and what the chat template is told, if
    there are conversations.
    """
    plain: dict[str, Any] = {}
    if config.domain.kind != "knowledge":
        plain["domain"] = config.domain.model_dump(mode="json")
    if config.uses_chat:
        plain["chat"] = config.chat.model_dump(mode="json")
    return plain


def check_chat(config: Config, model_path: str) -> None:
    """Passes if the run has no conversations, or the model's chat template can be used for them.

    A process of its own looks, since tokenizers bring torch along.

    Raises:
        InputError: The template cannot be used, for the reason that is named.
    """
    if not config.uses_chat:
        return
    spec = EngineSpec(
        model_path=model_path,
        device="cpu",
        chat=chat_settings(config),
    )
    with TemporaryDirectory() as folder:
        process = EngineProcess(spec, Path(folder) / "chat.log")
        try:
            process.call("check_chat", {}, _SECONDS)
        finally:
            process.close()
