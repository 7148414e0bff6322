"""What works are built from: results of earlier stages, the config, and the model's digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seal_core.config import Config
from seal_core.stages import Handle, Place
from seal_core.types import TableRef
from tasks.work import Inputs, ShardResult, Stage, Work

Tell = Callable[[TableRef, Callable[[list[Any]], Any]], Any]


@dataclass(frozen=True)
class Made(Handle):
    """What a stage made, or would make.

    Attributes:
        results: By shard; one that is made again is replaced here, for whoever holds the handle.
        works: By shard; empty for what a run is given.
    """

    results: list[ShardResult]
    works: tuple[Work, ...] = ()


def made(handle: Handle) -> Made:
    """The results behind a handle.

    Raises:
        TypeError: a count gave it, which has none.
    """
    if not isinstance(handle, Made):
        raise TypeError(f"the handle {handle.label!r} is of other stages than these")
    return handle


def refs(handle: Handle, table: str) -> list[TableRef]:
    """The parts of a table behind a handle, by shard."""
    return [result.ref(table) for result in made(handle).results]


@dataclass(frozen=True)
class Basis:
    """What the stages of a run have in common.

    Attributes:
        told: What a part's rows tell that bears identity; a mark where they are yet to be made.
    """

    config: Config
    model_digest: str
    told: Tell

    def work(
        self, stage: Stage, at: Place, settings: Mapping[str, Any], inputs: Inputs, shard: int = 0
    ) -> Work:
        """One shard of a stage."""
        digest = self.model_digest
        return Work.build(stage, at, shard, settings=settings, inputs=inputs, model_digest=digest)

    def works(
        self,
        stage: Stage,
        at: Place,
        settings: Mapping[str, Any],
        problems: Handle,
        policy: Handle,
        inputs: Mapping[str, Sequence[TableRef]] | None = None,
    ) -> list[Work]:
        """A stage over the shards of problems.

        Args:
            inputs: By role, one more part for each shard.
        """
        given = {
            "problems": refs(problems, "problems"),
            "questions": refs(problems, "questions"),
            "policy": refs(policy, "policies") * problems.shards,
            **(inputs or {}),
        }
        settings = {**settings, "policy": self.policy_id(policy)}
        return [
            self.work(
                stage,
                at,
                settings,
                {role: [ref] for role, ref in zip(given, row, strict=True)},
                shard,
            )
            for shard, row in enumerate(zip(*given.values(), strict=True))
        ]

    def policy_id(self, policy: Handle) -> str:
        """The id of the policy behind a handle."""
        return self.told(refs(policy, "policies")[0], lambda rows: rows[0].policy_id)
