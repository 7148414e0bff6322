"""The protocols of engines: a Generator answers, a Trainer makes adapters, an Engine opens one.

Generators and Trainers work on batches whose items are independent of one another: an item's
result depends on the item alone (up to floating-point ties), and an item that fails carries its
error while the others go on. An engine as a whole that cannot work raises `EngineError`.

Adapters are folders in PEFT's format (`adapter_config.json`, `adapter_model.safetensors`) on
a local path. A *stack* of adapters is applied to the base model as the sum of its deltas, in
the order policy, then self-edit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from seal_core.types import TrainRow

NEEDS_POLICY = "needs_seal_policy"
"""Key in the config of an adapter that was trained on a policy's adapter: that policy's id.

PEFT knows no such key, and so warns of it when the adapter is loaded alone, which is wrong."""

Progress = Callable[[int], None]
"""Called with the number of items finished since the last call."""


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """What a chat template is told; it bears identity where conversations are rendered.

    Attributes:
        thinking: Let the model think before it replies, where its template can.
        date: What a template that writes today's date writes, `YYYY-MM-DD`.
        system: Text of the system message; blank for none.
    """

    thinking: bool = False
    date: str = "2024-07-26"
    system: str = ""


PLAIN_CHAT = ChatSettings()
"""As the configuration's defaults."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One completion to sample.

    Attributes:
        prompt: Text, tokenized with the model's special tokens for a fresh sequence.
        adapters: Local folders of the stack, at most two; empty for the base model.
        max_tokens: Upper bound on generated tokens.
        temperature: 0 for greedy decoding.
        top_p: Nucleus mass in (0, 1].
        stop: Strings that end the completion; they are not part of the returned text.
        seed: Own seed of this request; equal requests give equal text.
        chat: Put the prompt through the tokenizer's chat template as one user message.
    """

    request_id: str
    prompt: str
    adapters: tuple[str, ...] = ()
    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    chat: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """What came of one request; `text` is None exactly when `error` is set.

    Attributes:
        logprob: Sum over generated tokens of log p at temperature 1, nats, end token included.
        finish_reason: `stop` (end token or stop string) or `length`.
    """

    request_id: str
    text: str | None
    n_prompt_tokens: int
    n_tokens: int
    logprob: float | None
    finish_reason: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A completion whose log-probability after a prompt is asked for."""

    request_id: str
    prompt: str
    completion: str
    adapters: tuple[str, ...] = ()
    chat: bool = False


@dataclass(frozen=True, slots=True)
class Scored:
    """Sum of the completion tokens' log-probabilities, nats; None exactly when `error` is set."""

    request_id: str
    logprob: float | None
    n_tokens: int
    error: str | None = None


class Generator(Protocol):
    """Answers batches of requests, each with its own adapters.

    Several threads may call one at once, and close it while they do.
    """

    def generate(
        self, requests: Sequence[GenerateRequest], progress: Progress | None = None
    ) -> list[Generation]:
        """One result per request, in the order of the requests."""
        ...

    def score(
        self, requests: Sequence[ScoreRequest], progress: Progress | None = None
    ) -> list[Scored]:
        """One result per request, in the order of the requests."""
        ...

    def close(self) -> None:
        """Frees the model; the generator cannot be used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """How one adapter is trained; the defaults are the paper's (section 3.1, appendix B).

    Attributes:
        alpha: LoRA scale; the delta is `alpha / rank * B A`.
        targets: Module names, or `["all-linear"]` for every linear layer except the head.
        lr: Peak learning rate of AdamW (betas 0.9, 0.999).
        schedule: `linear` decays to zero over all steps, `constant` does not.
        epochs: Passes over the rows, each in its own seeded order.
        batch_size: Rows per optimizer step.
        clip: Gradient norm limit; 0 for none.
        max_length: Rows are cut to this many tokens.
        pad_to_max_length: Fill every row up to `max_length` with padding that carries loss but
            is not seen, as the published code does; for ablation, it costs many times more.
        max_steps: Stop after this many steps; None for `epochs` passes. When set, epochs
            repeat as often as needed, and the schedule spans `max_steps`.
        max_train_tokens: Stop before the step that would pass this many trained tokens in
            all; None for no limit. When set, epochs repeat as often as needed.
    """

    rank: int = 32
    alpha: float = 64.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("all-linear",)
    lr: float = 1e-3
    schedule: str = "linear"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    epochs: int = 10
    batch_size: int = 1
    clip: float = 1.0
    max_length: int = 2048
    pad_to_max_length: bool = False
    max_steps: int | None = None
    max_train_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class TrainJob:
    """One adapter to train on its own rows.

    Attributes:
        base_adapters: Local folders of the stack that the frozen model consists of, merged in
            memory before training: the policy's adapter, or nothing.
        init_adapter: Local folder of an adapter to go on training from; None starts fresh.
            The base then leaves it out of `base_adapters`.
        seed: Initialisation and row order derive from it alone.
    """

    adapter_id: str
    rows: tuple[TrainRow, ...]
    settings: LoraSettings
    seed: int
    base_adapters: tuple[str, ...] = ()
    init_adapter: str | None = None


@dataclass(frozen=True, slots=True)
class TrainedAdapter:
    """What came of one job; `path` is None exactly when `error` is set.

    Attributes:
        path: Local folder in PEFT's format, `out / adapter_id`.
        n_tokens: Tokens that carried loss, over all steps.
        first_loss, final_loss: Mean loss per token over the first and last epoch, nats.
    """

    adapter_id: str
    path: str | None
    n_rows: int
    n_steps: int
    n_tokens: int
    first_loss: float | None
    final_loss: float | None
    seconds: float
    error: str | None = None


def results_fault(wanted: Iterable[str], found: Any) -> str | None:
    """What is wrong with the results of jobs of these ids; None if each job has its own."""
    results = found if isinstance(found, Sequence) else ()
    ids = [one.adapter_id if isinstance(one, TrainedAdapter) else None for one in results]
    if ids != list(wanted):
        return "must give one result per job, in their order"
    for one in results:
        if (one.path is None) == (one.error is None):
            return f"gives {one.adapter_id} the path {one.path!r} and the error {one.error!r}"
    return None


class Trainer(Protocol):
    """Trains many independent adapters of one frozen model."""

    def train(
        self, jobs: Sequence[TrainJob], out: Path, progress: Progress | None = None
    ) -> list[TrainedAdapter]:
        """Writes each adapter to `out / adapter_id`; one result per job, in their order.

        Raises:
            InputError: Two jobs have one id.
        """
        ...

    def close(self) -> None:
        """Frees the model; the trainer cannot be used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class ModelInUse:
    """The model that an engine is to answer with.

    Attributes:
        path: Folder of its files.
        name: As the config gives it, for messages.
        dtype: Of its weights, e.g. `float32`; the run's cache keys say so.
        chat: What its chat template is told.
        max_rank: Largest rank of a stack of adapters that will be asked for.
    """

    path: str
    name: str
    dtype: str
    chat: ChatSettings
    max_rank: int


class Engine(Protocol):
    """A kind of `[engine]` that answers outside of the trainers' processes."""

    def check(self, model: ModelInUse) -> str:
        """Passes if the engine can be opened here; the version of the library that answers.

        Raises:
            InputError: It cannot; with the fix.
        """
        ...

    def memory_share(self, trainers: str | None) -> float:
        """Share of the trainers' GPU's memory that it takes for itself.

        Args:
            trainers: `CUDA_VISIBLE_DEVICES` of the trainers; None on a CPU.
        """
        ...

    def open(self, model: ModelInUse, log_dir: Path, timeout: float) -> Generator:
        """A generator for the model.

        Args:
            log_dir: Folder for what its processes print.
            timeout: Seconds for one call.
        """
        ...
