"""What a run's conversations depend on."""

from __future__ import annotations

from typing import Any

from seal_core.config import Config
from seal_core.engines import ChatSettings


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
