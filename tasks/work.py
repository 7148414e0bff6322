"""Stages as they are declared, what is handed to one for a shard, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar, Literal

from seal_core.config import Config
from seal_core.fingerprint import digest
from seal_core.kinds.sections import Foreign
from seal_core.stages import Place
from seal_core.types import TableRef
from tasks.context import RunContext

Inputs = Mapping[str, Sequence[TableRef]]

Purpose = Literal["answers", "training", "updates"]


def engine_of(purpose: Purpose, config: Config, answers_version: str) -> tuple[str, str]:
    """The kind that computes with the model for a purpose, and its library's version."""
    if purpose == "answers":
        return config.engine.kind, answers_version
    trainer = config.trainer
    if purpose == "training" and isinstance(trainer, Foreign):
        return trainer.kind, trainer.package.partition("==")[2]
    return "transformers", version("transformers")


@dataclass(frozen=True)
class Stage:
    """The one declaration of a stage; `tasks.running.interpreter.declared` lists them.

    Attributes:
        version: Raise it when the body makes other rows of the same identity.
        table: The rows that it makes go there, one part a shard.
        uses: What it asks the engines for; None if it does without the model.
        body: Makes the rows of one shard.

    Raises:
        ValueError: another stage has this name.
    """

    name: str
    version: int
    table: str
    uses: Purpose | None
    body: Callable[[RunContext, Work], StageOutput]

    _declared: ClassVar[dict[str, Stage]] = {}

    def __post_init__(self) -> None:
        if self.name in self._declared:
            raise ValueError(f"there is a stage {self.name!r} already")
        self._declared[self.name] = self

    @classmethod
    def all(cls) -> dict[str, Stage]:
        """Stages of the modules that were imported, by name."""
        return dict(cls._declared)


@dataclass(frozen=True)
class Work:
    """One shard of one stage.

    Attributes:
        stage: Name of the stage.
        table: That it writes.
        label: What a person sees, e.g. `finetune heldout round_1`.
        shard: 0-based index of the shard within the stage.
        round_index: Partition of the rows, see `seal_core.types`.
        identity: All that may change the result; see `Work.build`.
        inputs: Refs by role. What their rows are is in the identity, their paths are not.
    """

    stage: str
    table: str
    label: str
    shard: int
    round_index: int
    identity: dict[str, Any]
    inputs: dict[str, list[TableRef]]

    @classmethod
    def build(
        cls,
        stage: Stage,
        at: Place,
        shard: int,
        *,
        settings: Mapping[str, Any],
        inputs: Inputs,
        model_digest: str,
    ) -> Work:
        """Puts the identity together: stage, version, settings, input digests, model."""
        refs = {role: list(group) for role, group in inputs.items()}
        identity = {
            "stage": stage.name,
            "version": stage.version,
            "round": at.round_index,
            "settings": dict(settings),
            "inputs": {role: [ref.content for ref in group] for role, group in refs.items()},
            "model": model_digest if stage.uses else None,
        }
        label = f"{stage.name} {at.label}"
        return cls(stage.name, stage.table, label, shard, at.round_index, identity, refs)

    @property
    def key(self) -> str:
        """Cache key, and name of the record of the result."""
        return digest(self.identity)

    @property
    def slot(self) -> str:
        """Place of the shard's parts within run and round; see `Store.write_part`."""
        return f"{self.label}/{self.shard}"

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the identity that the stage's body reads."""
        return self.identity["settings"]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, for Prefect's parameters."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Work:
        """Inverse of `to_json`."""
        inputs = {r: [TableRef(**ref) for ref in refs] for r, refs in plain["inputs"].items()}
        return cls(**{**plain, "inputs": inputs})


@dataclass(frozen=True)
class MadeBy:
    """The execution that made a result, by its row of `stages`."""

    run: str
    round_index: int
    row: dict[str, Any]


@dataclass(frozen=True)
class ShardResult:
    """What one shard produced, as it stands in the cache.

    Attributes:
        refs: One part per table that the stage writes.
        n_units: Rows of the stage's main table; `n_errors` of them carry an error.
        key: Digest of `identity`.
        identity: Of the work; what a later plan compares with, see `tasks.running.plan`.
        execution: None if it never ran, as in a plan, or was given and not made.
    """

    refs: tuple[TableRef, ...]
    n_units: int
    n_errors: int
    key: str = ""
    identity: dict[str, Any] = field(default_factory=dict)
    execution: MadeBy | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, for Prefect's result record."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> ShardResult:
        """Inverse of `to_json`."""
        refs = tuple(TableRef(**ref) for ref in plain["refs"])
        made = plain["execution"]
        execution = None if made is None else MadeBy(**made)
        return cls(**{**plain, "refs": refs, "execution": execution})

    def ref(self, table: str) -> TableRef:
        """The part of one table; raises KeyError if the stage does not write it."""
        for ref in self.refs:
            if ref.table == table:
                return ref
        raise KeyError(f"no {table} part among {[ref.table for ref in self.refs]}")


@dataclass(frozen=True)
class StageOutput:
    """What a stage's body returns: rows by table, the first table being the main one.

    Attributes:
        n_tokens: Tokens generated or trained on, for the record of the execution.
        n_reused: Rows of the main table that an earlier execution made, see `tasks.stages.earlier`.
    """

    rows: Mapping[str, Sequence[Any]]
    n_tokens: int = 0
    n_reused: int = 0
