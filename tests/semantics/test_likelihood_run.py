"""A run whose reward is how probable the reference answers are, with scripted engines.

1. The engine is asked for it where the reward needs it; numbers and gains are as they follow.
2. The policy learns from what makes the answers more probable.
3. A run that an engine's death ended goes on, asks nothing twice, and ends in the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from seal_core.errors import StageError
from tests.semantics.conftest import Runner
from tests.semantics.runs import N_TRAIN, K, ask, tables
from tests.semantics.scripted import KNOWN, UNKNOWN, Scripted


def test_a_run_by_likelihood(run: Runner, store: Path) -> None:
    """1, 2"""
    engine = run(reward__kind="likelihood")
    asked = ask(store, "SELECT answer_id FROM answers")
    assert sorted(engine.scored) == sorted(item for (item,) in asked)
    found = ask(
        store,
        """SELECT DISTINCT starts_with(text, 'FACT'), reward_name, reward, baseline_reward, gain,
            components['likelihood'], components['accuracy']
        FROM scores JOIN self_edits USING (self_edit_id) WHERE scores.split = 'train' ORDER BY 1""",
    )
    assert found == [
        (False, "likelihood", UNKNOWN, UNKNOWN, 0.0, UNKNOWN, 0.0),
        (True, "likelihood", KNOWN, UNKNOWN, KNOWN - UNKNOWN, KNOWN, 1.0),
    ]
    tokens = "SELECT DISTINCT reference_logprob, reference_tokens FROM answers ORDER BY 1"
    assert ask(store, tokens) == [(2 * UNKNOWN, 2), (2 * KNOWN, 2)]
    assert ask(store, "SELECT count(*) FROM scores WHERE split = 'train'") == [(N_TRAIN * K,)]
    ((best, kept),) = ask(store, "SELECT mean_best_reward, n_kept FROM rewards_by_round")
    chosen = ask(store, "SELECT sum(reward), count(*) FROM selections WHERE kept")
    assert chosen == [(best * N_TRAIN, kept)] and kept == N_TRAIN and best > UNKNOWN


def test_another_reward_asks_for_no_probabilities(run: Runner, store: Path) -> None:
    """1"""
    assert run().scored == []
    assert ask(store, "SELECT DISTINCT reference_logprob FROM answers") == [(None,)]


def test_such_a_run_goes_on(run: Runner, store: Path, tmp_path: Path) -> None:
    """3"""
    calls = iter(range(1000))

    def die(name: str, items: Sequence[Any]) -> None:
        if name == "score" and next(calls) == 3:
            raise ConnectionError("the engine is gone")

    broken = Scripted(die)
    with pytest.raises((StageError, ConnectionError)):
        run(broken, reward__kind="likelihood", execution__workers=1)
    rest = run(reward__kind="likelihood", execution__workers=1)
    assert broken.scored and rest.scored and not set(broken.scored) & set(rest.scored)
    again = run(reward__kind="likelihood")
    assert again.scored == again.generated == again.trained == []
    ended = tables(store)
    whole = run(name="b", reward__kind="likelihood", **{"execution__store": tmp_path / "other"})
    assert len(whole.scored) == len(broken.scored) + len(rest.scored)
    other = tables(tmp_path / "other")
    assert [row[4:] for row in ended["scores"]] == [row[4:] for row in other["scores"]]
