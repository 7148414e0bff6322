"""Remembers verdicts on models, by all that they depend on, and records which one a run had."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from seal_core.fingerprint import digest
from seal_core.probe.verdict import Comparison, Verdict

_LIBRARIES = (
    *("torch", "transformers", "peft"),
    # Layers take another path where one of these is installed.
    *("kernels", "flash-attn", "flash-linear-attention"),
    *("causal-conv1d", "mamba-ssm", "mambapy", "xlstm"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class VerdictFiles:
    """Where a verdict on a model is remembered and recorded.

    Attributes:
        model_digest: Of the model's files; empty to try the model without remembering it.
        folder: Remembers verdicts for other processes and runs.
        record: File that says which verdict a run had; empty for none.
    """

    model_digest: str = ""
    folder: str = ""
    record: str = ""


@cache
def own_code() -> str:
    """Digest of this package's code that answers, trains and compares.

    A version number stays while the code between two releases changes.
    """
    rooms = Path(__file__).parents[1]
    files = sorted(rooms.rglob("*.py"))
    return digest([[str(f.relative_to(rooms)), digest(f.read_text("utf-8"))] for f in files])


def todays_code() -> dict[str, str | None]:
    """The code that a verdict rests on: versions of libraries, None if absent, and our own."""
    return {**{name: _version(name) for name in _LIBRARIES}, "seal_core": own_code()}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def circumstances(
    *, model_digest: str, targets: Sequence[str], fill: bool, dtype: str, processor: str
) -> dict[str, Any]:
    """What a verdict holds for, as far as it is known before the model is loaded.

    Args:
        fill: Whether training rows are filled up with padding.
        processor: See `processor`; empty on a GPU.
    """
    return {
        "model": model_digest,
        "targets": sorted(targets),
        "filled rows": fill,
        "dtype": dtype,
        "processor": processor,
        **todays_code(),
    }


def processor() -> str:
    """The CPU's name, as Linux tells it, or what the platform says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def recall(folder: Path, circumstances: Mapping[str, Any]) -> Verdict | None:
    """The verdict under these circumstances; None if there is none, or it cannot be read."""
    return recorded_verdict(folder / f"{digest(circumstances)}.json")


def remember(folder: Path, name: str, circumstances: Mapping[str, Any], verdict: Verdict) -> None:
    """Keeps a verdict for the next process under these circumstances."""
    write_verdict(folder / f"{digest(circumstances)}.json", name, circumstances, verdict)


def write_verdict(
    path: Path, name: str, circumstances: Mapping[str, Any], verdict: Verdict
) -> None:
    """Writes a verdict with the circumstances that it was found under, whole or not at all.

    Args:
        name: What the model is called, for people.
    """
    record = {
        "name": name,
        "circumstances": dict(circumstances),
        "verdict": dataclasses.asdict(verdict),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    os.replace(temporary, path)


def remembered_verdicts(
    folder: Path, wanted: Mapping[str, Any] | None = None
) -> list[tuple[str, Verdict]]:
    """The verdicts of a folder that today's code would be asked for again, the last found first.

    Each with its model and where it holds.

    Args:
        wanted: Circumstances that they were found under, among others; None for any.
    """
    paths = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    wanted = {**(wanted or {}), **todays_code()}
    found = [record for path in paths if (record := _read(path)) is not None]
    return [(name, verdict) for name, verdict, where in found if wanted.items() <= where.items()]


def recorded_verdict(path: Path) -> Verdict | None:
    """A verdict that was written; None if there is none, or it cannot be read."""
    found = _read(path)
    return None if found is None else found[1]


def _read(path: Path) -> tuple[str, Verdict, dict[str, Any]] | None:
    try:
        record = json.loads(path.read_text())
        where = record["circumstances"]
        plain = dict(record["verdict"])
        plain["comparisons"] = tuple(Comparison(**found) for found in plain["comparisons"])
        name = f"{record['name']} ({where['dtype']}, {where['device']})"
        return name, Verdict(**plain), dict(where)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # The model is tried again, which costs seconds.
