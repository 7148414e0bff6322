"""Says what adapters are trained with, from the configuration; imports no orchestrator."""

from __future__ import annotations

from typing import Any

from seal_core.config import Config, FinetuneSection, LoraSection


def finetune_settings(section: FinetuneSection) -> dict[str, Any]:
    """The LoRA part of `[finetune]`, as the published code has it if that is asked for."""
    lora = lora_settings(section)
    if section.published:
        lora.update(targets=["q_proj", "v_proj"], pad_to_max_length=True)
    return lora


def lora_settings(section: LoraSection) -> dict[str, Any]:
    """The LoRA part of a config section, as plain JSON."""
    return section.model_dump(mode="json", include=set(LoraSection.model_fields))


def all_targets(config: Config) -> tuple[str, ...]:
    """All that the run's adapters are trained on."""
    finetune = finetune_settings(config.finetune)
    return tuple(sorted({*finetune["targets"], *config.update.targets}))
