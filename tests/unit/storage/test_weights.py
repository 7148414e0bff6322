"""Adapters: addressed by content, whole or absent, and nothing in them can execute."""

from __future__ import annotations

import errno
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from seal_core.errors import StoreError
from storage.store import Store
from storage.weights import adapters as weights
from tests.unit.storage.rows import ADAPTER, put


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "store"))


def adapter(folder: Path, targets: tuple[str, ...] = ("q", "v")) -> Path:
    folder.mkdir()
    save_file({"a": np.ones(3, np.float32)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 2, "target_modules": targets}))
    (folder / "README.md").write_text("made today")
    return folder


def test_equal_content_is_one_folder(store: Store, tmp_path: Path) -> None:
    uri, sha = store.put_adapter(adapter(tmp_path / "a"))
    assert (uri, sha) == store.put_adapter(adapter(tmp_path / "b", ("v", "q")))
    assert store.put_adapter(adapter(tmp_path / "c", ("k",)))[0] != uri
    names = {path.name for path in store.adapter_folder(uri).iterdir()}
    assert names == {"adapter_model.safetensors", "adapter_config.json"}
    assert not list((store.root / "_adapters").glob(".*"))


def test_damage_is_found_and_mended(store: Store, tmp_path: Path) -> None:
    uri, sha = store.put_adapter(adapter(tmp_path / "a"))
    ref = put(store, "adapters", [replace(ADAPTER, uri=uri, sha256=sha)])
    assert store.verify(ref) is None
    weights = store.adapter_folder(uri) / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    assert uri in (store.verify(ref) or "")
    store.put_adapter(tmp_path / "a")
    assert store.verify(ref) is None
    weights.unlink()
    assert store.verify(ref)
    weights.parent.joinpath("adapter_config.json").unlink()
    weights.parent.rmdir()
    assert "missing" in (store.verify(ref) or "")


def test_only_safetensors(store: Store, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "training_args.bin").write_bytes(b"")
    with pytest.raises(StoreError, match=r"training_args\.bin"):
        store.put_adapter(folder)
    (folder / "training_args.bin").unlink()
    (folder / "adapter_model.safetensors").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(StoreError, match="safetensors format"):
        store.put_adapter(folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(StoreError, match="no PEFT adapter"):
        store.put_adapter(folder)
    for uri in ("/etc", "_adapters/../../x", "_adapters/ab/cd"):
        with pytest.raises(StoreError, match="no adapter"):
            store.adapter_folder(uri)


def test_an_error_of_the_machine_is_no_damage(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, sha = store.put_adapter(adapter(tmp_path / "a"))
    ref = put(store, "adapters", [replace(ADAPTER, uri=uri, sha256=sha)])

    def broken(*_: object) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(weights, "file_digests", broken)
        with pytest.raises(OSError, match="Too many open files"):
            store.verify(ref)
    monkeypatch.setattr(store.files, "read", broken)
    for use in (store.verify, store.read):
        with pytest.raises(OSError, match="Too many open files"):
            use(ref)
