"""Remembers verdicts on models, by all that they depend on, and records which one a run had."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seal_core.fingerprint import digest
from seal_core.probe.verdict import Comparison, Verdict


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


def recall(folder: Path, circumstances: Mapping[str, Any]) -> Verdict | None:
    """The verdict under these circumstances; None if there is none, or it cannot be read."""
    return recorded_verdict(folder / f"{digest(circumstances)}.json")


def remember(folder: Path, circumstances: Mapping[str, Any], verdict: Verdict) -> None:
    """Keeps a verdict for the next process under these circumstances."""
    write_verdict(folder / f"{digest(circumstances)}.json", circumstances, verdict)


def write_verdict(path: Path, circumstances: Mapping[str, Any], verdict: Verdict) -> None:
    """Writes a verdict with the circumstances that it was found under, whole or not at all."""
    record = {"circumstances": dict(circumstances), "verdict": dataclasses.asdict(verdict)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    os.replace(temporary, path)


def recorded_verdict(path: Path) -> Verdict | None:
    """A verdict that was written; None if there is none, or it cannot be read."""
    try:
        plain = dict(json.loads(path.read_text())["verdict"])
        plain["comparisons"] = tuple(Comparison(**found) for found in plain["comparisons"])
        return Verdict(**plain)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # The model is tried again, which costs seconds.
