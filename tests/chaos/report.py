"""What `make chaos` prints, and whether it passed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.chaos.lives import OPENING, Life

STAGES = (OPENING, "sample", "finetune", "evaluate", "score", "filter", "update", "end")


def print_report(lives: Sequence[Life], wanted: int, seconds: float) -> bool:
    """Prints kills by kind and stage, and the sums; True if all is as promised."""
    hits = [hit for life in lives for hit in life.hits]
    _print_kinds(lives)
    lost = sum(len(life.difference.lost) for life in lives)
    doubled = sum(len(life.difference.doubled) for life in lives)
    changed = sum(len(life.difference.changed + life.difference.strange) for life in lives)
    survived = sum(len(life.hits) for life in lives if _is_well(life))
    in_flight = sum(hit.in_flight for hit in hits)
    ends = [hit.seconds for hit in hits if hit.seconds is not None]
    repeated = sum(life.repeated for life in lives)
    resumes = sum(life.resumes for life in lives)
    print(f"\nkills survived: {survived} of {len(hits)}, in {len(lives)} runs, {resumes} resumes")
    twice = sum(life.finished_twice for life in lives)
    print(f"shards repeated: {repeated}, at most in flight at the kills: {in_flight}")
    print(f"of these, finished but not yet recorded when killed: {twice}")
    print(f"rows lost: {lost}, doubled: {doubled}, changed: {changed}")
    print(f"slowest end of a killed flow: {max(ends, default=0):.1f} s")
    orphans = max((life.orphan_seconds for life in lives), default=0)
    print(f"slowest end of the processes it left: {orphans:.1f} s")
    print(f"time: {seconds:.0f} s")
    for life in lives:
        for failure in life.failures:
            print(f"FAILED {life.scenario.folder.name}: {failure}")
        for name in ("lost", "doubled", "changed", "strange"):
            for row in getattr(life.difference, name)[:5]:
                print(f"FAILED {life.scenario.folder.name}: {name}: {row}")
    if len(hits) < wanted:
        print(f"FAILED: {len(hits)} kills, not {wanted}")
    return len(hits) >= wanted and survived == len(hits)


def _print_kinds(lives: Sequence[Life]) -> None:
    kinds = dict.fromkeys(hit.kind.name for life in lives for hit in life.hits)
    counts = Counter((hit.kind.name, hit.stage) for life in lives for hit in life.hits)
    print(f"{'killed':<46}" + "".join(f"{stage:>10}" for stage in (*STAGES, "all")))
    for kind in kinds:
        cells = [counts[kind, stage] for stage in STAGES]
        print(f"{kind:<46}" + "".join(f"{cell or '':>10}" for cell in [*cells, sum(cells)]))
    sums = [sum(counts[kind, stage] for kind in kinds) for stage in STAGES]
    print(f"{'all':<46}" + "".join(f"{cell:>10}" for cell in [*sums, sum(sums)]))


def _is_well(life: Life) -> bool:
    return not life.failures and not life.difference
