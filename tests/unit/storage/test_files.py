"""File operations: the same promises for a folder and for a bucket.

1. What is written is read back whole; a second write replaces, a create never does.
2. Of many that create one path at once, one wins.
3. A link is a copy of its source, and outlives it; a missing file says so.
4. Globs match files only, level by level, and mean the root's own characters literally.
5. A path that would leave the root is refused.
6. Nothing of a write that failed is left.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seal_core.errors import StoreError
from storage.files.base import Files, in_objects
from storage.files.local import LocalFiles
from storage.files.roots import open_files
from tests.s3_server import S3Server

WEIRD = "a [b] 'c' \"d\" é😀 {e}"


@pytest.fixture(params=["folder", "bucket"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "folder":
        return open_files(str(tmp_path / WEIRD))
    return open_files(f"{request.getfixturevalue('s3_root')}/{WEIRD}")


def test_write_read_delete(files: Files) -> None:
    """1"""
    assert not files.exists("a/b.txt") and not files.exists("a")
    for data in (b"one", b"", b"x" * 70_000):
        files.write("a/b.txt", data)
        assert files.read("a/b.txt") == data
    assert files.exists("a/b.txt") and files.exists("a") and not files.exists("a/b")
    files.delete("a/b.txt")
    files.delete("a/b.txt")
    assert not files.exists("a/b.txt") and files.glob("a/*") == []


def test_create_is_exclusive(files: Files) -> None:
    """1, 2"""
    assert files.create("once", b"1") and not files.create("once", b"2")
    assert files.read("once") == b"1"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: files.create("race", str(i).encode()), range(16)))
    assert sum(won) == 1 and files.read("race") == str(won.index(True)).encode()
    assert files.glob("*") == ["once", "race"]


def test_link_and_missing(files: Files) -> None:
    """3"""
    files.write("a", b"1")
    files.write("deep/b", b"old")
    files.link("a", "deep/b")
    files.delete("a")
    assert files.read("deep/b") == b"1"
    for action in (lambda: files.read("a"), lambda: files.link("a", "c")):
        with pytest.raises(FileNotFoundError):
            action()
    assert files.glob("*") == []


def test_glob(files: Files) -> None:
    """4"""
    for path in (
        "t/run=a/round=0/part-1.parquet",
        "t/run=a/round=1/part-2.parquet",
        "t/run=b/round=0/.part-3.parquet",
        "t/run=b/x",
        "tt/run=a/round=0/part-1.parquet",
    ):
        files.write(path, b"")  # fmt: skip
    assert files.glob("t/run=*/round=*/part-*.parquet") == [
        "t/run=a/round=0/part-1.parquet",
        "t/run=a/round=1/part-2.parquet",
    ]
    assert files.glob("t/*") == [] and files.glob("t/run=b/*") == ["t/run=b/x"]
    assert files.glob("t/*/*/*")[-1] == "t/run=b/round=0/.part-3.parquet"
    assert files.glob("t/run=b/x") == ["t/run=b/x"] and files.glob("none/*") == []


def test_paths_stay_inside(files: Files) -> None:
    """5"""
    for path in ("../x", "/etc/passwd", "a/../../x", "a\0b"):
        for action in (files.read, files.exists, files.delete, lambda p: files.write(p, b"")):
            with pytest.raises(StoreError, match="inside"):
                action(path)


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1, 3: on file systems that have none."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    files = LocalFiles(tmp_path)
    assert files.create("a", b"1") and not files.create("a", b"2")
    files.link("a", "b")
    assert files.read("b") == b"1" and sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """6"""
    files = LocalFiles(tmp_path)
    files.write("a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for action in (lambda: files.write("a", b"new"), lambda: files.create("b", b"new")):
        with pytest.raises(OSError, match="No space"):
            action()
    assert files.read("a") == b"old" and os.listdir(tmp_path) == ["a"]


def test_objects_know_version_age_and_metadata(s3_root: str, tmp_path: Path) -> None:
    """A swap needs the version that is there; a copy keeps the metadata, a new write does not."""
    files = open_files(s3_root)
    assert in_objects(files)
    assert files.stamp("a") is None and not files.swap("a", b"1", '"abc"')
    files.write("a", b"1")
    stamp = files.stamp("a")
    assert stamp is not None and 0 <= stamp.age < 30
    assert files.swap("a", b"2", stamp.version) and not files.swap("a", b"3", stamp.version)
    assert files.read("a") == b"2"
    source = tmp_path / "source"
    source.write_bytes(b"weights")
    files.upload("b", source, {"sha256": "abc"})
    files.link("b", "c")
    copied = files.stamp("c")
    assert copied is not None and copied.metadata == {"sha256": "abc"}
    files.download("c", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"weights" == files.read("b")
    files.write("c", b"other")
    written = files.stamp("c")
    assert written is not None and written.metadata == {}
    assert files.read_range("b", 2, 5) == b"igh"
    assert files.read_many(["b", "a"]) == [b"weights", b"2"] and files.read_many([]) == []


def test_more_objects_than_one_listing_shows(s3: S3Server) -> None:
    """4: a page of a listing has a thousand."""
    bucket = s3.new_bucket()
    client = s3.client()
    for i in range(1003):
        client.put_object(Bucket=bucket, Key=f"p/t/{i:04}", Body=b"")
    files = open_files(f"s3://{bucket}/p/")
    assert files.glob("t/*") == [f"t/{i:04}" for i in range(1003)]
    assert files.glob("t/10*") == ["t/1000", "t/1001", "t/1002"]
