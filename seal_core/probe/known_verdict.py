"""The verdict on a model: the remembered one, or a new one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seal_core.models.loading import LoadedModel, device_name
from seal_core.probe.model_check import check_model
from seal_core.probe.verdict import Verdict
from seal_core.probe.verdict_files import (
    VerdictFiles,
    circumstances,
    processor,
    recall,
    remember,
    write_verdict,
)

_NO_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED")


def known_verdict(
    loaded: LoadedModel, targets: Sequence[str], files: VerdictFiles, fill: bool = False
) -> Verdict:
    """The remembered verdict on the model where there is one, else a new one; recorded.

    Raises:
        InputError: A target names no layer of the model.
    """
    where = {
        **circumstances(
            model_digest=files.model_digest,
            targets=targets,
            fill=fill,
            dtype=str(loaded.model.dtype).removeprefix("torch."),
            processor=processor() if loaded.device.type == "cpu" else "",
        ),
        "device": device_name(loaded.device),
        "attention": str(loaded.model.config._attn_implementation),
    }
    remembers = bool(files.model_digest and files.folder)
    verdict = recall(Path(files.folder), where) if remembers else None
    if verdict is None:
        verdict = check_model(loaded, targets, fill)
        # On a CPU, memory that ran out has no error of its own.
        if remembers and not _lacked_memory(verdict):
            remember(Path(files.folder), loaded.name, where, verdict)
    if files.record:
        write_verdict(Path(files.record), loaded.name, where, verdict)
    return verdict


def _lacked_memory(verdict: Verdict) -> bool:
    faults = [verdict.refused, *(found.fault for found in verdict.comparisons)]
    return any(word in (fault or "") for fault in faults for word in _NO_MEMORY)
