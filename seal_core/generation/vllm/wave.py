"""Puts the requests of one call to the servers all together, and sees them through deaths."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from seal_core.errors import EngineError, InputError
from seal_core.generation.vllm.adapters import AdapterShelf
from seal_core.generation.vllm.client import RequestRefused, ServerGone
from seal_core.generation.vllm.link import Link, Session
from seal_core.generation.vllm.requests import BadAnswer, Written

_RELOADS = 3
_NOT_FOUND = 404


class _AdapterLost(Exception):
    """The server works, but no longer has the adapter: it was restarted by someone else."""


@dataclass(slots=True)
class Job:
    """One request on its way.

    Attributes:
        write: Writes it for a server's context, in tokens; may raise `InputError`.
        read: Makes the result of what was written and the answer; may raise `BadAnswer`.
        fail: Makes the result of an error.
        result: None until it is done.
    """

    adapters: tuple[str, ...]
    write: Callable[[int], Written]
    read: Callable[[Written, Any], Any]
    fail: Callable[[str], Any]
    result: Any = None


@dataclass(slots=True)
class Wave:
    """The requests of one call.

    Attributes:
        done: Called with the number of requests finished since the last call.
    """

    links: Sequence[Link]
    shelf: AdapterShelf
    done: Callable[[int], None]
    _deaths: dict[Link, set[int]] = field(default_factory=dict)

    async def run(self, jobs: Sequence[Job]) -> None:
        """Gives every job its result.

        Raises:
            EngineError: A server died twice, or one that is not ours failed.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for link, part in _spread(jobs, self.links):
                    group.create_task(self._serve(link, part))
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _serve(self, link: Link, jobs: Sequence[Job]) -> None:
        """Requests of one stack on one server, again after its death until all are done."""
        lost = 0
        while pending := [job for job in jobs if job.result is None]:
            async with link.slots:
                session = await link.session()
                try:
                    await self._ask_all(session, pending)
                    continue
                except InputError as error:
                    self._fail(pending, str(error))
                    continue
                except RequestRefused as error:
                    self._fail(pending, f"the vLLM server refused the adapter: {error}")
                    continue
                except ServerGone as error:
                    reason = str(error)
                except _AdapterLost as error:
                    lost += 1
                    if lost > _RELOADS:
                        raise EngineError(f"a vLLM server keeps losing adapters: {error}") from None
                    continue
            await self._mourn(link, session, reason)

    async def _mourn(self, link: Link, session: Session, reason: str) -> None:
        deaths = self._deaths.setdefault(link, set())
        deaths.add(session.number)
        if len(deaths) > 1:
            raise EngineError(link.describe_end(reason))
        await link.revive(session, reason)

    async def _ask_all(self, session: Session, jobs: Sequence[Job]) -> None:
        """Asks all at once; what was answered before a death stays answered."""
        async with self._model(session, jobs[0].adapters) as model:
            asked = [self._ask(session, model, job) for job in jobs]
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    @asynccontextmanager
    async def _model(self, session: Session, adapters: tuple[str, ...]) -> AsyncIterator[str]:
        if not adapters and session.mixes_base:
            yield session.base
            return
        async with self.shelf.hold(adapters) as adapter, session.loaded(adapter) as name:
            yield name

    async def _ask(self, session: Session, model: str, job: Job) -> None:
        try:
            written = job.write(session.context)
            body = {**written.body, "model": model}
            job.result = job.read(written, await session.client.post("/v1/completions", body))
        except BadAnswer as error:
            raise ServerGone(str(error)) from error
        except InputError as error:
            job.result = job.fail(str(error))
        except RequestRefused as error:
            if error.status == _NOT_FOUND and model != session.base:
                session.lose(model)
                raise _AdapterLost(str(error)) from error
            job.result = job.fail(f"the vLLM server refused the request: {error}")
        self.done(1)

    def _fail(self, jobs: Sequence[Job], error: str) -> None:
        for job in jobs:
            job.result = job.fail(error)
        self.done(len(jobs))


def _spread(jobs: Sequence[Job], links: Sequence[Link]) -> list[tuple[Link, list[Job]]]:
    """Each stack's requests in parts that leave every server about the same number."""
    share = math.ceil(len(jobs) / len(links))
    load = dict.fromkeys(links, 0)
    stacks: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        stacks.setdefault(job.adapters, []).append(job)
    parts = []
    for stack in stacks.values():
        for start in range(0, len(stack), share):
            part = stack[start : start + share]
            link = min(links, key=load.__getitem__)
            load[link] += len(part)
            parts.append((link, part))
    return parts


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    """An EngineError if there is one: it says best what happened."""
    error: BaseException = errors.subgroup(EngineError) or errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
