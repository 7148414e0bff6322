"""Makes the problems of the embedded synthetic world."""

from __future__ import annotations

from typing import Literal

from seal_core.domains.records import RawProblem, RawQuestion
from seal_core.errors import InputError
from seal_core.minilm.world import make_passages

DEFAULT_TRAIN = 60
DEFAULT_HELDOUT = 100


def make_world(split: Literal["train", "heldout"], n: int, seed: int) -> tuple[RawProblem, ...]:
    """The first `n` passages of a split; equal arguments give equal passages.

    Raises:
        InputError: the world is smaller than `n`.
    """
    try:
        passages = make_passages(split, n, seed)
    except ValueError as error:
        key = "data.limit" if split == "train" else "data.heldout_limit"
        raise InputError(f"the embedded world: {error}: lower {key}") from None
    return tuple(
        RawProblem(
            f"minilm {split} passage {i}",
            passage.title,
            passage.context,
            tuple(RawQuestion(qa.question, tuple(qa.answers)) for qa in passage.questions),
        )
        for i, passage in enumerate(passages, start=1)
    )
