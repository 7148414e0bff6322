"""Tells what a run with a model will use of it besides its weights: template and settings."""

from __future__ import annotations

from fnmatch import fnmatchcase

from transformers import GenerationConfig

from seal_core.errors import InputError
from seal_core.models.loading import LoadedModel, device_name
from seal_core.probe.verdict import ModelReport, Verdict

_NO_MATTER = (
    # Used by a run as well, or notes of the library's own.
    *("eos_token_id", "pad_token_id", "bos_token_id", "transformers_version", "_*"),
    # What is returned beside the text, and how fast it is made.
    *("output_*", "return_dict_in_generate", "*cache*", "*compile*", "low_memory"),
    *("prefill_chunk_size", "continuous_batching_config", "*assistant*", "*_lookbehind"),
)
"""Patterns of settings that change neither a text nor the choice of one."""


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
        if not any(fnmatchcase(name, pattern) for pattern in _NO_MATTER)
        and (value or None) != (usual.get(name) or None)
    )
