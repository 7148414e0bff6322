"""Keeps joined adapters on disk for servers, which apply a single one per request."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from seal_core.errors import EngineError, InputError
from seal_core.models.files.adapter_files import CONFIG_FILE, WEIGHTS_FILE, write_adapter
from seal_core.models.files.joined_adapter import join
from seal_core.models.model_shapes import Shapes


@dataclass(slots=True)
class ServedAdapter:
    """A joined adapter on disk.

    Attributes:
        name: Unique among all that a server has, and of this content alone: a server may keep
            what it computed under a name.
        users: Requests' groups that need its folder.
    """

    name: str
    path: Path
    users: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class AdapterShelf:
    """The joined adapters that are in use, in one folder that servers can read."""

    def __init__(self, folder: Path, shapes: Shapes, max_rank: int) -> None:
        self._folder = folder
        self._shapes = shapes
        self._max_rank = max_rank
        self._owner = secrets.token_hex(4)
        self._adapters: dict[str, ServedAdapter] = {}

    @asynccontextmanager
    async def hold(self, paths: tuple[str, ...]) -> AsyncIterator[ServedAdapter]:
        """The joined adapter of a stack; its files go when the last holder lets go.

        An empty stack is an adapter of zeros.

        Raises:
            InputError: One of the adapters cannot be read, or is not for this model.
        """
        name = f"seal-{self._owner}-{await asyncio.to_thread(_content_digest, paths)}"
        adapter = self._adapters.setdefault(name, ServedAdapter(name, self._folder / name))
        adapter.users += 1
        try:
            async with adapter.lock:
                if not adapter.path.exists():
                    await asyncio.to_thread(self._write, paths, adapter.path)
            yield adapter
        finally:
            adapter.users -= 1
            if not adapter.users:
                del self._adapters[name]
                shutil.rmtree(adapter.path, ignore_errors=True)

    def _write(self, paths: tuple[str, ...], out: Path) -> None:
        weights = join(paths, self._shapes) if paths else _zeros(self._shapes)
        rank = next(iter(weights.values()))[0].shape[0]
        if rank > self._max_rank:
            raise InputError(
                f"adapter {' + '.join(paths)} has rank {rank}, and the server was started for "
                f"{self._max_rank}: raise --max-lora-rank"
            )
        try:
            write_adapter(out, weights, float(rank), 0.0, "", sorted(weights))
        except OSError as error:
            raise EngineError(
                f"cannot write an adapter for the vLLM server: {error}: free {out.parent}, lower "
                "engine.adapter_slots, or set engine.adapter_folder"
            ) from error


def _zeros(shapes: Shapes) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The base model as an adapter: what is not in it is zero as well."""
    module, (n_out, n_in) = next(iter(shapes.items()))
    return {module: (torch.zeros(1, n_in), torch.zeros(n_out, 1))}


def _content_digest(paths: tuple[str, ...]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for path in paths:
        for name in (CONFIG_FILE, WEIGHTS_FILE):
            try:
                data = (Path(path) / name).read_bytes()
            except OSError as error:
                raise InputError(f"adapter {path}: cannot read {name}: {error}") from error
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
