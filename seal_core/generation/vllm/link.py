"""Keeps the connection to one server over its deaths: sessions, adapters loaded, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from seal_core.errors import EngineError
from seal_core.generation.vllm.adapters import ServedAdapter
from seal_core.generation.vllm.client import RequestRefused, ServerGone, VllmClient
from seal_core.generation.vllm.server import VllmServer

_UNLOAD_SECONDS = 5.0


class Session:
    """One life of a server: what it serves, and the adapters that are loaded now.

    Attributes:
        number: Counts the lives of this link's server.
        base: The name under which it serves the base model.
        context: Longest sequence that it takes, in tokens.
        mixes_base: Whether the base model may be asked beside adapters. On a CPU, vLLM 0.32 gives
            such requests the adapter in its last slot; an adapter of zeros is asked instead.
    """

    def __init__(
        self, number: int, client: VllmClient, base: str, context: int, mixes_base: bool
    ) -> None:
        self.number = number
        self.client = client
        self.base = base
        self.context = context
        self.mixes_base = mixes_base
        self._users: dict[str, int] = {}
        self._lost: set[str] = set()
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def loaded(self, adapter: ServedAdapter) -> AsyncIterator[str]:
        """Loads an adapter for the first user, and unloads it after the last.

        Raises:
            RequestRefused: The server does not take the adapter.
            ServerGone: It died.
        """
        async with self._lock:
            if not self._users.get(adapter.name) or adapter.name in self._lost:
                await self._load(adapter)
                self._lost.discard(adapter.name)
            self._users[adapter.name] = self._users.get(adapter.name, 0) + 1
        try:
            yield adapter.name
        finally:
            async with self._lock:
                self._users[adapter.name] -= 1
                if not self._users[adapter.name]:
                    del self._users[adapter.name]
                    self._lost.discard(adapter.name)
                    await self.unload(adapter.name)

    async def unload(self, name: str) -> None:
        """Takes an adapter from the server, if it answers.

        A server that is gone has nothing to unload, and one that hangs must not hold up the end of
        a call; the next request meets either.
        """
        with suppress(RequestRefused, ServerGone, TimeoutError):
            async with asyncio.timeout(_UNLOAD_SECONDS):
                await self._post("unload", {"lora_name": name})

    def lose(self, name: str) -> None:
        """Notes that the server no longer has an adapter: its next user loads it again."""
        self._lost.add(name)

    async def mark(self, adapter: ServedAdapter) -> bool:
        """Loads an adapter that stays, unless the server has it; whether it had.

        Raises:
            RequestRefused: The server does not take the adapter.
            ServerGone: It died.
        """
        cards = (await self.client.get("/v1/models"))["data"]
        if adapter.name in {card["id"] for card in cards}:
            return True
        await self._load(adapter)
        return False

    async def _load(self, adapter: ServedAdapter) -> None:
        try:
            await self._post("load", {"lora_name": adapter.name, "lora_path": str(adapter.path)})
        except RequestRefused as error:
            # The name is of this content and owner alone, so what is there is the same: an
            # answer to an earlier attempt was lost.
            if "already been loaded" not in str(error):
                raise

    async def _post(self, verb: str, body: dict[str, Any]) -> None:
        await self.client.post(f"/v1/{verb}_lora_adapter", body)


class Link:
    """A server of ours, or one that runs already.

    Args:
        server: Started when it is first needed; None for a server that is not ours.
        slots: Adapters in flight at once.
    """

    def __init__(
        self, url: str, key: str, timeout: float, slots: int, server: VllmServer | None = None
    ) -> None:
        self.url, self._key = url, key
        self._timeout = timeout
        self._server = server
        self._session: Session | None = None
        # A dead session's client may still be in use by other calls, so all close at the end.
        self._clients: list[VllmClient] = []
        self._lock = asyncio.Lock()
        self._lives = 0
        self._mark: ServedAdapter | None = None
        self.slots = asyncio.Semaphore(slots)

    async def session(self) -> Session:
        """The server's current life, started if there is none.

        Raises:
            EngineError: It does not start, or cannot be reached.
        """
        async with self._lock:
            if self._session is None:
                self._session = await self._open(0)
            return self._session

    async def revive(self, dead: Session, reason: str) -> None:
        """Restarts our server unless that was done since `dead` was opened.

        Raises:
            EngineError: It does not start, or is not ours.
        """
        async with self._lock:
            if self._session is not dead:
                return
            if self._server is None:
                # It may be back when the shard is tried again.
                self._session = None
                raise EngineError(f"the vLLM server {self.url} failed: {reason}")
            self._session = await self._open(dead.number + 1)

    async def life(self, mark: ServedAdapter) -> int:
        """Counts the lives of a server that is not ours: one without the mark was restarted.

        Raises:
            EngineError: The server cannot be reached, or does not take the mark.
        """
        session = await self.session()
        async with self._lock:
            try:
                self._lives += not await session.mark(mark)
            except (RequestRefused, ServerGone, KeyError, TypeError) as error:
                raise EngineError(f"the vLLM server {self.url} failed: {error}") from error
            self._mark = mark
            return self._lives

    def describe_end(self, reason: str) -> str:
        """What happened to the server, for an error's message."""
        own = "" if self._server is None else f"; {self._server.describe_end()}"
        return f"the vLLM server failed twice in one call: {reason}{own}"

    async def close(self) -> None:
        """Closes the connections; the server is its owner's to close."""
        if self._session is not None and self._mark is not None:
            await self._session.unload(self._mark.name)
        for client in self._clients:
            await client.close()

    async def _open(self, number: int) -> Session:
        server = self._server
        if server is None:
            client = VllmClient(self.url, self._key, self._timeout)
        else:
            await asyncio.to_thread(server.start)
            life = server.lives
            client = VllmClient(
                server.url,
                server.api_key,
                self._timeout,
                lambda: server.lives == life and server.running,
                is_local=True,
            )
        self._clients.append(client)
        try:
            base, context = await _base_model(client)
        except (RequestRefused, ServerGone) as error:
            raise EngineError(f"the vLLM server {client.url} does not answer: {error}") from error
        # Of a server that is not ours it is not known what it runs on.
        mixes_base = server is not None and server.on_gpu
        return Session(number, client, base, context, mixes_base)


async def _base_model(client: VllmClient) -> tuple[str, int]:
    """Name and context of the model that is no adapter."""
    answer = await client.get("/v1/models")
    try:
        card = next(card for card in answer["data"] if not card.get("parent"))
        return card["id"], int(card["max_model_len"])
    except (StopIteration, KeyError, TypeError, ValueError) as error:
        raise RequestRefused(0, f"/v1/models lists no base model: {error!r}") from error
