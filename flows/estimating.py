"""Estimates what a run makes and takes, before it begins: units, disk, memory, time."""

from __future__ import annotations

import math
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flows.seal import restem
from seal_core.errors import InputError
from seal_core.models.files.model_facts import told_shapes
from seal_core.models.model_shapes import has_experts, is_in_block
from seal_core.types import CONTROL_ROUND
from storage.sql.catalog import Catalog
from storage.store import Store
from storage.tables.paths import run_record
from tasks.opening.preflight import Preflight
from tasks.running.amounts import Amounts

Keep = Literal["all", "selected", "none"]
_KEEPS: tuple[Keep, ...] = ("all", "selected", "none")
_BYTES = {"float32": 4, "float64": 8}
_RATES = """
SELECT stage, sum(seconds) / sum(n_units - coalesce(n_reused, 0)) FROM stages
WHERE error IS NULL AND host = $host
    AND (stage <> 'sample' OR n_tokens > 0)  -- Controls and copies are not sampled.
    AND run IN (SELECT run FROM policies WHERE model_digest = $model)
GROUP BY stage HAVING sum(n_units - coalesce(n_reused, 0)) > 0
"""


@dataclass(frozen=True)
class Estimate:
    """What a run makes and takes; bytes are of weights, beside which rows are small.

    Attributes:
        edits, adapters, answers: In the whole run; answers are those that are graded.
        edit_tokens: Upper bound of the tokens of its self-edits.
        adapter_bytes: Of one adapter; None if the model's files do not tell its layers.
        disk: Bytes at their most, for each `execution.keep_adapters`; None likewise.
        model_bytes: The model's weights in the run's precision, which each engine process holds.
        seconds: With `execution.workers` at work, by what such units took on this machine with
            this model; None if a stage of it was never timed here.
    """

    edits: int
    adapters: int
    answers: int
    edit_tokens: int
    adapter_bytes: int | None
    disk: dict[Keep, int] | None
    model_bytes: int
    seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """What `seal estimate --json` prints."""
        return asdict(self)


def estimate(checked: Preflight) -> Estimate:
    """Counts a run's units, and what they take; reads the store and changes nothing in it."""
    config = checked.config
    amounts = Amounts(checked.problems)
    restem(amounts, config)
    shapes = told_shapes(checked.model_path)
    targets = ("q_proj", "v_proj") if config.finetune.published else config.finetune.targets
    size = _adapter_bytes(config.finetune.rank, targets, shapes)
    policy = _adapter_bytes(config.update.rank, config.update.targets, shapes)
    units = amounts.units
    return Estimate(
        edits=units["sample"],
        adapters=units["finetune"],
        answers=units["evaluate"],
        edit_tokens=units["sample"] * config.sample.max_tokens,
        adapter_bytes=size,
        disk=None
        if size is None or policy is None
        else {
            keep: size * n + policy * units["update"] for keep, n in _kept(checked, amounts).items()
        },
        model_bytes=sum(map(math.prod, shapes.values())) * _BYTES.get(checked.precision, 2),
        seconds=_seconds(checked, units),
    )


def check_room(checked: Preflight) -> Estimate:
    """The estimate of a run that its disk can hold, as far as that is known.

    What a run takes over from others needs no room, so that where the store has work of this
    model nothing is refused.

    Raises:
        InputError: It cannot; names the setting.
    """
    found = estimate(checked)
    config = checked.config
    root = config.execution.store
    if found.disk is None or "://" in root or _has_some(checked):
        return found
    free = shutil.disk_usage(_existing(Path(root).expanduser().absolute())).free
    needed = found.disk[config.execution.keep_adapters]
    if needed <= free:
        return found
    less = [
        f"execution.keep_adapters = {keep!r} ({_gb(found.disk[keep])})"
        for keep in _KEEPS
        if found.disk[keep] < found.disk[config.execution.keep_adapters]
    ]
    raise InputError(
        f"{found.adapters} adapters of {_gb(found.adapter_bytes or 0)} each come to "
        f"{_gb(needed)}, and {_gb(free)} are free where the store {root} is: set "
        f"{', '.join([*less, 'a lower finetune.rank'])}, or give it another disk"
    )


def is_begun(root: str, run: str) -> bool:
    """Whether a run of this name is in the store."""
    if Store.is_new(root):
        return False
    return Store.open(root, create=False).files.exists(run_record(run))


def estimate_lines(found: Estimate) -> list[str]:
    """The estimate for a person."""
    lines = [
        f"{found.edits} self-edits (at most {found.edit_tokens:,} tokens), {found.adapters} "
        f"adapters, {found.answers} answers"
    ]
    if found.disk is not None:
        kept = ", ".join(f"{keep} {_gb(n)}" for keep, n in found.disk.items())
        lines.append(f"an adapter {_gb(found.adapter_bytes or 0)}; by keep_adapters: {kept}")
    lines.append(f"model {_gb(found.model_bytes)} in memory, for each worker")
    if found.seconds is not None:
        minutes = found.seconds / 60
        lines.append(f"about {minutes:.1f} min, by earlier runs of this model on this machine")
    return lines


def _kept(checked: Preflight, amounts: Amounts) -> dict[Keep, int]:
    """Adapters of self-edits that are there at the most."""
    by_round = dict(amounts.adapters)
    learnt = len(checked.problems.train) * checked.config.finetune.repeats
    # The last round's weights stay until the controls are through.
    last = by_round.get(checked.config.run.rounds, 0) + by_round.get(CONTROL_ROUND, 0)
    most = max(last, *by_round.values(), 0)
    rounds = sum(index >= 0 for index in by_round)
    return {
        "all": sum(by_round.values()),
        "selected": most + learnt * max(rounds - 1, 0),
        "none": most,
    }


def _adapter_bytes(
    rank: int, targets: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
) -> int | None:
    """Float32 A and B of the layers that are trained; None for a mixture of experts.

    Its experts are matrices in the files, and no layers that adapters are trained on.
    """
    if has_experts(shapes):
        return None
    chosen = [
        shape
        for name, shape in shapes.items()
        if len(shape) == 2
        and is_in_block(name)
        and any(t == "all-linear" or name == t or name.endswith(f".{t}") for t in targets)
    ]
    return sum(rank * sum(shape) * 4 for shape in chosen) or None


def _seconds(checked: Preflight, units: Mapping[str, int]) -> float | None:
    root = checked.config.execution.store
    if Store.is_new(root):
        return None
    store = Store.open(root, create=False)
    digested = checked.digested(store)
    with Catalog(store) as catalog:
        rates = dict(catalog.fetch(_RATES, host=socket.gethostname(), model=digested.model_digest))
    if any(stage not in rates for stage, n in units.items() if n):
        return None
    return sum(n * rates[stage] for stage, n in units.items()) / checked.config.execution.workers


def _has_some(checked: Preflight) -> bool:
    """Whether the store has work of the run's model."""
    root = checked.config.execution.store
    if Store.is_new(root):
        return False
    store = Store.open(root, create=False)
    with Catalog(store) as catalog:
        sql = "SELECT count(*) FROM policies WHERE model_digest = $model"
        return bool(catalog.fetch(sql, model=checked.digested(store).model_digest)[0][0])


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _gb(n: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n >= size / 10:
            return f"{n / size:.1f} {unit}"
    return f"{n / 1e3:.1f} kB"
