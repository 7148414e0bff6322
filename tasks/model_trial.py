"""Tries a run's model before the run takes its name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from seal_core.errors import EngineError
from seal_core.probe.verdict import Verdict
from seal_core.probe.verdict_files import remembered_verdicts
from storage.status import verdict_folder
from storage.store import Store
from tasks.context import RunContext
from tasks.gpu import hold_gpu
from tasks.lora import all_targets
from tasks.preflight import Preflight


def try_model(context: RunContext, checked: Preflight, load_and_try: Callable[[], object]) -> None:
    """Passes if the model can be used; loads it only if that is not known.

    An engine that dies over it is no verdict: the first stage tries again, as often as
    `execution.shard_retries` allows.

    Raises:
        InputError: the model is refused, or lacks a target.
    """
    known = remembered_verdict(checked, context.store)
    if known is not None and known.refused is None:
        return
    hold_gpu(context)
    with suppress(EngineError):
        load_and_try()


def remembered_verdict(checked: Preflight, store: Store) -> Verdict | None:
    """The last verdict on the run's model that this machine remembers; None if there is none."""
    if checked.files is None:
        return None
    found = remembered_verdicts(
        verdict_folder(store.state_root),
        model=checked.files.digest,
        targets=list(all_targets(checked.config)),
        dtype=checked.precision,
        **{"filled rows": checked.config.finetune.published},
    )
    return found[0][1] if found else None
