"""Keeps what was measured as plain JSON, written after every figure, and the machine it is of."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from seal_core.probe.verdict_files import processor
from tests.bench.timing import Sample, Spread

Record = dict[str, Any]


class Records:
    """Records of one run; a run that is stopped leaves those it has."""

    def __init__(self, path: Path | None, head: Record) -> None:
        self._path = path
        self._start = time.perf_counter()
        self.data: Record = {**head, "records": []}
        self._write()

    def add(self, record: Record) -> None:
        """Keeps a record, and writes all of them."""
        self.data["records"].append(record)
        self._write()

    def note(self, record: Record, **figures: Any) -> None:
        """Adds figures to a record that is kept, writes and prints them."""
        record |= figures
        self._write()
        self.tell(f"{record['row']}: {', '.join(f'{k} {_short(v)}' for k, v in figures.items())}")

    def tell(self, line: str) -> None:
        """Prints progress with the time since the start."""
        print(f"[{time.perf_counter() - self._start:5.0f} s] {line}", flush=True)

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # A kill in the middle of a write leaves the figures before.
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(json.dumps(self.data, indent=1) + "\n")
        new.replace(self._path)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def machine(device: torch.device, threads: int) -> dict[str, str]:
    """What a reader needs to judge the figures."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "device": name,
        "cores": f"{os.cpu_count()} cores, {memory:.0f} GiB of memory",
        "threads": f"torch threads: {threads}, the same for all contenders",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, peft {peft.__version__}",
        "load": f"{os.getloadavg()[0]:.1f} before the run (processes that wanted a core)",
    }


def seconds(samples: Mapping[str, Iterable[Sample]]) -> Record:
    """Samples as JSON: `{contender: {clock: [seconds, …]}}`."""
    return {
        name: {clock: [getattr(s, clock) for s in own] for clock in ("cpu", "wall")}
        for name, own in ((name, list(own)) for name, own in samples.items())
    }


def spread(record: Record, name: str, clock: str) -> Spread:
    """A contender's seconds."""
    return Spread.of(record["seconds"][name][clock])


def ratio(record: Record, slow: str, fast: str, clock: str) -> Spread:
    """How many times as long the slow one took, repetition by repetition."""
    own = record["seconds"]
    pairs = zip(own[slow][clock], own[fast][clock], strict=True)
    return Spread.of([one / other for one, other in pairs])
