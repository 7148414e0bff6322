"""Lives with a Prefect server of the user's that dies: for a moment, and for good."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

from tests.chaos.kills import Kind
from tests.chaos.lives import Life, Plan, Undisturbed
from tests.chaos.scenario import Running, Scenario
from tests.chaos.servers import PrefectServer

_AWAY_SECONDS = 3.0


def named_server_lives(folder: Path, right: Undisturbed, chance: random.Random) -> list[Life]:
    """One run whose server comes back in time, and one whose server is missed by the run."""
    return [
        _live(folder / "server-restarted", right, chance, comes_back=True),
        _live(folder / "server-gone", right, chance, comes_back=False),
    ]


def _live(folder: Path, right: Undisturbed, chance: random.Random, comes_back: bool) -> Life:
    server = PrefectServer(folder / "prefect").start()
    there = threading.Event()
    there.set()
    scenario = Scenario(folder, right.scenario.settings, server.environment, ready=there.wait)
    life = Life(scenario, right, random.Random(chance.random()))

    def act(running: Running, _: random.Random) -> bool:
        there.clear()
        server.kill()
        threading.Thread(target=start_again, args=[running]).start()
        return True

    def start_again(running: Running) -> None:
        """After a moment, or when the run has ended for want of a server."""
        if comes_back:
            time.sleep(_AWAY_SECONDS)
        else:
            running.process.wait()
        server.start()
        there.set()

    name = "named Prefect server, kill -9" + (", started again" if comes_back else "")
    kind = Kind(name, "prefect", act, in_flight=0)
    stage = chance.randrange(len(right.labels))
    try:
        life.play([Plan(kind, stage, chance.random(), late=True)])
    finally:
        server.kill()
    state = "FAILED" if life.failures or life.difference else "equal"
    print(f"{folder.name}: {state}, {life.resumes} resumes", flush=True)
    return life
