"""The engine's side of `process.py`: opens engines once and answers calls until the parent ends."""

from __future__ import annotations

import gc
import importlib
import os
import queue
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from seal_core.engines import (
    GenerateRequest,
    Generator,
    LoraSettings,
    Progress,
    Scored,
    ScoreRequest,
    TrainedAdapter,
    Trainer,
    TrainJob,
    TrainRow,
)
from seal_core.errors import InputError, SealError
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.kinds.foreign import make_foreign
from seal_core.kinds.guarded import Guarded
from seal_core.kinds.sections import AnyTrainer, ForeignTrainer
from seal_core.models.loading import LoadedModel, check_device, load_model
from seal_core.models.lora_layers import LinearLayers
from seal_core.models.targets import check_targets
from seal_core.models.text.tokenizers import load_codec, saved_context
from seal_core.models.text.tokens import encode_prompt
from seal_core.probe.known_verdict import known_verdict
from seal_core.probe.model_report import model_report
from seal_core.probe.reference_scores import References
from seal_core.probe.served_check import references
from seal_core.probe.trainer_proof import check_trainer
from seal_core.probe.verdict import ModelReport, Verdict
from seal_core.probe.verdict_files import VerdictFiles
from seal_core.process import wire
from seal_core.process.spec import EngineSpec
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.memory_plan import check_room, model_bytes
from seal_core.training.peft_trainer import PeftTrainer

_ORPHAN_CHECK_SECONDS = 1.0


class Engines:
    """The calls of an engine process; a model is loaded when a call first needs it."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._base: LoadedModel | None = None
        self._generator: Generator | None = None
        self._trainer: Trainer | None = None
        self._verdict: Verdict | None = None
        self.calls: dict[str, Callable[..., Any]] = {
            "open": self.open,
            "check": self.check,
            "try_model": self.try_model,
            "fit": self.fit,
            "references": self.references,
            "plain_scores": self.plain_scores,
            "generate": self.generate,
            "score": self.score,
            "train": self.train,
            "update_policy": self.update_policy,
        }

    def open(self, progress: Progress) -> dict[str, str]:
        """Loads the generator's model and says what it runs on."""
        self._open_generator()
        progress(1)
        name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        return {"torch": torch.__version__, "device": name}

    def references(self, folder: str, progress: Progress) -> References:
        """What another engine must answer; see `probe.served_check`. No model is kept for it."""
        loaded = self._once()
        self._sound(loaded)
        return references(loaded, self._spec.targets, Path(folder), self._spec.chats)

    def plain_scores(self, requests: Sequence[ScoreRequest], progress: Progress) -> list[Scored]:
        """Log-probabilities by the plain libraries. No model is kept for it."""
        return PlainGenerator(self._once()).score(requests, progress)

    def try_model(self, progress: Progress) -> None:
        """Passes if the model can be used. No model stays loaded, nor its memory on a GPU.

        Raises:
            InputError: It cannot, or it lacks a target.
        """
        try:
            self._sound(self._once())
        finally:
            _free()  # A server may be about to start on the same GPU.
        progress(1)

    def check(self, progress: Progress) -> ModelReport:
        """What the model is worth to a run; see `model_check` and `model_report`."""
        loaded = self._once()
        progress(1)
        return model_report(loaded, self._verdict_of(loaded))

    def fit(
        self, prompts: Sequence[GenerateRequest], targets: Sequence[str], progress: Progress
    ) -> dict[str, Any]:
        """The model's context and the lengths of prompts, in tokens; loads no weights.

        Raises:
            InputError: The device is not there, the model lacks a target, or its chat template
                cannot be used.
        """
        spec = self._spec
        # A GPU that another run has filled is there all the same.
        if not (self._device == "cuda" and torch.cuda.is_available()):
            check_device(self._device)
        codec = load_codec(spec.model_path, chat=spec.chat)
        if spec.chats:
            _ = codec.chat.end_id
        if targets:
            check_targets(spec.model_path, targets)
        lengths = [len(encode_prompt(codec, own.prompt, own.chat)) for own in prompts]
        progress(1)
        return {"context": saved_context(spec.model_path), "lengths": lengths}

    def generate(self, requests: Sequence[GenerateRequest], progress: Progress) -> list[Any]:
        """See `engines.Generator.generate`."""
        return self._open_generator().generate(requests, progress)

    def score(self, requests: Sequence[ScoreRequest], progress: Progress) -> list[Scored]:
        """See `engines.Generator.score`."""
        return self._open_generator().score(requests, progress)

    def train(self, jobs: Sequence[TrainJob], out: str, progress: Progress) -> list[TrainedAdapter]:
        """See `engines.Trainer.train`."""
        if self._trainer is None:
            self._trainer = self._new_trainer()
        return self._trainer.train(jobs, Path(out), progress)

    def update_policy(
        self,
        examples: Sequence[TrainRow],
        settings: LoraSettings,
        seed: int,
        out: str,
        parent_adapter: str | None,
        progress: Progress,
    ) -> TrainedAdapter:
        """See `policy_sft.update_policy`; other models leave the memory first."""
        self._close()
        # TRL takes seconds to import, and only this call needs it.
        module = importlib.import_module("seal_core.training.policy_sft")
        loaded = self._load()
        one_by_one = self._sound(loaded).trainer == "plain"
        try:
            return module.update_policy(
                loaded, examples, settings, seed, Path(out), parent_adapter, progress, one_by_one
            )
        finally:
            del loaded
            _free()  # TRL's trainer and the model hold one another.

    def _open_generator(self) -> Generator:
        if self._generator is None:
            loaded = self._shared()
            if self._sound(loaded).generator == "batched":
                self._generator = TransformersGenerator(loaded, self._spec.max_batch_tokens)
            else:
                self._generator = PlainGenerator(loaded)
        return self._generator

    def _new_trainer(self) -> Trainer:
        loaded, spec = self._shared(), self._spec
        verdict = self._sound(loaded)
        section = TypeAdapter(AnyTrainer).validate_python(spec.trainer)
        if isinstance(section, ForeignTrainer):
            return self._foreign_trainer(section, loaded)
        if section.kind == "peft" or verdict.trainer == "plain":
            return PeftTrainer(loaded)
        return BatchedTrainer(
            loaded,
            memory_bytes=spec.memory_bytes,
            pack=verdict.trainer == "packed",
            server_share=spec.server_share,
            sharers=spec.sharers,
        )

    def _foreign_trainer(self, section: ForeignTrainer, loaded: LoadedModel) -> Trainer:
        """Another package's, if it trains as the plain libraries do.

        Raises:
            InputError: It does not; says in what.
            StageError: It fails.
        """
        spec = self._spec
        opened = make_foreign(section).open(loaded, spec.memory_bytes)
        trainer: Trainer = Guarded(opened, section.title)  # pyright: ignore[reportAssignmentType]
        rows = (spec.fill_rows, spec.chats)
        if fault := check_trainer(trainer, self._shared(), spec.targets, *rows):
            raise InputError(f"{section.title} {fault}: use trainer.kind = 'batched'")
        return trainer

    def _sound(self, loaded: LoadedModel) -> Verdict:
        """The verdict on a model that can be used.

        Raises:
            InputError: It cannot, for the reason that is named.
        """
        verdict = self._verdict_of(loaded)
        if verdict.refused:
            raise InputError(
                f"model {loaded.name} is refused: {verdict.refused}; use another one, of a kind "
                "that docs/models.md lists, or other targets"
            )
        return verdict

    def _verdict_of(self, loaded: LoadedModel) -> Verdict:
        if self._verdict is None:
            spec = self._spec
            digest = spec.files.digest if spec.files else ""
            files = VerdictFiles(digest, spec.verdicts, spec.verdict_record)
            self._verdict = known_verdict(loaded, spec.targets, files, spec.fill_rows)
        return self._verdict

    def _shared(self) -> LoadedModel:
        """The model for an engine that stays; all such engines hold its weights once."""
        if self._base is None:
            self._base = self._load()
        return self._base.twin()

    def _once(self) -> LoadedModel:
        """The model for one call: with the weights that are there, if they are."""
        return self._base.twin() if self._base is not None else self._load()

    def _load(self) -> LoadedModel:
        spec = self._spec
        loaded = load_model(spec.model_path, device=self._device, dtype=spec.dtype, chat=spec.chat)
        if spec.files is not None:
            spec.files.check()
        if spec.server_share and loaded.device.type == "cuda":
            targets = LinearLayers(loaded.model).resolve(spec.targets)
            total = torch.cuda.mem_get_info(loaded.device)[1]
            check_room(model_bytes(loaded.model, targets), total, spec.server_share)
            # The server's memory is not for us, not even while it does not run.
            torch.cuda.set_per_process_memory_fraction(1 - spec.server_share, loaded.device)
        return loaded

    @property
    def _device(self) -> str:
        """The parent made the wanted GPU the only one, which is number 0 here."""
        return "cuda" if self._spec.device.startswith("cuda:") else self._spec.device

    def _close(self) -> None:
        for engine in (self._generator, self._trainer):
            if engine is not None:
                engine.close()
        self._generator = self._trainer = self._base = None
        _free()


def _free() -> None:
    """Gives back the memory of models that are not in use any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main() -> None:
    """Serves the socket whose descriptor and spec stand on the command line."""
    descriptor, parent = int(sys.argv[-2]), int(sys.argv[-1])
    connection = socket.socket(fileno=descriptor)
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, parent, inbox), daemon=True).start()
    spec: EngineSpec = inbox.get()["spec"]
    torch.set_num_threads(spec.threads)
    engines: Engines | None = None
    while True:
        message = inbox.get()
        try:
            engines = engines or Engines(spec)
            wire.send(connection, {"result": _answer(engines, message, connection)})
        except SealError as error:
            wire.send(connection, {"error": type(error).__name__, "message": str(error)})
        except Exception as error:
            traceback.print_exc()
            # An unforeseen failure may leave a device unusable: the parent ends this process.
            text = f"{type(error).__name__}: {error}{_advice(error)}"
            wire.send(connection, {"error": "fatal", "message": text})


def _answer(engines: Engines, message: dict[str, Any], connection: socket.socket) -> Any:
    call = engines.calls.get(message["call"])
    if call is None:
        raise InputError(f"{message['call']!r} is no call of an engine")
    return call(**message["payload"], progress=lambda n: wire.send(connection, {"progress": n}))


def _listen(
    connection: socket.socket, parent: int, inbox: queue.SimpleQueue[dict[str, Any]]
) -> None:
    """Passes messages on, and ends everything as soon as the parent is gone.

    A thread of its own, since the main one may be deep in a long call. The kernel's
    parent-death signal would not do: it fires when the parent's starting *thread* ends.
    """
    try:
        while os.getppid() == parent:
            ready, _, _ = select.select([connection], [], [], _ORPHAN_CHECK_SECONDS)
            if ready:
                message = wire.receive(connection)
                if message is None:
                    break
                inbox.put(message)
    finally:
        # Also when the connection was reset: the parent was killed before it read our answer.
        _end_group()


def _end_group() -> None:
    if os.getpgid(0) == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _advice(error: Exception) -> str:
    if isinstance(error, torch.OutOfMemoryError):
        return "; lower execution.max_batch_tokens, or use fewer engines per device"
    return ""
