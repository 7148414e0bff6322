"""The configuration of a run, validated before anything starts.

Every section except those of `EXECUTION` bears identity, of `run` all but the name: its values
decide what is reused from the cache. `execution` says where and how fast the work is done (paths,
devices, batch and shard sizes), `engine` and `trainer` by which library, never what is asked for.
Imports no torch.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from seal_core.engine_section import EngineSection
from seal_core.kinds.sections import (
    AccuracySection,
    AnyDomain,
    AnyEngine,
    AnyOuterLoop,
    AnyReward,
    AnySelection,
    AnyTrainer,
    BestOfKSection,
    KnowledgeSection,
    RestemSection,
    TrainerSection,
)
from seal_core.section import NonNegativeInt, PositiveFloat, PositiveInt, Section, Share

EMBEDDED = "minilm"
"""Name of the model and of the data source that ship with the package."""

EXECUTION = ("execution", "engine", "trainer")
"""Sections that enter no identity."""


class RunSection(Section):
    """The run as a whole.

    Attributes:
        rounds: Turns of ReST-EM; 0 evaluates the base policy only.
        seed: Everything random in the run derives from it and from ids.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = None
    rounds: NonNegativeInt = 2
    seed: NonNegativeInt = 0


class DataSection(Section):
    """Where problems come from.

    Attributes:
        source: `minilm` (the embedded world), `squad` (a JSON, JSONL or Parquet file in SQuAD
            form) or `dataset` (a `datasets` name, or a folder saved by `datasets`).
        path: File, folder or data set name; not used by `minilm`.
        subset, dataset_split: Configuration and split of a `datasets` name.
        limit: Use at most this many problems of `path`; for `minilm`, how many to make.
        heldout_path: Problems never trained on. Without it, the last `heldout_share` of the
            problems of `path` are held out. Not used by `minilm`, which has its own.
        heldout_limit: At most this many held-out problems.
        max_questions: At most this many questions per problem; None for all.
    """

    source: Literal["minilm", "squad", "dataset"] = "minilm"
    path: str | None = None
    subset: str | None = None
    dataset_split: str = "train"
    limit: PositiveInt | None = None
    heldout_path: str | None = None
    heldout_split: str | None = None
    heldout_limit: PositiveInt | None = None
    heldout_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.25
    max_questions: PositiveInt | None = None

    @model_validator(mode="after")
    def _path_fits_source(self) -> DataSection:
        if self.source == EMBEDDED and (self.path or self.heldout_path):
            raise ValueError(
                "data.path is set, but data.source is 'minilm', which has its own "
                "problems: set data.source to 'squad' or 'dataset'"
            )
        if self.source != EMBEDDED and not self.path:
            raise ValueError(f"data.source is {self.source!r}, which needs data.path")
        return self


class ModelSection(Section):
    """The base model.

    Attributes:
        path: `minilm`, a Hugging Face folder, or a hub id.
        revision: Branch, tag or commit of a hub id; None for `main`.
        dtype: Type of the frozen weights; `auto` is the checkpoint's own on a GPU and float32 on
            a CPU. It changes what is sampled, so it bears identity.
    """

    path: str = EMBEDDED
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


class SampleSection(Section):
    """How self-edits are sampled.

    Attributes:
        edits_per_problem: K of best-of-K.
        prompt: Versioned prompt id, see `seal_core.domains.prompts`.
        max_tokens: Upper bound of a self-edit's length.
    """

    edits_per_problem: PositiveInt = 5
    prompt: str = "implications@1"
    temperature: Annotated[float, Field(ge=0.0, le=10.0)] = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    max_tokens: PositiveInt = 8192


class RowsSection(Section):
    """How a self-edit becomes training rows (paper, section 3.1).

    Attributes:
        split_lines: One row per non-empty line, instead of one row for the whole text.
        title_prefix: Put the passage's title and a line break before each row.
        add_passage: Append the passage itself as the last row.
        variant: `base` trains plain text; `instruct` shapes each row as a chat reply.
    """

    split_lines: bool = True
    title_prefix: bool = True
    add_passage: bool = True
    variant: Literal["base", "instruct"] = "base"


class ChatSection(Section):
    """What the model's chat template is told, with `rows.variant = "instruct"`.

    Attributes:
        thinking: Let the model think before it replies; what it thought is left out of its text.
        date: What a template that writes today's date writes, `YYYY-MM-DD`.
        system: Text of a system message before every conversation; blank for none.
    """

    thinking: bool = False
    date: str = "2024-07-26"
    system: str = ""

    @field_validator("system")
    @classmethod
    def _blank_is_none(cls, value: str) -> str:
        return value if value.strip() else ""

    @field_validator("date", mode="before")
    @classmethod
    def _is_date(cls, value: Any) -> str:
        """A TOML date will do too."""
        try:
            return date.fromisoformat(str(value)).isoformat()
        except ValueError:
            raise ValueError(f"{value!r} is no date: write it as YYYY-MM-DD") from None


class LoraSection(Section):
    """LoRA and optimizer settings; see `seal_core.engines.LoraSettings`."""

    rank: PositiveInt = 32
    alpha: PositiveFloat = 64.0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("all-linear",)
    lr: PositiveFloat = 1e-3
    schedule: Literal["linear", "constant"] = "linear"
    warmup_steps: NonNegativeInt = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    epochs: PositiveInt = 10
    batch_size: PositiveInt = 1
    clip: Annotated[float, Field(ge=0.0)] = 1.0
    max_length: PositiveInt = 2048


class FinetuneSection(LoraSection):
    """The inner loop: one adapter per self-edit and repeat.

    Attributes:
        repeats: Times each training self-edit is fine-tuned, with different seeds.
        unusable: What is trained of a self-edit that teaches nothing, a blank one for example:
            `nothing`, so that the untouched policy answers, or the `passage` alone.
        published: Train as the published code does, for ablation: the targets are `q_proj` and
            `v_proj`, every row is filled up to `max_length`, and the padding carries loss.
    """

    repeats: PositiveInt = 1
    unusable: Literal["nothing", "passage"] = "nothing"
    published: bool = False

    @model_validator(mode="after")
    def _published_has_its_targets(self) -> FinetuneSection:
        if self.published and self.targets != LoraSection().targets:
            raise ValueError(
                "finetune.published sets the targets itself: leave finetune.targets out"
            )
        return self


class EvaluateSection(Section):
    """How questions are asked and graded.

    Attributes:
        prompt: Versioned id of the closed-book answer prompt.
        context_prompt: Versioned id of the prompt with the passage in view.
        max_tokens: Upper bound of an answer's length.
        grader: The verdict that counts; all built-in gradings are stored beside it.
    """

    prompt: str = "answer@1"
    context_prompt: str = "answer-in-context@1"
    max_tokens: PositiveInt = 32
    grader: str = "exact_match"


class UpdateSection(LoraSection):
    """The outer update: supervised fine-tuning on prompt and kept self-edit, with TRL."""

    lr: PositiveFloat = 3e-4
    epochs: PositiveInt = 2
    batch_size: PositiveInt = 10
    max_length: PositiveInt = 4096


class HeldoutSection(Section):
    """What is reported on problems that were never trained on.

    Attributes:
        every_round: Evaluate every round's policy; otherwise the first and the last only.
        controls: Also measure `input_only`, `input_only_matched` and `in_context`.
        crossed: Also measure the last policy's self-edits on the base model, and the base model's
            on the last policy: whether the loop writes better ones, or learns more from any.
        edits_per_problem: Self-edits sampled per held-out problem and policy.
        repeats: Fine-tunings per held-out self-edit.
    """

    every_round: bool = True
    controls: bool = True
    crossed: bool = False
    edits_per_problem: PositiveInt = 1
    repeats: PositiveInt = 1


class ExecutionSection(Section):
    """Where and how fast; changes no result and enters no identity.

    Attributes:
        store: Folder or `s3://` URL of the store.
        workers: Engine processes that work at once.
        threads: CPU threads of each engine process.
        shard_size: Problems per shard; a kill loses at most the shards in flight.
        shard_retries: Times a shard is tried again after an engine died.
        shard_timeout: Seconds after which a shard's engine call is ended.
        memory_gb: GiB that an engine may use for the adapters in training and their
            activations, besides the model. Without it, most of a GPU, or on a CPU a fifth of the
            machine's memory.
        max_error_share: A stage fails when more than this share of its units has an error.
        keep_adapters: Weights that stay when a round is done: `all`, those of `selected`
            self-edits, or `none`. Rows stay in any case, and weights that are needed after all
            are trained again from their seeds. Policies always keep theirs.
    """

    store: str = "seal-store"
    device: str = "auto"
    workers: PositiveInt = 1
    threads: PositiveInt = 1
    shard_size: PositiveInt = 10
    shard_retries: NonNegativeInt = 2
    shard_timeout: PositiveFloat = 3600.0
    max_batch_tokens: PositiveInt = 16384
    memory_gb: PositiveFloat | None = None
    max_error_share: Share = 0.2
    keep_adapters: Literal["all", "selected", "none"] = "all"

    @field_validator("device")
    @classmethod
    def _is_device(cls, value: str) -> str:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", value):
            raise ValueError(
                f"{value!r} is no device: set execution.device to auto, cpu, cuda or cuda:1"
            )
        return value

    @field_validator("keep_adapters", mode="before")
    @classmethod
    def _none_is_a_choice(cls, value: Any) -> Any:
        """On the command line, `none` is read as the absence of a value."""
        return "none" if value is None else value


class Config(Section):
    """A whole run."""

    run: RunSection = RunSection()
    domain: AnyDomain = KnowledgeSection()
    data: DataSection = DataSection()
    model: ModelSection = ModelSection()
    sample: SampleSection = SampleSection()
    rows: RowsSection = RowsSection()
    chat: ChatSection = ChatSection()
    finetune: FinetuneSection = FinetuneSection()
    evaluate: EvaluateSection = EvaluateSection()
    reward: AnyReward = AccuracySection()
    selection: AnySelection = BestOfKSection()
    outer_loop: AnyOuterLoop = RestemSection()
    update: UpdateSection = UpdateSection()
    heldout: HeldoutSection = HeldoutSection()
    execution: ExecutionSection = ExecutionSection()
    engine: AnyEngine = EngineSection()
    trainer: AnyTrainer = TrainerSection()

    @model_validator(mode="before")
    @classmethod
    def _have_other_names(cls, given: Any) -> Any:
        plain = given if isinstance(given, dict) else {}
        if "filter" in plain:
            raise ValueError("[filter] is called [selection] now, and its rule is its kind")
        execution = plain.get("execution")
        if isinstance(execution, dict) and "trainer" in execution:
            raise ValueError("execution.trainer is called trainer.kind now")
        return given

    @model_validator(mode="after")
    def _chat_is_used(self) -> Config:
        told = self.chat.model_dump().items() - ChatSection().model_dump().items()
        if told and not self.uses_chat:
            raise ValueError(f"chat.{min(told)[0]} needs rows.variant = 'instruct'")
        return self

    @property
    def uses_chat(self) -> bool:
        """Whether prompts and rows are conversations."""
        return self.rows.variant == "instruct"

    def identity(self) -> dict[str, Any]:
        """All values that may change a result, as plain JSON types."""
        plain = self.model_dump(mode="json", exclude=set(EXECUTION))
        plain["run"].pop("name")
        if not plain["finetune"]["published"]:
            del plain["finetune"]["published"]  # Runs from before the setting stay the same.
        if not self.uses_chat:
            del plain["chat"]
        return plain
