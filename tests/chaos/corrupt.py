"""`make corrupt`: damage to random files of a finished run is found, named, and mended alone."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.damages import (
    Damage,
    Files,
    Owner,
    draw,
    group_of,
    owners_of,
    plan_damages,
    read_files,
)
from tests.chaos.executions import executed_in, read_executions
from tests.chaos.scenario import ROOT, Scenario, small
from tests.chaos.servers import PrefectServer

_RUN_SECONDS = 300.0


@dataclass
class Repair:
    """What a resumed run made of some damages.

    Attributes:
        failures: What went otherwise than promised, one line each.
        executed: Shards that it executed.
    """

    damages: Sequence[Damage]
    seconds: float = 0.0
    detected: int = 0
    rebuilt: int = 0
    served: int = 0
    executed: set[Owner] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)


class Corruption:
    """A finished run, damaged and resumed again and again."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        running = scenario.start()
        assert running.wait(_RUN_SECONDS) == 0, running.errors
        self._output = running.output
        self._whole = scenario.folder / "whole"
        shutil.copytree(scenario.store, self._whole)
        self._owners = owners_of(self._whole)
        self._history = read_executions(self._whole)
        self.files = read_files(self._whole)
        """All that can be damaged, by path."""

    def draw(self, n: int, at_once: int, chance: random.Random) -> list[list[Damage]]:
        """So many damages, in groups that touch no file and no shard twice."""
        plan, groups = plan_damages(self.files, n, chance), []
        for i in range(0, n, at_once):
            group: list[Damage] = []
            for pair in plan[i : i + at_once]:
                damage = draw(self.files, *pair, chance)
                while self._touched([damage]) & self._touched(group):
                    damage = draw(self.files, *pair, chance)
                group.append(damage)
            groups.append(group)
        return groups

    def repair(self, damages: Sequence[Damage]) -> Repair:
        """Damages the finished run's store, resumes it, and looks at what it said and left."""
        store = self._scenario.store
        shutil.rmtree(store)
        shutil.copytree(self._whole, store)
        for damage in damages:
            damage.apply(store)
        repair = Repair(damages)
        running = self._scenario.start()
        code = running.wait(_RUN_SECONDS)
        repair.seconds = time.monotonic() - running.started
        if code != 0:
            repair.failures.append(f"exit code {code}: {running.errors[-2000:]}")
            return repair
        after = read_files(store)
        for damage in damages:
            self._judge(repair, damage, running.errors, after)
        if running.output != self._output:
            repair.failures.append(f"other results: {running.output}")
        self._check_alone(repair)
        repair.failures += unequal(self.files, after, self._owners, repair.executed)
        return repair

    def _touched(self, damages: Sequence[Damage]) -> set[object]:
        """Files and shards; of a file of history, those whose records have its rows too."""
        paths = [path for damage in damages for path in damage.paths]
        shards = [self._owners.get(path) or executed_in(self._whole, path) for path in paths]
        return set(paths).union(*shards)

    def _judge(self, repair: Repair, damage: Damage, said: str, after: Files) -> None:
        unnamed = [name for name in damage.names if name not in said]
        if unnamed:
            repair.failures.append(f"not named: {', '.join(unnamed)} in: {said[:2000]}")
        repair.detected += not unnamed
        # A record that is made again differs in its times, but is not what the damage left.
        repair.served += damage.remains(after) and damage.kind != "delete"
        repair.rebuilt += all(path in after for path in damage.paths) and not damage.remains(after)

    def _check_alone(self, repair: Repair) -> None:
        found, history = read_executions(self._scenario.store), self._history
        if lost := history - found:
            repair.failures.append(f"history lost: {lost}")
        repair.executed = {(row.label, row.shard) for row in found - history}
        paths = [path for damage in repair.damages for path in damage.paths]
        hit = [self._owners.get(path, set()) for path in paths]
        if strange := repair.executed - set().union(*hit):
            repair.failures.append(f"executed beside the damaged: {strange}")
        if idle := [group for group in hit if group and not group & repair.executed]:
            repair.failures.append(f"not executed again: {idle}")
        if len(found - history) > len(repair.executed):
            repair.failures.append("a shard was executed twice")


def unequal(
    before: Files, after: Files, owners: dict[str, set[Owner]], executed: set[Owner]
) -> list[str]:
    """Files that are otherwise than before; what was executed again has new times only.

    Those are in its rows of `stages` and in its results' records; both are compared elsewhere.
    """
    found = []
    for path in sorted(before.keys() | after.keys()):
        times = group_of(path) == "stages" and path not in before
        if group_of(path) == "_results" and path in after:
            times = bool(owners.get(path, set()) & executed)
        if before.get(path) != after.get(path) and not times:
            found.append(f"{path} is {'changed' if path in after else 'gone'}")
    return found


def print_report(repairs: Sequence[Repair], seconds: float) -> bool:
    """Prints the damages by file and kind, and the sums; True if all is as promised."""
    damages = [damage for repair in repairs for damage in repair.damages]
    kinds = dict.fromkeys(damage.kind for damage in damages)
    counts = Counter((group_of(damage.paths[0]), damage.kind) for damage in damages)
    print(f"\n{'damaged':<22}" + "".join(f"{kind:>16}" for kind in kinds))
    for group in dict.fromkeys(group_of(damage.paths[0]) for damage in damages):
        print(f"{group:<22}" + "".join(f"{counts[group, kind] or '':>16}" for kind in kinds))
    detected = sum(repair.detected for repair in repairs)
    rebuilt = sum(repair.rebuilt for repair in repairs)
    served = sum(repair.served for repair in repairs)
    shards = sum(len(repair.executed) for repair in repairs)
    print(f"\ndamages: {len(damages)}, in {len(repairs)} resumed runs")
    print(f"{detected} detected, {rebuilt} rebuilt, {served} served")
    print(f"shards executed again: {shards}")
    print(f"time: {seconds:.0f} s, a resumed run {max(r.seconds for r in repairs):.1f} s at most")
    failed = [repair for repair in repairs if repair.failures]
    for repair in failed:
        for failure in repair.failures:
            print(f"FAILED {[(d.kind, d.paths) for d in repair.damages]}: {failure}")
    return not failed and not served and detected == rebuilt == len(damages)


def main() -> int:
    """Exit code 0 if every damage was found, named and mended alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--damages", type=int, default=40)
    parser.add_argument("--at-once", type=int, default=1, help="damages per resumed run")
    parser.add_argument("--folder", type=Path, help="keep the store here")
    options = parser.parse_args()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(prefix="seal-corrupt-") as scratch:
        began, folder = time.monotonic(), options.folder or Path(scratch)
        server = PrefectServer(folder / "prefect").start()
        try:
            repairs = _corrupt(
                Scenario(folder / "run", small(1, 3, 2), server.environment), options
            )
        finally:
            server.kill()
        return 0 if print_report(repairs, time.monotonic() - began) else 1


def _corrupt(scenario: Scenario, options: argparse.Namespace) -> list[Repair]:
    corruption, repairs = Corruption(scenario), []
    chance = random.Random(options.seed)
    for damages in corruption.draw(options.damages, options.at_once, chance):
        repairs.append(corruption.repair(damages))
        state = "FAILED" if repairs[-1].failures else f"mended, {repairs[-1].seconds:.1f} s"
        for damage in damages:
            print(f"{damage.kind}: {' and '.join(damage.paths)}: {state}", flush=True)
    return repairs


if __name__ == "__main__":
    sys.exit(main())
