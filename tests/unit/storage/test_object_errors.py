"""What can be wrong with a store in object storage: one line each, soon, without a secret.

1. URLs that name no place for a store, and what is not installed.
2. Credentials: none, unknown, a profile that is not there, without the right to write.
3. Bucket missing; endpoint missing, silent, no URL, or no S3 server; no wait is without end.
4. Neither endpoint nor credentials get into the store, the cache or a message.
5. A full disk of this machine is not the endpoint's fault.
6. A place where nothing is yet is a new one, and no other.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from flows.views.store_health import disk_check, store_check
from seal_core.errors import InputError, StoreConnectionError
from storage.files import objects as object_files
from storage.files.object_errors import explain
from storage.files.roots import cache_root, local_state_root, open_files
from storage.runs.leases import run_lease
from storage.sql.catalog import Catalog
from storage.store import Store
from tests.s3_server import KEY, SECRET, S3Server, s3_server
from tests.unit.storage.rows import SCORE, put
from tests.unit.storage.test_weights import adapter


def refused(root: str) -> str:
    """The one line with which a store is refused."""
    with pytest.raises(InputError) as caught:
        Store.open(root)
    message = str(caught.value)
    assert "\n" not in message and "127.0.0.1" not in message
    assert KEY not in message and SECRET not in message
    check = store_check(root)
    assert check.state == "fail" and check.found == message and check.fix
    return message


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://", "no bucket name"),
        ("s3:///x", "no bucket name"),
        ("s3://b/x", "no bucket name"),
        ("s3://bucket/../x", "prefix"),
        ("s3://bucket/a//b", "prefix"),
        ("s3://bucket/a?versionId=1", "prefix"),
        ("s3://bucket/a\nb", "prefix"),
        ("s3://key:hidden@bucket/x", "credentials and endpoint come from"),
        ("s3://127.0.0.1:9000/bucket", "credentials and endpoint come from"),
        ("gs://bucket/x", "s3://"),
        ("memory://x", "s3://"),
    ],
)
def test_urls(url: str, message: str) -> None:
    """1"""
    found = refused(url)
    assert message in found and "hidden" not in found


def test_same_store_same_room() -> None:
    """A slash at the end makes no other store."""
    rooms = {local_state_root(f"s3://bucket/a{end}") for end in ("", "/", "//")}
    assert len(rooms) == 1 and cache_root() in rooms.pop().parents
    assert local_state_root("s3://bucket/b") != local_state_root("s3://bucket/a")
    assert local_state_root("a::b") == Path("a::b").absolute()


def test_s3fs_is_optional(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1"""
    for name in ("storage.files.objects", "storage.files.object_errors"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert "pip install 'seal-pipeline[s3]'" in refused(s3_root)


def test_no_credentials(s3_root: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """2"""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert "no credentials: set AWS_ACCESS_KEY_ID" in refused(s3_root)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "AWS_PROFILE" in refused(s3_root)


def test_no_bucket(s3: S3Server) -> None:
    """3"""
    assert "no such bucket" in refused("s3://nobody-made-this/x")


@pytest.fixture
def places() -> Iterator[dict[str, str]]:
    """Endpoints that are none."""
    silent = socket.create_server(("127.0.0.1", 0))
    other = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    yield {
        "nobody": "http://127.0.0.1:9",
        "unknown": "http://no-such-host.invalid:9000",
        "silent": f"http://127.0.0.1:{silent.getsockname()[1]}",
        "not S3": f"http://127.0.0.1:{other.server_port}",
        "no URL": "127.0.0.1",
    }
    silent.close()
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nobody", "does not answer"),
        ("unknown", "does not answer"),
        ("silent", "does not answer"),
        ("not S3", "not as S3 does"),
        ("no URL", "not a URL"),
    ],
)
def test_endpoints(
    s3_root: str,
    places: dict[str, str],
    place: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """3"""
    monkeypatch.setattr(object_files, "_PROBE_SECONDS", 2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", places[place])
    found = refused(s3_root)
    assert message in found and "AWS_ENDPOINT_URL" in found


def test_trouble_of_this_machine_is_not_the_endpoints() -> None:
    """5"""
    message = str(explain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "s3://b/p"))
    assert "No space left" in message and "free some space" in message
    assert "endpoint" not in message


def test_a_new_place_is_new(s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """6"""
    monkeypatch.setenv("HOME", str(tmp_path))
    for root in (s3_root, "~/store"):
        assert Store.is_new(root)
        Store.open(root)
        assert not Store.is_new(root)
    (tmp_path / "file").touch()
    assert not Store.is_new("~/file")


def test_server_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """3: in the middle of the work it is no wrong input, and no damage."""
    monkeypatch.setattr(object_files, "_ATTEMPTS", 2)
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = Store.open(f"s3://{server.new_bucket()}/x")
        ref = put(store, "scores", [SCORE])
    with pytest.raises(StoreConnectionError, match="does not answer") as caught:
        store.verify(ref)
    assert "127.0.0.1" not in str(caught.value) and caught.value.__suppress_context__


READER = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "*"}
    ],
}


def test_credentials_without_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    """2: who may only read can open a store and query it, but not make or use it for a run."""
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        bucket = server.new_bucket()
        root = f"s3://{bucket}/x"
        put(Store.open(root), "scores", [SCORE])
        iam = server.client("iam")
        iam.create_user(UserName="reader")
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(READER))
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        kind = {"Content-Type": "text/plain"}
        urlopen(Request(f"{server.url}/moto-api/reset-auth", b"0", kind)).close()
        assert "refused" in refused(root)  # The server does not know the first key.
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        store = Store.open(root)
        with Catalog(store) as catalog:
            assert catalog.fetch("SELECT count(*) FROM scores") == [(1,)]
        for work in (
            lambda: put(store, "scores", [SCORE], 1),
            lambda: run_lease(store.files, "demo").__enter__(),
            lambda: Store.open(f"s3://{bucket}/new"),
        ):
            with pytest.raises(InputError, match="do not allow PutObject: a run needs to list"):
                work()
        check = store_check(root)
        assert check.state == "fail" and "PutObject" in check.found


def test_doctor(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store and its conditions are tried out, and nothing is left of it."""
    check = store_check(s3_root)
    assert check.state == "ok" and "honours conditional writes" in check.found
    assert open_files(s3_root).glob("*/*") == [] and disk_check(s3_root).state in ("ok", "warn")
    pipe = object_files.S3FileSystem.pipe_file

    def unconditional(self: object, path: str, data: bytes, **_: str) -> None:
        pipe(self, path, data)

    monkeypatch.setattr(object_files.S3FileSystem, "pipe_file", unconditional)
    check = store_check(s3_root)
    assert check.state == "warn" and "ignores If-None-Match" in check.found
    assert open_files(s3_root).glob("*/*") == []


def test_no_secret_is_stored(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4"""
    monkeypatch.setenv("SEAL_CACHE", str(tmp_path / "cache"))
    bucket = s3.new_bucket()
    store = Store.open(f"s3://{bucket}/x")
    put(store, "scores", [SCORE])
    uri, _ = store.put_adapter(adapter(tmp_path / "a"))
    store.adapter_folder(uri)
    with store.lock("run-demo"), run_lease(store.files, "demo"), Catalog(store) as catalog:
        shown = str(catalog.query("SELECT * FROM scores"))
        shown += str(catalog.query("SELECT * FROM duckdb_settings()"))
        found = s3.objects(bucket)
    assert len(found) == 5
    local = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(local) >= 4
    everything = [*found.items(), *((str(p), p.read_bytes()) for p in local), ("", shown.encode())]
    for name, data in everything:
        text = name.encode() + data
        for secret in (KEY, SECRET, s3.url, s3.url.partition("//")[2]):
            assert secret.encode() not in text
