"""The life of one run: killed again and again, resumed by the same command, then looked at."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from storage.sql.catalog import Catalog
from storage.store import Store
from tests.chaos.comparison import Difference, adapter_files, compare, read_tables
from tests.chaos.kills import Kind
from tests.chaos.processes import wait_until_gone
from tests.chaos.scenario import Running, Scenario, one_line, stage_of

OPENING = "opening"
_STAGE_SECONDS = 300.0
_END_SECONDS = 120.0
_ORPHAN_SECONDS = 30.0
_VICTIM_SECONDS = 90.0
_RESUMES = 4


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody disturbed, which the others must equal.

    Attributes:
        labels: Its stages in order, each with the seconds that it took.
        engine_seconds: What the first stage took, engine start included.
        shards: Shards of a stage by label.
    """

    scenario: Scenario
    labels: tuple[tuple[str, float], ...]
    engine_seconds: float
    shards: Counter[str]

    @classmethod
    def run(cls, scenario: Scenario) -> Undisturbed:
        """Runs it to its end."""
        running = scenario.start()
        code = running.wait(_STAGE_SECONDS)
        assert code == 0, running.errors
        ends = [at for at, _ in running.stages]
        labels = [label for _, label in running.stages]
        seconds = [b - a for a, b in zip([0.0, *ends], ends, strict=False)]
        sql = "SELECT label, count(DISTINCT shard) FROM stages GROUP BY label"
        with Catalog(Store.open(str(scenario.store), create=False)) as catalog:
            shards = Counter(dict(catalog.fetch(sql)))
        pairs = tuple(zip(labels, seconds, strict=True))
        return cls(scenario, pairs, seconds[0], shards)


@dataclass(frozen=True)
class Plan:
    """A kill to come.

    Attributes:
        stage: 0-based place of the stage to hit; -1 to hit before the first.
        share: How far into the stage, from 0 to 1.
        late: If engines have to start for it, whether to wait for that first.
    """

    kind: Kind
    stage: int
    share: float
    late: bool


@dataclass(frozen=True)
class Hit:
    """A kill that was.

    Attributes:
        seconds: Until the flow's process had ended; None if it lived on.
        in_flight: Shards that may have been in flight, at most.
    """

    kind: Kind
    stage: str
    seconds: float | None
    in_flight: int


@dataclass
class Life:
    """A run's life, and what came of it.

    Attributes:
        missed: Plans whose moment never came, since the run had ended.
        resumes: Starts after the first.
        repeated: Executions beyond one per shard.
        finished_twice: Those of them whose shard was finished before, but not yet recorded.
        failures: What went otherwise than promised, one line each.
        approximate: Columns that may differ by rounding.
    """

    scenario: Scenario
    undisturbed: Undisturbed
    chance: random.Random
    approximate: Collection[str] = ()
    hits: list[Hit] = field(default_factory=list)
    missed: list[Plan] = field(default_factory=list)
    resumes: int = 0
    repeated: int = 0
    finished_twice: int = 0
    orphan_seconds: float = 0.0
    difference: Difference = field(default_factory=Difference)
    failures: list[str] = field(default_factory=list)
    _watches: list[threading.Thread] = field(default_factory=list)

    def play(self, plans: Sequence[Plan]) -> None:
        """Kills as planned, lets the run end, and compares."""
        running = self.scenario.start()
        for plan in plans:
            running = self._carry_out(running, plan)
        self._finish(running)
        for watch in self._watches:
            watch.join()
        self._inspect()

    def _carry_out(self, running: Running, plan: Plan) -> Running:
        """One kill; returns the run as it goes on."""
        for _ in range(_RESUMES):
            if self._reach(running, plan) and (hit := self._strike(running, plan.kind)):
                if not plan.kind.codes:
                    self.hits.append(hit)
                    return running
                return self._ended(running, plan, hit)
            code = running.wait(_END_SECONDS)
            if code == 0:
                break
            running = self._resume(running, code)
        self.missed.append(plan)
        return running

    def _reach(self, running: Running, plan: Plan) -> bool:
        """Waits for the planned moment; False if the run ended before."""
        if plan.stage < 0:
            first = self.undisturbed.engine_seconds
            time.sleep(max(0.0, running.started + plan.share * first - time.monotonic()))
        else:
            if not running.wait_for_stages(plan.stage, _STAGE_SECONDS):
                return False
            time.sleep(self._delay(running, plan))
        return running.process.poll() is None

    def _delay(self, running: Running, plan: Plan) -> float:
        start = self.undisturbed.engine_seconds
        own = plan.share * self.undisturbed.labels[plan.stage][1]
        if plan.stage == 0 or "cached" not in running.errors.rpartition("\n")[2]:
            return own
        return start + own if plan.late else plan.share * start

    def _strike(self, running: Running, kind: Kind) -> Hit | None:
        """Kills; None if there was nothing to kill until the run's end."""
        deadline = time.monotonic() + _VICTIM_SECONDS
        while time.monotonic() < deadline and running.process.poll() is None:
            done = [label for _, label in running.stages]
            if kind.act(running, self.chance):
                return Hit(kind, *self._where(done, kind))
            time.sleep(0.05)
        return None

    def _where(self, done: Sequence[str], kind: Kind) -> tuple[str, None, int]:
        labels = [label for label, _ in self.undisturbed.labels]
        here = labels[len(done) : len(done) + 2]
        shards = max((self.undisturbed.shards[label] for label in here), default=0)
        stage = OPENING if not done else stage_of(here[0]) if here else "end"
        return stage, None, min(shards, kind.in_flight)

    def _ended(self, running: Running, plan: Plan, hit: Hit) -> Running:
        """The flow's process was killed: it ends soon, and so do all of its children."""
        struck = time.monotonic()
        watch = threading.Thread(target=self._watch, args=[running.mark, struck])
        watch.start()
        self._watches.append(watch)
        code = running.wait(_END_SECONDS)
        if code == 0:  # It was over just before.
            self.missed.append(plan)
            return running
        seconds = time.monotonic() - struck
        self.hits.append(Hit(hit.kind, hit.stage, seconds, hit.in_flight))
        if code not in plan.kind.codes:
            self.failures.append(f"{plan.kind.name}: exit code {code}: {running.errors[-2000:]}")
        elif code > 0 and "go on with: seal run" not in running.errors:
            self.failures.append(f"{plan.kind.name}: no word on how to go on: {running.errors}")
        self._check_words(running)
        self.resumes += 1
        return self.scenario.start()

    def _watch(self, mark: str, struck: float) -> None:
        left = wait_until_gone(mark, _ORPHAN_SECONDS)
        self.orphan_seconds = max(self.orphan_seconds, time.monotonic() - struck)
        self.failures += [f"left running: {process}" for process in left]

    def _resume(self, running: Running, code: int) -> Running:
        """After an end that was not asked for: one line must say what happened."""
        words = [line for line in one_line(running.errors) if not line.startswith("note:")]
        if code != 1 or not words or not words[0].startswith("seal: "):
            self.failures.append(f"ended with {code}: {running.errors[-2000:]}")
        self._check_words(running)
        self.resumes += 1
        return self.scenario.start()

    def _check_words(self, running: Running) -> None:
        if "Traceback" in running.errors:
            self.failures.append(f"a traceback: {running.errors[-3000:]}")

    def _finish(self, running: Running) -> None:
        for _ in range(_RESUMES):
            code = running.wait(_STAGE_SECONDS)
            self._check_words(running)
            if code == 0:
                left = wait_until_gone(running.mark, _ORPHAN_SECONDS)
                self.failures += [f"left running: {process}" for process in left]
                return
            running = self._resume(running, code)
        self.failures.append(f"did not end after {_RESUMES} more starts: {running.errors[-2000:]}")

    def _inspect(self) -> None:
        right, mine = self.undisturbed.scenario.store, self.scenario.store
        self.difference = compare(read_tables(right), read_tables(mine), self.approximate)
        if adapter_files(right) != adapter_files(mine):
            self.failures.append("adapters differ from the undisturbed run's")
        sql = """SELECT count(*), count(*) FILTER (error IS NULL),
            count(DISTINCT (round, label, shard)) FROM stages"""
        with Catalog(Store.open(str(mine), create=False)) as catalog:
            ((executions, good, shards),) = catalog.fetch(sql)
        self.repeated, self.finished_twice = executions - shards, good - shards
        scratch = self.scenario.folder / "tmp"
        self.failures += [f"left behind: {path}" for path in scratch.glob("seal-*")]
        if shards != self.undisturbed.shards.total():
            self.failures.append(f"{shards} shards, not {self.undisturbed.shards.total()}")
        allowed = sum(hit.in_flight for hit in self.hits)
        if self.repeated > allowed:
            self.failures.append(f"{self.repeated} shards repeated, {allowed} were in flight")
