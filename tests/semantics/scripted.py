"""Scripted engines: what they write and know follows from the text alone, so tests can predict it.

A self-edit with an even seed says `FACT: P3 = C3`, one with an odd seed says nothing of use. An
adapter knows the facts of its rows. A question about P3 is answered with C3 if an adapter of the
request knows it, and C3 is then more probable.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from seal_core.engines import (
    GenerateRequest,
    Generation,
    LoraSettings,
    Scored,
    ScoreRequest,
    TrainedAdapter,
    TrainJob,
    TrainRow,
)
from storage.store import Store
from tasks.opening.open_run import Engines
from tasks.opening.preflight import Preflight

KNOWN, UNKNOWN = -0.25, -4.0
"""Log-probability of each of the two tokens of an answer, nats."""

Hook = Callable[[str, Sequence[Any]], None]


def write_problems(path: Path, n: int) -> None:
    """Problems about P0, P1 and so on, as a data file."""
    problems = [
        {
            "title": f"P{i}",
            "context": f"C{i} is the code of P{i}.",
            "questions": [{"question": f"What is the code of P{i}?", "answer": f"C{i}"}],
        }
        for i in range(n)
    ]
    path.write_text(json.dumps(problems))


class Scripted:
    """Generator and trainer in one; counts its calls, and asks `hook` before each.

    Args:
        hook: May raise, as an engine that dies would.
        fails: Self-edit texts with this in them get an adapter with an error.
    """

    def __init__(self, hook: Hook | None = None, fails: str | None = None) -> None:
        self.generated: list[str] = []
        self.trained: list[str] = []
        self.scored: list[str] = []
        self.updates = 0
        self.tried = 0
        self._hook = hook or (lambda name, items: None)
        self._fails = fails

    @contextmanager
    def open(self, checked: Preflight, store: Store) -> Iterator[Engines]:
        yield Engines(self, self, self.try_model)

    def try_model(self) -> None:
        self.tried += 1

    def generate(
        self, requests: Sequence[GenerateRequest], progress: object = None
    ) -> list[Generation]:
        self._hook("generate", requests)
        self.generated += [request.request_id for request in requests]
        return [self._generate(request) for request in requests]

    def score(self, requests: Sequence[ScoreRequest], progress: object = None) -> list[Scored]:
        self._hook("score", requests)
        self.scored += [request.request_id for request in requests]
        return [
            Scored(own.request_id, 2 * (KNOWN if own.completion == known else UNKNOWN), 2)
            for own, known in ((own, _known(own)) for own in requests)
        ]

    def train(
        self, jobs: Sequence[TrainJob], out: Path, progress: object = None
    ) -> list[TrainedAdapter]:
        self._hook("train", jobs)
        self.trained += [job.adapter_id for job in jobs]
        return [self._train(job, out) for job in jobs]

    def update_policy(
        self,
        examples: Sequence[TrainRow],
        settings: LoraSettings,
        seed: int,
        out: Path,
        parent_adapter: str | None = None,
    ) -> TrainedAdapter:
        self._hook("update", examples)
        self.updates += 1
        _save(out, [example.text for example in examples])
        return TrainedAdapter("policy", str(out), len(examples), 1, 10, 1.0, 0.5, 0.0)

    def close(self) -> None:
        """Nothing to free."""

    def _generate(self, request: GenerateRequest) -> Generation:
        subject = re.findall(r"P\d+", request.prompt)[-1]
        if "Question:" not in request.prompt:
            useful = request.seed % 2 == 0
            text = f"FACT: {subject} = C{subject[1:]}" if useful else f"{subject} is of interest."
        else:
            text = _known(request) or "I do not know"
        return Generation(request.request_id, text, 5, 3, -1.0, "stop")

    def _train(self, job: TrainJob, out: Path) -> TrainedAdapter:
        texts = [row.text for row in job.rows]
        if self._fails and any(self._fails in text for text in texts):
            return TrainedAdapter(job.adapter_id, None, len(texts), 0, 0, None, None, 0.0, "broke")
        _save(out / job.adapter_id, [*texts, str(job.seed)])
        steps = job.settings.max_steps or job.settings.epochs * len(texts)
        tokens = steps * sum(len(text) for text in texts) // len(texts)
        return TrainedAdapter(
            job.adapter_id, str(out / job.adapter_id), len(texts), steps, tokens, 2.0, 1.0, 0.0
        )


def _known(request: GenerateRequest | ScoreRequest) -> str | None:
    """What the adapters of a request know of its subject."""
    facts = [fact for folder in request.adapters for fact in _facts(Path(folder))]
    return dict(facts).get(re.findall(r"P\d+", request.prompt)[-1])


def _save(folder: Path, texts: list[str]) -> None:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"texts": texts}))
    weights = np.frombuffer(hashlib.sha256(json.dumps(texts).encode()).digest(), dtype=np.uint8)
    save_file({"lora": weights.copy()}, folder / "adapter_model.safetensors")


def _facts(folder: Path) -> list[tuple[str, str]]:
    texts = json.loads((folder / "adapter_config.json").read_text())["texts"]
    return [pair for text in texts for pair in re.findall(r"FACT: (P\d+) = (C\d+)", text)]
