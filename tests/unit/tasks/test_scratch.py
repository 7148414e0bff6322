"""What a killed run left on its machine goes with its next start, and nothing else does."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from seal_core.errors import StageError
from storage.runs.leftovers import remove_leftovers
from storage.store import Store
from tasks.opening.scratch import run_scratch


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return Store.open(str(tmp_path / "store"))


def test_scratch_is_empty_again_after_a_kill_and_gone_at_the_end(store: Store) -> None:
    left = run_scratch(store, "a")
    folder = left.__enter__()  # A kill leaves it so.
    (folder / "weights").write_bytes(b"many")
    with run_scratch(store, "a") as again, run_scratch(store, "b") as other:
        assert again == folder
        assert other != folder
        assert list(again.iterdir()) == []
    assert not again.exists()
    assert not other.exists()


def test_a_folder_of_somebody_elses_is_refused(store: Store, tmp_path: Path) -> None:
    with run_scratch(store, "a") as folder:
        pass
    folder.symlink_to(tmp_path)
    with pytest.raises(StageError, match=r"cannot be made.*TMPDIR"), run_scratch(store, "a"):
        pass
    assert tmp_path.is_dir()


def test_old_temporary_files_are_removed_and_young_ones_stay(store: Store) -> None:
    root = Path(store.files.root)
    mine = [
        *("answers/run=a/round=0/.part-1.parquet.x.tmp", "_results/.1.json.x.tmp"),
        *("_runs/.a.json.x.tmp", "_running/a/.1.json.x.tmp", "_adapters/.adapter.x.tmp/weights"),
    ]
    others = ["answers/run=b/round=0/.part-1.parquet.x.tmp", "answers/run=a/round=0/part-1.parquet"]
    old = time.time() - 90_000
    for name in [*mine, *others]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
        os.utime(root / name, (old, old))
        os.utime((root / name).parent, (old, old))
    young = root / "answers/run=a/round=0/.part-2.parquet.x.tmp"
    young.write_bytes(b"")
    assert remove_leftovers(store, "a") == len(mine)
    assert [name for name in mine if (root / name).exists()] == []
    assert young.exists()
    assert all((root / name).exists() for name in others)
