"""The Generator that answers with vLLM servers: one of its own, or some that run already."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import copy
import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from seal_core.engines import GenerateRequest, Generation, Progress, Scored, ScoreRequest
from seal_core.errors import EngineError
from seal_core.generation.requests import failed_generation
from seal_core.generation.vllm.adapters import AdapterShelf, ServedAdapter
from seal_core.generation.vllm.link import Link
from seal_core.generation.vllm.memory_folder import MemoryFolder
from seal_core.generation.vllm.options import KEY_VARIABLE, Served, VllmOptions, served_rank
from seal_core.generation.vllm.requests import Texts
from seal_core.generation.vllm.server import VllmServer
from seal_core.generation.vllm.wave import Job, Wave
from seal_core.models.model_shapes import linear_shapes, target_names
from seal_core.models.text.tokenizers import right_below
from seal_core.places import user_path

_CLOSE_SECONDS = 30.0
T = TypeVar("T")


class VllmGenerator:
    """See `engines.Generator`; several threads may call it at once.

    Nothing is started before the first call. All requests of a call are on their way together;
    the server batches them.

    Args:
        log_dir: Folder of the log of a server of our own, `vllm.log`.
        timeout: Seconds for one call, the server's start included; None for no limit.

    Raises:
        InputError: The model's tokenizer or weights cannot be read.
    """

    def __init__(self, options: VllmOptions, log_dir: Path, timeout: float | None = None) -> None:
        self._timeout = timeout
        self._texts = Texts(options.model_path, options.chat)
        limit = right_below(options.model_path)
        if limit is not None:
            # vLLM takes the stretched positions of long texts for short ones too, if it may be
            # asked for long ones.
            wanted = options.max_model_len or limit
            options = dataclasses.replace(options, max_model_len=min(wanted, limit))
        shapes = linear_shapes(options.model_path)
        parent = user_path(options.adapter_folder).absolute() if options.adapter_folder else None
        self._folder = MemoryFolder(parent)
        self._shelf = AdapterShelf(self._folder.path, shapes, served_rank(options.max_rank))
        self._server: VllmServer | None = None
        if not options.servers:
            self._server = VllmServer(
                options, target_names(shapes), self._folder.path, log_dir / "vllm.log"
            )
        self._links = _links(options, self._server)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm", daemon=True)
        self._thread.start()
        self._calls: set[concurrent.futures.Future[Any]] = set()
        self._closed = threading.Event()
        self._closing = threading.Lock()
        atexit.register(self.close)

    def generate(
        self, requests: Sequence[GenerateRequest], progress: Progress | None = None
    ) -> list[Generation]:
        """One result per request, in the order of the requests."""
        jobs = [self._generate_job(request) for request in requests]
        self._run(jobs, progress)
        return [job.result for job in jobs]

    def score(
        self, requests: Sequence[ScoreRequest], progress: Progress | None = None
    ) -> list[Scored]:
        """One result per request, in the order of the requests."""
        jobs = [self._score_job(request) for request in requests]
        self._run(jobs, progress)
        return [job.result for job in jobs]

    def servers(self) -> list[Served]:
        """Each server, to be asked alone.

        A server of our own is always started with the same model, so its lives are one.

        Raises:
            EngineError: One cannot be reached.
        """
        lives = [0] if self._server else self._outcome(self._submit(self._lives()))
        return [
            Served(link.url, life, self._alone(link))
            for link, life in zip(self._links, lives, strict=True)
        ]

    def close(self) -> None:
        """Ends the server and removes the adapters; calls under way raise `EngineError`."""
        with self._closing:
            if self._closed.is_set():
                return
            self._closed.set()
        atexit.unregister(self.close)
        # The calls first: one that saw its server die would start another.
        for call in list(self._calls):
            call.cancel()
        if self._server is not None:
            self._server.close()
        shut = asyncio.run_coroutine_threadsafe(self._shut(), self._loop)
        # A server that is not ours may not answer; its adapters then stay, their files do not.
        concurrent.futures.wait([shut], _CLOSE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            self._loop.close()
        self._folder.close()

    async def _lives(self) -> list[int]:
        async with self._shelf.hold(()) as zeros:
            mark = ServedAdapter(f"{zeros.name}-mark", zeros.path)
            return [await link.life(mark) for link in self._links]

    def _alone(self, link: Link) -> VllmGenerator:
        """The same engine, with one of its servers only."""
        alone = copy.copy(self)
        alone._links = [link]
        return alone

    def _generate_job(self, request: GenerateRequest) -> Job:
        texts = self._texts
        return Job(
            adapters=request.adapters,
            write=lambda context: texts.completion(request, context),
            read=lambda written, answer: texts.generation(request, written, answer),
            fail=lambda error: failed_generation(request, error),
        )

    def _score_job(self, request: ScoreRequest) -> Job:
        texts = self._texts
        return Job(
            adapters=request.adapters,
            write=lambda context: texts.scoring(request, context),
            read=lambda written, answer: texts.scored(request, written, answer),
            fail=lambda error: Scored(request.request_id, None, 0, error),
        )

    def _run(self, jobs: Sequence[Job], progress: Progress | None) -> None:
        """Runs the jobs on the loop's thread, and reports progress on this one."""
        counts: queue.SimpleQueue[int] = queue.SimpleQueue()
        wave = Wave(self._links, self._shelf, counts.put)
        call = self._submit(wave.run(jobs))
        call.add_done_callback(lambda _: counts.put(0))

        def watch() -> None:
            while n := counts.get():
                if progress is not None:
                    progress(n)

        self._outcome(call, watch)

    def _submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        with self._closing:
            if self._closed.is_set():
                work.close()
                raise EngineError("the vLLM engine is closed")
            call = asyncio.run_coroutine_threadsafe(self._limited(work), self._loop)
            self._calls.add(call)
        return call

    def _outcome(
        self, call: concurrent.futures.Future[T], watch: Callable[[], None] = lambda: None
    ) -> T:
        try:
            watch()
            return call.result()
        except concurrent.futures.CancelledError:
            raise EngineError("the vLLM engine was closed") from None
        finally:
            call.cancel()
            self._calls.discard(call)

    async def _limited(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await work
        except TimeoutError:
            raise EngineError(f"a vLLM call was ended after {self._timeout:g} s") from None

    async def _shut(self) -> None:
        """Lets the cancelled calls unwind, then closes the connections."""
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.gather(*others, return_exceptions=True)
        for link in self._links:
            await link.close()


def _links(options: VllmOptions, server: VllmServer | None) -> list[Link]:
    key = os.environ.get(KEY_VARIABLE, "")
    urls = [url.rstrip("/") for url in options.servers] or [""]
    return [Link(url, key, options.request_timeout, options.adapter_slots, server) for url in urls]
