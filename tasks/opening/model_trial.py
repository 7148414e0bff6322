"""Tries a run's model before the run takes its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from seal_core.errors import EngineError, InputError
from seal_core.probe.verdict import Verdict
from seal_core.probe.verdict_files import circumstances, processor, remembered_verdicts
from storage.runs.status import verdict_folder, verdict_path
from storage.store import Store
from tasks.context import RunContext
from tasks.opening.preflight import Preflight
from tasks.running.gpu import hold_gpu, uses_gpu
from tasks.stages.lora import all_targets


def try_model(context: RunContext, checked: Preflight, load_and_try: Callable[[], object]) -> None:
    """Passes if the model can be used; loads it only if that is not known.

    An engine that dies over it is no verdict: the first stage tries again, as often as
    `execution.shard_retries` allows.

    Raises:
        InputError: the model is refused, or lacks a target.
    """
    record = Path(verdict_path(context.store, checked.name))
    record.unlink(missing_ok=True)  # Of an earlier try under this name.
    known = remembered_verdict(checked, context.store)
    if known is not None and known.refused is None:
        return
    hold_gpu(context)
    context.progress.stage("model", f"trying {checked.config.model.path}", 1)
    try:
        load_and_try()
    except InputError:
        record.unlink(missing_ok=True)
        raise
    except EngineError as error:
        first, _, _ = str(error).partition("\n")
        context.progress.note(f"the model could not be tried before the first stage: {first}")


def remembered_verdict(checked: Preflight, store: Store) -> Verdict | None:
    """The last verdict on the run's model that holds on this machine; None if there is none."""
    wanted = circumstances(
        model_digest=checked.base_digest,
        targets=all_targets(checked.config),
        fill=checked.config.finetune.published,
        dtype=checked.precision,
        processor="" if uses_gpu(checked.config) else processor(),
    )
    found = remembered_verdicts(verdict_folder(store.state_root), wanted)
    return found[0][1] if found else None
