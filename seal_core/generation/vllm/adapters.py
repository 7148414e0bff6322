"""Makes one adapter of a stack of adapters, for servers that apply a single one per request.

`b1 a1 + b2 a2` is `[b1 b2] [a1; a2]`: the joined adapter has rank r1 + r2, with zeros where
only one of the two targets a module, and the scales folded into B.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from seal_core.errors import EngineError, InputError
from seal_core.models.files.adapter_files import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    LoraPair,
    read_adapter,
    write_adapter,
)
from seal_core.models.model_shapes import Shapes

_LARGEST = 1e6
"""No training that went well ends above it. Numbers that overflow in one request of a server have
been seen to make those of later ones NaN."""


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


def join(
    paths: tuple[str, ...], shapes: Shapes | None = None
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """`(A [rank, in], B [out, rank])` by module, float32, of rank = alpha.

    Raises:
        InputError: One of the adapters cannot be read, holds NaN, or does not fit the shapes.
    """
    stack = [read_adapter(path) for path in paths]
    for path, pairs in zip(paths, stack, strict=True):
        _check(path, pairs, shapes or {})
    ranks = [max(pair.a.shape[0] for pair in pairs.values()) for pairs in stack]
    joined = {}
    for module in sorted({module for pairs in stack for module in pairs}):
        sample = next(pairs[module] for pairs in stack if module in pairs)
        parts = [
            _padded(pairs.get(module), sample, rank)
            for pairs, rank in zip(stack, ranks, strict=True)
        ]
        joined[module] = (
            torch.cat([a for a, _ in parts], dim=0),
            torch.cat([b for _, b in parts], dim=1),
        )
    return joined


def _check(path: str, pairs: Mapping[str, LoraPair], shapes: Shapes) -> None:
    if not pairs:
        raise InputError(f"adapter {path} holds no weights")
    # A checkpoint may name all its modules otherwise than the library does.
    comparable = any(module in shapes for module in pairs)
    for module, pair in pairs.items():
        largest = max(float(pair.a.abs().max()), float(pair.b.abs().max()))
        if not largest <= _LARGEST:
            raise InputError(
                f"adapter {path} holds weights of {largest:g}, NaN or infinite: it diverged"
            )
        shape = (pair.b.shape[0], pair.a.shape[1])
        # A server may take a smaller adapter, or leave a layer out, and answer wrongly.
        if comparable and module not in shapes:
            raise InputError(
                f"adapter {path} targets {module}, which is no linear layer below the head of "
                "this model: vLLM is not asked to adapt anything else"
            )
        if comparable and tuple(shapes[module]) != shape:
            raise InputError(f"adapter {path} does not fit {module}: made for another model")


def _zeros(shapes: Shapes) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The base model as an adapter: what is not in it is zero as well."""
    module, (n_out, n_in) = next(iter(shapes.items()))
    return {module: (torch.zeros(1, n_in), torch.zeros(n_out, 1))}


def _padded(
    pair: LoraPair | None, sample: LoraPair, rank: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One adapter's part of a module, filled up to `rank` with zeros."""
    a = torch.zeros(rank, sample.a.shape[1])
    b = torch.zeros(sample.b.shape[0], rank)
    if pair is not None:
        own = pair.a.shape[0]
        a[:own] = pair.a
        b[:, :own] = pair.b.double() * pair.scale  # rounded once, after the scale
    return a, b


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
