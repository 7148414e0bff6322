"""Selects the self-edits that the policy learns from, and says why for each.

Best-of-K is the paper's ReST-EM filter: of each problem's K self-edits the one with the highest
mean reward. `min_gain` and `keep_fraction` each look at those best self-edits only and are
independent of one another: kept is what passes both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from seal_core.kinds.sections import BestOfKSection
from seal_core.types import Score, Selection

_DIGITS = 9
"""Rewards are compared at this many digits, so that means of equal counts in another order of
summation are ties."""


class SelectionRule(Protocol):
    """Decides which self-edits of a round are good enough to learn from."""

    def select(self, scores: Sequence[Score]) -> list[Selection]:
        """One verdict per score, in their order; what is unusable or has no reward is not kept."""
        ...


@dataclass(frozen=True, slots=True)
class BestOfK:
    """See `select`."""

    options: BestOfKSection

    def select(self, scores: Sequence[Score]) -> list[Selection]:
        """One verdict per score."""
        return select(scores, self.options)


def select(scores: Sequence[Score], rule: BestOfKSection) -> list[Selection]:
    """One verdict per score, in the order of `scores`.

    Ties within a problem go to the lower `sample_index`. For
    `keep_fraction`, problems are ordered by their best reward, ties to the problem that comes
    first in `scores`; the share is taken of the problems that have a reward, rounded up.
    """
    ranks = _ranks(scores)
    best = [score for score in scores if ranks.get(score.self_edit_id) == 0]
    top = _top_fraction(best, rule.keep_fraction)
    return [_verdict(score, ranks.get(score.self_edit_id), top, rule) for score in scores]


def _ranks(scores: Sequence[Score]) -> dict[str, int]:
    """Rank of each rewarded self-edit within its problem, 0 for the best."""
    by_problem: dict[str, list[Score]] = {}
    for score in scores:
        if score.reward is not None and score.unusable is None:
            by_problem.setdefault(score.problem_id, []).append(score)
    return {
        score.self_edit_id: rank
        for group in by_problem.values()
        for rank, score in enumerate(sorted(group, key=lambda s: (-_reward(s), s.sample_index)))
    }


def _top_fraction(best: Sequence[Score], fraction: float) -> frozenset[str]:
    """Ids of the share with the largest reward; the sort is stable, so ties keep their order."""
    problems: dict[str, int] = {}
    for score in best:
        problems.setdefault(score.problem_id, len(problems))
    n_keep = math.ceil(round(fraction * len(best), _DIGITS))
    ordered = sorted(best, key=lambda s: (-_reward(s), problems[s.problem_id]))
    return frozenset(score.self_edit_id for score in ordered[:n_keep])


def _verdict(
    score: Score, rank: int | None, top: frozenset[str], rule: BestOfKSection
) -> Selection:
    kept, reason = _decide(score, rank, top, rule)
    return Selection(
        self_edit_id=score.self_edit_id,
        problem_id=score.problem_id,
        policy_id=score.policy_id,
        kept=kept,
        rank_in_problem=rank,
        reward=score.reward,
        rule=rule_name(rule),
        reason=reason,
    )


def rule_name(rule: BestOfKSection) -> str:
    """The rule with its settings, e.g. `best_of_k(min_gain=None)`."""
    share = f", keep_fraction={rule.keep_fraction:g}" if rule.keep_fraction < 1 else ""
    return f"{rule.kind}(min_gain={rule.min_gain}{share})"


def _decide(
    score: Score, rank: int | None, top: frozenset[str], rule: BestOfKSection
) -> tuple[bool, str]:
    if score.unusable is not None:
        return False, f"It teaches nothing: {score.unusable}."
    if rank is None or score.reward is None:
        return False, f"It has no reward: none of its answers was graded ({score.n_errors} errors)."
    reward = f"{score.reward:.3f}"
    if rank > 0:
        return False, f"Its reward {reward} ranks {rank + 1} in its problem; only rank 1 is kept."
    if rule.min_gain is not None and score.gain is None:
        return False, "Its gain is unknown, because no baseline answer was graded."
    if rule.min_gain is not None and not _above(score.gain, rule.min_gain):
        return False, (
            f"It is the best of its problem, but its gain {score.gain:+.3f} "
            f"is not above {rule.min_gain:+.3f}."
        )
    if score.self_edit_id not in top:
        return False, (
            f"It is the best of its problem, but its reward {reward} is not in the top "
            f"{rule.keep_fraction:.0%} of problems."
        )
    return True, f"Its reward {reward} is the best of its problem."


def _reward(score: Score) -> float:
    return round(score.reward or 0.0, _DIGITS)


def _above(gain: float | None, least: float) -> bool:
    return gain is not None and round(gain - least, _DIGITS) > 0
