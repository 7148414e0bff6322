"""Files in a bucket of S3 or of a server that speaks its protocol.

One PUT replaces an object whole, so nothing is renamed; what only one process may do is a PUT
under a condition (`If-None-Match`, `If-Match`). Endpoint and credentials come from the environment
(`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, … or a profile), as botocore reads them, and are kept
nowhere else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from s3fs import S3FileSystem

from seal_core.errors import InputError, StoreConnectionError
from storage.files.base import Entry, Objects, Stamp, check_inside
from storage.files.object_errors import CONFLICT, FAILURES, REFUSED, error_code, explain

SCHEME = "s3://"
_CONNECT_SECONDS = 5
_READ_SECONDS = 30
_PROBE_SECONDS = 10
_ATTEMPTS = 6  # With botocore's growing pauses: a server may be gone for 15 s.
_CONNECTIONS = 32
_CONFLICT_TRIES = 5


class ObjectFiles(Objects):
    """A bucket, or what is below a prefix in it."""

    def __init__(self, root: str, client: S3FileSystem) -> None:
        """Args: root: `s3://bucket/prefix`, without a slash at the end."""
        self._root = root
        self._client: Any = client  # Its methods are made at run time.
        self._base = root.removeprefix(SCHEME)
        self._bucket, _, self._prefix = self._base.partition("/")

    @property
    def root(self) -> str:
        return self._root

    def exists(self, path: str) -> bool:
        with self._explained():
            return bool(self._client.exists(self._key(path)))

    def read(self, path: str) -> bytes:
        with self._explained():
            return self._client.cat_file(self._key(path), max_concurrency=1)

    def write(self, path: str, data: bytes) -> None:
        with self._explained():
            self._client.pipe_file(self._key(path), data)

    def create(self, path: str, data: bytes) -> bool:
        return self._put_if(path, data, mode="create")

    def swap(self, path: str, data: bytes, version: str) -> bool:
        if not version:
            return self.create(path, data)
        return self._put_if(path, data, IfMatch=version)

    def link(self, source: str, target: str) -> None:
        # The server copies.
        with self._explained():
            self._client.cp_file(self._key(source), self._key(target))

    def glob(self, pattern: str) -> list[str]:
        return [entry.path for entry in self.entries(pattern)]

    def versions(self, pattern: str) -> dict[str, str]:
        return {entry.path: entry.version for entry in self.entries(pattern)}

    def delete(self, path: str) -> None:
        with self._explained():
            self._client.rm_file(self._key(path))

    def delete_many(self, paths: Sequence[str]) -> None:
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            list(pool.map(self.delete, paths))

    def entries(self, pattern: str) -> list[Entry]:
        literal = re.split(r"[*?]", pattern, maxsplit=1)[0]
        matches = re.compile(_to_regex(pattern)).fullmatch
        with self._explained():
            found = self._client.find(self._bucket, prefix=self._prefixed(literal), detail=True)
        entries = (self._entry(info) for info in found.values())
        return sorted((e for e in entries if matches(e.path)), key=lambda entry: entry.path)

    def first(self) -> str | None:
        prefix = self._prefixed("")
        with self._explained():
            page = self._call("list_objects_v2", Prefix=prefix, MaxKeys=1)
        found = page.get("Contents", [])
        return found[0]["Key"].removeprefix(prefix) if found else None

    def stamp(self, path: str) -> Stamp | None:
        try:
            with self._explained():
                head = self._call("head_object", Key=self._prefixed(path))
        except FileNotFoundError:
            return None
        date = head["ResponseMetadata"]["HTTPHeaders"]["date"]
        age = (parsedate_to_datetime(date) - head["LastModified"]).total_seconds()
        return Stamp(head["ETag"], max(age, 0.0), head.get("Metadata", {}))

    def read_range(self, path: str, start: int, end: int) -> bytes:
        with self._explained():
            return self._client.cat_file(self._key(path), start=start, end=end, max_concurrency=1)

    def read_many(self, paths: Sequence[str]) -> list[bytes]:
        keys = [self._key(path) for path in paths]
        with self._explained():
            # One connection each, which saves asking for the size first.
            return self._client.cat_ranges(
                keys, None, None, batch_size=_CONNECTIONS, on_error="raise", max_concurrency=1
            )

    def upload(self, path: str, source: Path, metadata: Mapping[str, str]) -> None:
        with self._explained():
            self._client.put_file(str(source), self._key(path), Metadata=dict(metadata))

    def download(self, path: str, target: Path) -> None:
        with self._explained():
            self._client.get_file(self._key(path), str(target))

    def _put_if(self, path: str, data: bytes, **condition: str) -> bool:
        for attempt in range(_CONFLICT_TRIES):
            try:
                self._client.pipe_file(self._key(path), data, **condition)
            except FAILURES as error:
                code = error_code(error)
                if isinstance(error, FileExistsError) or code in REFUSED:
                    return False
                if code not in CONFLICT:
                    raise explain(error, self.root) from None
                time.sleep(0.1 * 2**attempt)
            else:
                return True
        return False

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        return self._client.call_s3(operation, Bucket=self._bucket, **arguments)

    def _key(self, path: str) -> str:
        return f"{self._bucket}/{self._prefixed(path)}"

    def _prefixed(self, path: str) -> str:
        check_inside(path)
        return f"{self._prefix}/{path}" if self._prefix else path

    def _entry(self, info: Mapping[str, Any]) -> Entry:
        path = info["name"].removeprefix(f"{self._base}/")
        return Entry(path, info["size"], info["ETag"], info["LastModified"])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            # Without the cause: a traceback would show the endpoint.
            raise explain(error, self.root) from None


def connect(root: str) -> ObjectFiles:
    """Opens a bucket, and checks that it can be listed; takes half a minute at most.

    Raises:
        InputError: no credentials, no such bucket, no answer; with the fix.
    """
    probe = ObjectFiles(root, _client(_PROBE_SECONDS, attempts=2))
    try:
        probe.first()
    except StoreConnectionError as error:
        raise InputError(str(error)) from None
    except FileNotFoundError:
        raise InputError(
            f"store {root}: the endpoint answers, but not as S3 does: check AWS_ENDPOINT_URL"
        ) from None
    return ObjectFiles(root, _client(_READ_SECONDS, _ATTEMPTS))


def _client(read_seconds: int, attempts: int) -> S3FileSystem:
    client = S3FileSystem(
        anon=False,
        use_listings_cache=False,
        skip_instance_cache=True,
        config_kwargs={
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": read_seconds,
            "max_pool_connections": _CONNECTIONS,
            "retries": {"mode": "standard", "total_max_attempts": attempts},
        },
    )
    client.retries = 1 if attempts <= 2 else 3
    return client


def _to_regex(pattern: str) -> str:
    wild = {"*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(char) or re.escape(char) for char in pattern)
