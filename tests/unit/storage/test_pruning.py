"""Weights are not pruned while another run takes over rows that need them."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from storage.runs import pruning
from storage.runs.pruning import has_pruned, prune_adapters
from storage.store import Store
from tests.unit.storage.rows import ADAPTER
from tests.unit.storage.test_weights import adapter


def test_rows_are_taken_over_before_or_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(str(tmp_path / "store"))
    uri, sha256 = store.put_adapter(adapter(tmp_path / "a"))
    row = replace(ADAPTER, uri=uri, sha256=sha256)
    ref = store.write_part("adapters", [row], run="a", round_index=0, slot="f/0")
    taken, early = threading.Event(), []

    def take_over() -> None:
        Store.open(str(tmp_path / "store")).adopt(ref, "b", 0, "f/0")
        taken.set()

    other, needed = threading.Thread(target=take_over), pruning._needed_elsewhere

    def meanwhile(opened: Store, run: str) -> set[str]:
        found = needed(opened, run)
        other.start()
        early.append(taken.wait(1.0))
        return found

    monkeypatch.setattr(pruning, "_needed_elsewhere", meanwhile)
    assert prune_adapters(store, "a", "none").removed == 1
    other.join()
    assert early == [False]
    (own,) = store.refs("adapters", "b")
    assert has_pruned(store, own) and store.verify(own) is None
    with monkeypatch.context() as patch:
        patch.setattr(pruning, "_needed_elsewhere", needed)
        store.put_adapter(tmp_path / "a")
        assert prune_adapters(store, "a", "none").shared == 1
