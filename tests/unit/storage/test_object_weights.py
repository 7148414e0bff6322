"""Adapters in a bucket: whole or damaged by name, never in between; used from a checked copy.

1. Equal content is one folder; the local copy equals what was put, in any process.
2. What changes in the bucket is found: overwritten, swapped, missing, added; and put again, mended.
3. Objects without our metadata (copied there by hand) are checked by their content.
4. A local copy that was damaged or deleted is made again; a damaged adapter is never used.
5. A server that does not answer is no damage.
6. Removal takes all of it, here and in a folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from seal_core.errors import StoreConnectionError, StoreError
from storage.files.base import Files
from storage.store import Store
from storage.weights import adapters as weights
from storage.weights import object_adapters
from storage.weights.object_adapters import adapter_cache
from tests.s3_server import S3Server
from tests.unit.storage.rows import ADAPTER, put
from tests.unit.storage.test_weights import adapter

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture
def store(s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("SEAL_CACHE", str(tmp_path / "cache"))
    return Store.open(s3_root)


def adapters_of(files: Files) -> list[str]:
    return sorted({path.rpartition("/")[0] for path in files.glob("_adapters/*/*/*")})


def forget_copies() -> None:
    """As on another machine."""
    object_adapters._verified.clear()
    shutil.rmtree(adapter_cache(), ignore_errors=True)


def test_put_and_use(store: Store, tmp_path: Path) -> None:
    """1"""
    uri, sha = store.put_adapter(adapter(tmp_path / "a"))
    assert (uri, sha) == store.put_adapter(adapter(tmp_path / "b", ("v", "q")))
    names = [f"{uri}/{CONFIG}", f"{uri}/{WEIGHTS}"]
    assert store.files.glob("_adapters/*/*/*") == names
    assert adapters_of(store.files) == [uri] and store.verify_adapter(uri, sha) is None
    kept = {p.name: p.read_bytes() for p in store.adapter_folder(uri).iterdir()}
    forget_copies()
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(store.adapter_folder, [uri] * 8))
    (folder,) = folders
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == kept
    assert [path.name for path in adapter_cache().iterdir()] == [sha]


def _overwrite(store: Store, uri: str) -> None:
    data = store.files.read(f"{uri}/{WEIGHTS}")
    store.files.write(f"{uri}/{WEIGHTS}", data[:-1] + b"!")


def _swap(store: Store, uri: str) -> None:
    (other,) = (u for u in adapters_of(store.files) if u != uri)
    store.files.link(f"{other}/{CONFIG}", f"{uri}/{CONFIG}")


def _lose(store: Store, uri: str) -> None:
    store.files.delete(f"{uri}/{CONFIG}")


def _lose_all(store: Store, uri: str) -> None:
    for path in store.files.glob(f"{uri}/*"):
        store.files.delete(path)


def _add(store: Store, uri: str) -> None:
    store.files.write(f"{uri}/adapter_model.bin", b"pickle")


@pytest.mark.parametrize("damage", [_overwrite, _swap, _lose, _lose_all, _add])
def test_damage(store: Store, tmp_path: Path, damage: Callable[[Store, str], None]) -> None:
    """2, 4"""
    uri, sha = store.put_adapter(adapter(tmp_path / "a"))
    store.put_adapter(adapter(tmp_path / "b", ("k",)))
    ref = put(store, "adapters", [replace(ADAPTER, uri=uri, sha256=sha)])
    damage(store, uri)
    forget_copies()
    assert uri in (store.verify(ref) or "")
    assert uri in (store.verify_adapter(uri, sha) or "")
    with pytest.raises(StoreError, match=uri):
        store.adapter_folder(uri)
    assert not adapter_cache().exists() or not list(adapter_cache().iterdir())
    assert store.put_adapter(tmp_path / "a") == (uri, sha)
    assert store.verify(ref) is None
    assert len(store.files.glob(f"{uri}/*")) == 2


def test_objects_copied_by_hand(store: Store, tmp_path: Path) -> None:
    """3"""
    local = Store.open(str(tmp_path / "local"))
    uri, sha = local.put_adapter(adapter(tmp_path / "a"))
    for path in local.files.glob(f"{uri}/*"):
        store.files.write(path, local.files.read(path))
    assert store.verify_adapter(uri, sha) is None
    assert (adapter_cache() / sha / WEIGHTS).is_file()
    store.files.write(f"{uri}/{CONFIG}", b"{}")
    assert "digest" in (store.verify_adapter(uri, sha) or "")


def test_local_copies_may_go(store: Store, tmp_path: Path) -> None:
    """4"""
    uri, _ = store.put_adapter(adapter(tmp_path / "a"))
    folder = store.adapter_folder(uri)
    before = (folder / WEIGHTS).read_bytes()
    shutil.rmtree(folder)
    assert (store.adapter_folder(uri) / WEIGHTS).read_bytes() == before
    (folder / WEIGHTS).write_bytes(before[:-1] + b"!")
    object_adapters._verified.clear()  # As in another process.
    assert (store.adapter_folder(uri) / WEIGHTS).read_bytes() == before
    for wrong in ("/etc", "_adapters/../../x", "_adapters/ab/cd"):
        with pytest.raises(StoreError, match="no adapter"):
            store.adapter_folder(wrong)


def test_silence_is_no_damage(
    store: Store, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5"""
    uri, sha = store.put_adapter(adapter(tmp_path / "a"))
    ref = put(store, "adapters", [replace(ADAPTER, uri=uri, sha256=sha)])

    def silent(*_: object, **__: object) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr(store.files._client, "find", silent)  # type: ignore[attr-defined]
    with pytest.raises(StoreConnectionError, match="does not answer"):
        store.verify(ref)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_remove(store: Store, tmp_path: Path, kind: str) -> None:
    """6"""
    chosen = store if kind == "bucket" else Store.open(str(tmp_path / "local"))
    uri, sha = chosen.put_adapter(adapter(tmp_path / "a"))
    other, _ = chosen.put_adapter(adapter(tmp_path / "b", ("k",)))
    for _ in range(2):
        weights.remove_adapter(chosen.files, uri)
        assert adapters_of(chosen.files) == [other]
    assert "missing" in (chosen.verify_adapter(uri, sha) or "")
    assert chosen.files.glob("_adapters/.*/*") == []
    with pytest.raises(StoreError, match="no adapter"):
        weights.remove_adapter(chosen.files, "_adapters")
    assert chosen.put_adapter(tmp_path / "a") == (uri, sha)
    assert chosen.verify_adapter(uri, sha) is None
