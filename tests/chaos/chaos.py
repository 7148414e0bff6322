"""`make chaos`: kills at random moments, and every run ends equal to the undisturbed one."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seal_core.generation.vllm.options import find_vllm
from tests.chaos import kills
from tests.chaos.kills import Kind
from tests.chaos.lives import Life, Plan, Undisturbed
from tests.chaos.named_server import named_server_lives
from tests.chaos.report import print_report
from tests.chaos.scenario import ROOT, Scenario, small, stage_of
from tests.chaos.servers import PrefectServer

_ANY = [kills.FLOW] * 10 + [kills.GROUP] * 6 + [kills.CTRL_C] * 6 + [kills.TERM] * 5
_NAMED = [*_ANY, *[kills.WORKER] * 9]
_OWN = [*[kills.SERVER] * 12, kills.GUARD, kills.GUARD, kills.FLOW, kills.TERM]
_VLLM = [
    *[kills.VLLM_SERVER] * 5,
    *[kills.VLLM_CORE] * 2,
    kills.VLLM_GUARD,
    kills.FLOW,
    kills.GROUP,
]
_PER_LIFE = {"named": 9, "own": 8, "vllm": 5}
_LOGPROBS = ("logprob",)


class Chaos:
    """All lives of one call."""

    def __init__(self, folder: Path, seed: int, short: bool) -> None:
        self._folder = folder
        self._seed = seed
        self._vllm = Path(find_vllm().python).absolute()  # First, since without it all is in vain.
        self._server = PrefectServer(folder / "prefect").start()
        self._settings = small(1, 3, 3) if short else small(2, 4, 3)
        # Greedy, so that a run with vLLM writes what a run with transformers does.
        self._greedy = (*self._settings, "sample.temperature=0")
        self.lives: list[Life] = []

    def short(self) -> None:
        """Six kills of all three kinds; vLLM starts beside the others, since that takes long."""
        right = self._undisturbed("undisturbed", self._greedy)
        with ThreadPoolExecutor(1) as beside:
            vllm = beside.submit(self._all, "vllm", right, [kills.VLLM_SERVER])
            self._all("named", right, [kills.FLOW, kills.CTRL_C, kills.TERM, kills.WORKER])
            self._all("own", right, [kills.SERVER])
            vllm.result()

    def full(self) -> None:
        """More than sixty."""
        right = self._undisturbed("undisturbed", self._settings)
        self._all("named", right, _NAMED)
        self._all("own", right, _OWN)
        self.lives += named_server_lives(self._folder, right, random.Random(self._seed))
        self._all("vllm", self._undisturbed("undisturbed-greedy", self._greedy), _VLLM)

    def close(self) -> None:
        """Ends the server."""
        self._server.kill()

    def _all(self, how: str, right: Undisturbed, kinds: Sequence[Kind]) -> None:
        """Lives until each kind has been carried out as often as asked for."""
        chance = random.Random(f"{self._seed} {how}")
        left = chance.sample(kinds, len(kinds))
        for number in range(1, 2 * len(kinds) + 1):
            now, left = left[: _PER_LIFE[how]], left[_PER_LIFE[how] :]
            life = self._live(f"{how}-{number}", how, right, now, chance)
            left += [plan.kind for plan in life.missed]
            if not left:
                return

    def _live(
        self, name: str, how: str, right: Undisturbed, kinds: Sequence[Kind], chance: random.Random
    ) -> Life:
        scenario = self._scenario(name, how, right.scenario.settings)
        approximate = _LOGPROBS if how == "vllm" else ()
        life = Life(scenario, right, random.Random(chance.random()), approximate)
        self.lives.append(life)
        began = time.monotonic()
        life.play(plan_kills(right, kinds, chance))
        state = "FAILED" if life.failures or life.difference else "equal"
        hits = ", ".join(f"{hit.kind.name} in {hit.stage}" for hit in life.hits)
        print(f"{name}: {state}, {time.monotonic() - began:.0f} s: {hits}", flush=True)
        return life

    def _undisturbed(self, name: str, settings: tuple[str, ...]) -> Undisturbed:
        began = time.monotonic()
        right = Undisturbed.run(Scenario(self._folder / name, settings, self._server.environment))
        print(f"{name}: {len(right.labels)} stages, {time.monotonic() - began:.0f} s", flush=True)
        return right

    def _scenario(self, name: str, how: str, settings: tuple[str, ...]) -> Scenario:
        environment = {} if how == "own" else self._server.environment
        if how == "vllm":
            settings = (
                *settings,
                *("engine.kind=vllm", f"engine.python={self._vllm}", "engine.adapter_slots=4"),
                "engine.gpu_memory_utilization=0.1",
            )
            environment = {**environment, "VLLM_CPU_KVCACHE_SPACE": "1"}
        return Scenario(self._folder / name, settings, environment)


def plan_kills(right: Undisturbed, kinds: Sequence[Kind], chance: random.Random) -> list[Plan]:
    """Moments for these kills, in the order in which a run comes by them.

    Stages are drawn first, and then one of that name, so that short and rare ones have their
    share. Before the first stage only kill -9 has a promise to keep.
    """
    labels = [label for label, _ in right.labels]
    names = sorted({stage_of(label) for label in labels})
    plans = []
    for kind in kinds:
        name = chance.choice(names)
        stage = chance.choice([i for i, label in enumerate(labels) if stage_of(label) == name])
        if -9 in kind.codes and chance.random() < 0.15:
            stage = -1
        plans.append(Plan(kind, stage, chance.random(), chance.random() < 0.5))
    return sorted(plans, key=lambda plan: (plan.stage, plan.share))


def main() -> int:
    """Exit code 0 if every run ended equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="six kills, for CI")
    parser.add_argument("--folder", type=Path, help="keep the stores here")
    options = parser.parse_args()
    # In the background a shell has it ignored, and so would every run that ctrl-C is to end.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(prefix="seal-chaos-") as scratch:
        began = time.monotonic()
        chaos = Chaos(options.folder or Path(scratch), options.seed, options.short)
        try:
            chaos.short() if options.short else chaos.full()
        finally:
            chaos.close()
        wanted = 6 if options.short else 60
        return 0 if print_report(chaos.lives, wanted, time.monotonic() - began) else 1


if __name__ == "__main__":
    sys.exit(main())
