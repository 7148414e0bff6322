"""Holds everything that runs have in a store against its digests; reads, and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from seal_core.errors import StoreError
from storage.runs.history import execution_problem, missing_executions, note_problems
from storage.runs.registry import run_problem
from storage.store import Store
from storage.tables.paths import RESULT_RECORDS, partition_of
from storage.tables.schema import TABLES
from storage.tables.store_rows import StageRow
from tasks.caching.results import read_results
from tasks.work import ShardResult


@dataclass
class Verified:
    """What was found.

    Attributes:
        runs, parts, results: Checked: runs, parts of tables with the adapters that they list, and
            records of results, which runs share.
        unproven: Parts whose digest is nowhere else, such as imported ones; they can be read, and
            their bytes are those that their rows are written in.
        damaged_runs: Those to resume.
        problems: Damage, one line for each file, by path.
    """

    runs: int = 0
    parts: int = 0
    results: int = 0
    unproven: int = 0
    damaged_runs: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """What `seal verify --json` prints."""
        return asdict(self)


def verify_runs(store: Store, runs: Sequence[str]) -> Verified:
    """Checks all files of these runs."""
    return _Verifier(store).check(runs)


_OF_NO_STAGE = ("left_out", "advice")
"""Tables that only people read."""


class _Verifier:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._found = Verified()
        self._results: dict[str, list[ShardResult]] = {}
        self._given: set[str] = set()
        self._whole: set[str] = set()

    def check(self, runs: Sequence[str]) -> Verified:
        self._read_results()
        for run in runs:
            before = len(self._found.problems)
            self._check_run(run)
            if len(self._found.problems) > before:
                self._found.damaged_runs.append(run)
        self._found.problems = sorted(set(self._found.problems))
        return self._found

    def _check_run(self, run: str) -> None:
        self._found.runs += 1
        self._note(run_problem(self._store, run))
        self._note(self._store.manifests.problem(run))
        for problem in note_problems(self._store, run):
            self._note(problem)
        paths = {table: self._store.part_paths(table, run) for table in TABLES}
        for path in self._refs(run) - set().union(*paths.values()):
            self._note(f"{path}: the part is missing")
        self._check_history(run)
        for table, group in paths.items():
            for path in sorted(group):
                self._found.parts += 1
                try:
                    self._note(self._part_problem(table, path))
                except StoreError as error:
                    self._note(str(error))
                except OSError as error:
                    self._note(f"{path}: {error.strerror}")

    def _check_history(self, run: str) -> None:
        made = [r.execution for group in self._results.values() for r in group if r.execution]
        rows = [StageRow(**item.row) for item in made if item.run == run]
        try:
            lost = len(missing_executions(self._store, run, None, rows))
        except StoreError:
            return  # The damaged file is named for itself.
        if lost:
            self._note(f"stages/run={run}: {lost} executions are missing in the history")

    def _refs(self, run: str) -> set[str]:
        """Parts that a run wrote itself."""
        results = (result for group in self._results.values() for result in group)
        own = (r for r in results if r.execution and r.execution.run == run)
        return {ref.path for result in own for ref in result.refs}

    def _note(self, problem: str | None) -> None:
        if problem is not None:
            # Of a compact file one line, and not one for each part in it.
            self._found.problems.append(problem.partition("; ")[0])

    def _read_results(self) -> None:
        for path in self._store.files.glob(f"{RESULT_RECORDS}/*.json"):
            key = PurePosixPath(path).stem
            self._found.results += 1
            try:
                results = [ShardResult.from_json(own) for own in read_results(self._store, key)]
            except (StoreError, FileNotFoundError) as error:
                self._note(str(error))
                continue
            except (KeyError, TypeError, ValueError) as error:
                self._note(f"{path}: no result of a shard ({type(error).__name__})")
                continue
            if any(result.key != key for result in results):
                self._note(f"{path}: another shard's record")
                continue
            self._results[key] = results
            inputs = results[0].identity.get("inputs", {})
            self._given.update(content for group in inputs.values() for content in group)

    def _part_problem(self, table: str, path: str) -> str | None:
        if table == "stages":
            return execution_problem(self._store, path)
        if table == "runs":
            return None  # The record of the run tells.
        key = self._store.identity_of(path)
        if key is None:
            return f"{path}: the part is damaged"
        if results := self._results.get(key):
            problems = [self._made_problem(result, table, path) for result in results]
            return None if None in problems else problems[0]
        if problem := self._store.altered(path):
            return problem
        if table in _OF_NO_STAGE:
            return None  # Its own digest is all that there is to hold it against.
        ref = self._store.read_ref(table, path)
        self._found.unproven += ref.content not in self._given
        return None

    def _made_problem(self, result: ShardResult, table: str, path: str) -> str | None:
        ref = next((ref for ref in result.refs if ref.table == table), None)
        if ref is None:
            return f"{path}: it holds the part of another table"
        made = result.execution
        if made is not None and made.run == partition_of(path).run and ref.path != path:
            return f"{path}: it holds the part that belongs at {ref.path}"
        own = replace(ref, path=path)
        if ref.sha256 in self._whole:  # Its adapters have been read, for another run.
            return self._store.verify_rows(own)
        problem = self._store.verify(own)
        if problem is None:
            self._whole.add(ref.sha256)
        return problem
