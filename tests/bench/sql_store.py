"""Builds a store of some size: runs, rounds and parts as the pipeline would leave them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from seal_core.fingerprint import digest
from seal_core.types import CONTROL_ROUND, Policy
from storage.runs.registry import register_run
from storage.store import Store
from storage.tables.encoding import encode, encode_rows, part_metadata, sha256_of
from storage.tables.paths import content_path, part_path
from storage.tables.store_rows import StageRow
from tests.bench.sql_rows import Problems, Setting, Size, Texts, hexes, table

_VERSION = 2
"""Raised when other rows are made, so that an old store is not taken for a new one."""


def build(root: Path, size: Size) -> bool:
    """Makes the store in a folder that has none; False if it is there, whole and of this size.

    Raises:
        FileExistsError: the folder holds something else, or half a store.
    """
    stamp = root.with_name(root.name + ".json")
    wanted = {**asdict(size), "version": _VERSION}
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return False
    if root.exists():
        raise FileExistsError(f"{root} is half a store, or another one: delete it")
    store = Store.open(str(root))
    names = [f"bench-{i}" for i in range(size.runs)]
    for name in names:
        register_run(store, name, {"run": {"rounds": size.rounds}, "name": name}, size.shard)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_write_run, [root] * len(names), names, [size] * len(names)))
    stamp.write_text(json.dumps(wanted))
    return True


def _write_run(root: Path, name: str, size: Size) -> None:
    RunWriter(root, name, size).write()


class RunWriter:
    """Writes one run, part by part."""

    def __init__(self, root: Path, name: str, size: Size) -> None:
        self._root, self._name, self._size = root, name, size
        self._rng = np.random.default_rng(list(name.encode()))
        self._texts = Texts(np.random.default_rng(0))
        self._clock = datetime(2026, 1, 1, tzinfo=UTC)
        counts = {"train": size.problems, "heldout": size.heldout}
        self._problems = {
            split: Problems(self._texts, split, n, size.questions) for split, n in counts.items()
        }

    def write(self) -> None:
        """All rounds; the policy of round k was made by round k - 1."""
        for split, problems in self._problems.items():
            for i, part in enumerate(self._shards(split)):
                for name, rows in problems.rows(part).items():
                    self._put(name, rows, CONTROL_ROUND, f"{split}/{i}")
        heldout = {"split": "heldout", "repeats": self._size.heldout_repeats, "edits": 1}
        policy = self._policy(None, CONTROL_ROUND)
        self._heldout, _ = (
            [
                self._baseline(CONTROL_ROUND, *shard)
                for shard in self._settings("heldout", condition, policy, 1, 1)
            ]
            for condition in ("no_adaptation", "in_context")
        )
        for condition in ("input_only", "input_only_matched"):
            self._edits(CONTROL_ROUND, condition, policy, **heldout)
        for index in range(self._size.rounds + 1):
            self._edits(index, f"round_{index}", policy, **heldout)
            if index < self._size.rounds:
                self._edits(
                    index, f"round_{index}", policy, "train", self._size.edits, self._size.repeats
                )
                policy = self._policy(policy, index)

    def _shards(self, split: str) -> list[slice]:
        n, step = len(self._problems[split].ids), self._size.shard
        return [slice(i, min(i + step, n)) for i in range(0, n, step)]

    def _settings(
        self, split: str, condition: str, policy: str, edits: int, repeats: int
    ) -> Iterator[tuple[int, Setting]]:
        for i, part in enumerate(self._shards(split)):
            problems = self._problems[split]
            yield (
                i,
                Setting(self._rng, self._texts, problems, part, condition, policy, edits, repeats),
            )

    def _edits(
        self, index: int, condition: str, policy: str, split: str, edits: int, repeats: int
    ) -> None:
        """Everything about the self-edits of one split in one round."""
        label = condition if split == "train" else f"heldout {condition}"
        scored: list[pa.Table] = []
        for i, setting in self._settings(split, condition, policy, edits, repeats):
            written = setting.self_edits()
            adapters = setting.adapters(written)
            n = setting.n_problems
            base = 0.5 * self._rng.random(n)
            skill = np.repeat(base, edits) + 0.4 * self._rng.random(n * edits)
            noisy = np.repeat(skill, repeats) + self._rng.normal(0, 0.1, n * edits * repeats)
            answers = setting.answers(adapters, np.clip(noisy, 0, 1))
            if split == "train":
                blank = replace(setting, condition="no_adaptation")
                before = self._baseline(index, i, blank, base, f"{label} baseline")
            else:
                before = self._heldout[i]
            scores = _scores(setting, written, answers, before)
            scored.append(scores)
            for stage, name, rows in (
                ("sample", "self_edits", written),
                ("finetune", "adapters", adapters),
                ("evaluate", "answers", answers),
                ("score", "scores", scores),
            ):
                self._put(name, rows, index, f"{stage} {label}/{i}", stage=stage)
        if split == "train":
            picks = _selections(pa.concat_tables(scored), edits)
            self._put("selections", picks, index, f"filter {label}/0", stage="filter")

    def _baseline(
        self,
        index: int,
        shard: int,
        setting: Setting,
        skill: np.ndarray | None = None,
        label: str = "",
    ) -> pa.Table:
        base = 0.5 * self._rng.random(setting.n_problems) if skill is None else skill
        rows = setting.answers(None, base)
        slot = f"evaluate {label or setting.condition}/{shard}"
        self._put("answers", rows, index, slot, stage="evaluate")
        return rows

    def _policy(self, parent: str | None, index: int) -> str:
        name = f"policy-{hexes(self._rng, 1, 8)[0]}"
        row = Policy(name, parent, "model", digest("model"), None, None, 10, 10, 1.0)
        data = encode_rows("policies", [row], "")[0]
        self._write(part_path("policies", self._name, index, "policy"), data)
        return name

    def _put(self, name: str, rows: pa.Table, index: int, slot: str, stage: str = "") -> None:
        identity = digest([self._name, name, index, slot])
        path = part_path(name, self._name, index, slot)
        self._write(path, encode(rows, part_metadata(name, identity)))
        if stage:
            self._stage(stage, slot, identity, index, rows.num_rows)

    def _stage(self, stage: str, slot: str, identity: str, index: int, n_units: int) -> None:
        label, _, shard = slot.rpartition("/")
        start, self._clock = self._clock, self._clock + timedelta(seconds=30)
        row = StageRow(
            stage, label, identity, int(shard), start.isoformat(), self._clock.isoformat(), 30.0,
            n_units, 0, 10 * n_units, "cpu", "host", 1, 1, "{}", None,
        )  # fmt: skip
        data = encode_rows("stages", [row], "")[0]
        self._write(content_path("stages", self._name, index, sha256_of(data)), data)

    def _write(self, path: str, data: bytes) -> None:
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _scores(setting: Setting, edits: pa.Table, answers: pa.Table, before: pa.Table) -> pa.Table:
    n, per_edit = edits.num_rows, (setting.repeats, setting.problems.n_questions)
    right = _right(answers).reshape(n, *per_edit)
    base = np.nanmean(_right(before).reshape(setting.n_problems, -1), axis=1)
    accuracy, graded = np.nanmean(right, axis=(1, 2)), np.isfinite(right).sum(axis=(1, 2))
    base = np.repeat(base, setting.edits)
    repeats = np.nanmean(right, axis=2)
    spread = repeats.std(axis=1, ddof=1) / np.sqrt(setting.repeats)
    columns: dict[str, Any] = {
        "self_edit_id": edits["self_edit_id"], "problem_id": edits["problem_id"],
        "sample_index": edits["sample_index"], "unusable": None, "reward_name": "accuracy",
        "baseline_reward": base, "components": _components(accuracy),
        "reward": accuracy, "gain": accuracy - base, "uncertainty": spread,
        "n_repeats": setting.repeats, "n_answers": graded, "n_errors": right[0].size - graded,
    }  # fmt: skip
    return table("scores", {**setting.common, **columns})


def _selections(scores: pa.Table, edits: int) -> pa.Table:
    rewards = scores["reward"].to_numpy().reshape(-1, edits)
    ranks = (-rewards).argsort(axis=1, kind="stable").argsort(axis=1).ravel()
    columns = {name: scores[name] for name in ("self_edit_id", "problem_id", "policy_id")}
    verdict = {
        "kept": ranks == 0, "rank_in_problem": ranks, "reward": rewards.ravel(),
        "rule": "best_of_k(min_gain=None)", "reason": [_REASONS[int(rank == 0)] for rank in ranks],
    }  # fmt: skip
    return table("selections", {**columns, **verdict})


_REASONS: Sequence[str] = ("another self-edit of the problem has a higher reward", "the best")


def _right(answers: pa.Table) -> np.ndarray:
    return pc.cast(answers["correct"], pa.float64()).to_numpy(zero_copy_only=False)


def _components(accuracy: np.ndarray) -> pa.Array:
    keys = pa.array(["accuracy"] * len(accuracy))
    return pa.MapArray.from_arrays(np.arange(len(accuracy) + 1, dtype=np.int32), keys, accuracy)
