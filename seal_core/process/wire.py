"""Carries messages between a process and its engine: JSON, with a length in front.

Plain data only: nothing that arrives can run code, and a message can be read in a debugger. The
frames are our own, since those of `multiprocessing.connection` know no timeout within a message,
where an engine that hangs would keep the run.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
from pathlib import Path
from typing import Any

from seal_core.engines import (
    ChatSettings,
    GenerateRequest,
    Generation,
    LoraSettings,
    Scored,
    ScoreRequest,
    TrainedAdapter,
    TrainJob,
    TrainRow,
)
from seal_core.models.files.model_digest import ModelFiles
from seal_core.probe.reference_scores import Asked, References
from seal_core.probe.verdict import Comparison, ModelReport, Verdict
from seal_core.process.spec import EngineSpec

_TYPE = "@"
_TYPES: dict[str, type[Any]] = {
    cls.__name__: cls
    for cls in (
        Asked,
        ChatSettings,
        Comparison,
        EngineSpec,
        GenerateRequest,
        Generation,
        LoraSettings,
        ModelFiles,
        ModelReport,
        References,
        Scored,
        ScoreRequest,
        TrainJob,
        TrainRow,
        TrainedAdapter,
        Verdict,
    )
}
_LENGTH = struct.Struct(">Q")


def pack(value: Any) -> Any:
    """The value as plain JSON data; our own frozen dataclasses keep their name.

    Raises:
        TypeError: for an object that is not one of them.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [pack(item) for item in value]
    if isinstance(value, dict):
        return {key: pack(item) for key, item in value.items()}
    name = type(value).__name__
    if _TYPES.get(name) is not type(value):
        raise TypeError(f"a {name} cannot be sent to an engine")
    fields = {f.name: pack(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return {_TYPE: name, **fields}


def unpack(data: Any) -> Any:
    """The value that was packed; lists inside a dataclass come back as tuples."""
    if isinstance(data, list):
        return [unpack(item) for item in data]
    if not isinstance(data, dict):
        return data
    fields = {key: unpack(item) for key, item in data.items() if key != _TYPE}
    if _TYPE not in data:
        return fields
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return _TYPES[data[_TYPE]](**frozen)


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Sends one message whole.

    Raises:
        OSError: The other side is gone.
    """
    body = json.dumps(pack(message)).encode()
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """The next message; None when the other side closed the connection.

    Raises:
        TimeoutError: Nothing came within the connection's timeout.
        OSError: The connection broke.
    """
    head = _read(connection, _LENGTH.size)
    if head is None:
        return None
    body = _read(connection, _LENGTH.unpack(head)[0])
    return None if body is None else unpack(json.loads(body))


def _read(connection: socket.socket, n_bytes: int) -> bytes | None:
    parts: list[bytes] = []
    while n_bytes > 0:
        part = connection.recv(min(n_bytes, 1 << 20))
        if not part:
            return None
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)
