"""Tells what a run with a model will use of it besides its weights: template and settings."""

from __future__ import annotations

from transformers import GenerationConfig

from seal_core.errors import InputError
from seal_core.models.loading import LoadedModel, device_name
from seal_core.probe.verdict import ModelReport, Verdict

_USED = ("eos_token_id", "pad_token_id", "bos_token_id", "transformers_version")


def model_report(loaded: LoadedModel, verdict: Verdict) -> ModelReport:
    """A verdict with where it holds, whether there can be conversations, and what is not used."""
    return ModelReport(
        verdict,
        dtype=str(loaded.model.dtype).removeprefix("torch."),
        device=device_name(loaded.device),
        chat_fault=_chat_fault(loaded),
        unused=_unused(loaded.model.generation_config),
    )


def _chat_fault(loaded: LoadedModel) -> str | None:
    try:
        loaded.codec.chat.row("a question", "an answer")
    except InputError as error:
        return str(error)
    return None


def _unused(generation: GenerationConfig) -> tuple[str, ...]:
    """Settings by which `generate()` on its own would answer otherwise, as `name = value`."""
    usual = generation._get_default_generation_params()
    return tuple(
        f"{name} = {value!r}"
        for name, value in sorted(generation.to_diff_dict().items())
        if name not in _USED and (name not in usual or value != usual[name])
    )
