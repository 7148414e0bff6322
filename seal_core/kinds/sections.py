"""The sections of a config that choose a kind: of options, built in or from another package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from seal_core.engine_section import EngineSection
from seal_core.kinds.entry_points import BUILT_IN, package_of
from seal_core.kinds.foreign_options import recorded
from seal_core.section import Section

FOREIGN = "*"
"""Tag of such kinds where pydantic names the place of an error."""


class Foreign(Section):
    """A kind of another package.

    Attributes:
        package: `name==version`, part of the cache key where the options are.
        options: Checked by the kind's own `Options`, defaults included.
    """

    point: ClassVar[str]
    kind: str
    package: str
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def title(self) -> str:
        """The kind as messages name it."""
        return f"{self.point}.kind = {self.kind!r} of {self.package}"

    @model_validator(mode="before")
    @classmethod
    def _options_apart(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or {"package", "options"} <= given.keys():
            return given  # As a run recorded it, whose package may not be here any more.
        kind = given["kind"]
        plain = {key: value for key, value in given.items() if key != "kind"}
        package = package_of(cls.point, kind)
        return {"kind": kind, "package": package, "options": recorded(cls.point, kind, plain)}


class _ForeignDomain(Foreign):
    point = "domain"


class _ForeignReward(Foreign):
    point = "reward"


class _ForeignSelection(Foreign):
    point = "selection"


class _ForeignOuterLoop(Foreign):
    point = "outer_loop"


class _ForeignEngine(Foreign):
    point = "engine"


class ForeignTrainer(Foreign):
    """A kind of `[trainer]`, as an engine process is told of it."""

    point = "trainer"


class KnowledgeSection(Section):
    """Passages and questions about them: `[data]`, `[rows]` and the prompts are its settings."""

    kind: Literal["knowledge"] = "knowledge"


class AccuracySection(Section):
    """The share of questions that are answered right (paper, section 3.1)."""

    kind: Literal["accuracy"] = "accuracy"


class LikelihoodSection(Section):
    """How probable the reference answers are, in nats per token: no grader, and no ties."""

    kind: Literal["likelihood"] = "likelihood"


class BestOfKSection(Section):
    """Keeps the best self-edit of each problem by its reward, ties to the earlier sample.

    Attributes:
        min_gain: Keep only self-edits whose gain is above this; None for no such limit.
            The paper's positive-gain filter is `min_gain = 0.0`.
        keep_fraction: Of the problems' best self-edits, the share with the largest reward.
    """

    kind: Literal["best_of_k"] = "best_of_k"
    min_gain: Annotated[float, Field(allow_inf_nan=False)] | None = None
    keep_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0


class RestemSection(Section):
    """Supervised fine-tuning on the self-edits that were kept (Singh et al. 2023).

    Attributes:
        start: What each round's update starts from: the round's own `policy`, or the `base`
            model, as Singh et al. do.
        cut: What the policy learns of self-edits that `sample.max_tokens` cut: `open`, their
            text without the end of it, or nothing (`leave_out`).
    """

    kind: Literal["restem"] = "restem"
    start: Literal["policy", "base"] = "policy"
    cut: Literal["open", "leave_out"] = "open"


class TrainerSection(Section):
    """What trains the adapters of self-edits; changes no result and enters no identity.

    Attributes:
        kind: `batched` trains many adapters at once, `peft` one after the other; the results
            agree to rounding.
    """

    kind: Literal["batched", "peft"] = "batched"


def _tag(point: str) -> Discriminator:
    def tag(value: Any) -> str:
        first = BUILT_IN[point][0]
        if isinstance(value, BaseModel):
            kind = getattr(value, "kind", first)
        else:
            kind = value.get("kind", first) if isinstance(value, Mapping) else first
        return kind if kind in BUILT_IN[point] else FOREIGN

    return Discriminator(tag)


AnyDomain = Annotated[
    Annotated[KnowledgeSection, Tag("knowledge")] | Annotated[_ForeignDomain, Tag(FOREIGN)],
    _tag("domain"),
]
AnyReward = Annotated[
    Annotated[AccuracySection, Tag("accuracy")]
    | Annotated[LikelihoodSection, Tag("likelihood")]
    | Annotated[_ForeignReward, Tag(FOREIGN)],
    _tag("reward"),
]
AnySelection = Annotated[
    Annotated[BestOfKSection, Tag("best_of_k")] | Annotated[_ForeignSelection, Tag(FOREIGN)],
    _tag("selection"),
]
AnyOuterLoop = Annotated[
    Annotated[RestemSection, Tag("restem")] | Annotated[_ForeignOuterLoop, Tag(FOREIGN)],
    _tag("outer_loop"),
]
AnyEngine = Annotated[
    Annotated[EngineSection, Tag("transformers")]
    | Annotated[EngineSection, Tag("vllm")]
    | Annotated[_ForeignEngine, Tag(FOREIGN)],
    _tag("engine"),
]
AnyTrainer = Annotated[
    Annotated[TrainerSection, Tag("batched")]
    | Annotated[TrainerSection, Tag("peft")]
    | Annotated[ForeignTrainer, Tag(FOREIGN)],
    _tag("trainer"),
]
