"""Data sets through `datasets`: saved folders, folders of files, splits and their faults."""

from __future__ import annotations

import gzip
import json
import os

import pytest

from seal_core.config import DataSection
from seal_core.domains.hub import read_dataset
from seal_core.domains.knowledge import load_problem_set
from seal_core.errors import InputError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _offline_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def saved(tmp_path, flat_rows) -> str:
    parts = datasets.DatasetDict(
        train=datasets.Dataset.from_list(flat_rows[:5]),
        validation=datasets.Dataset.from_list(flat_rows[5:]),
    )
    parts.save_to_disk(str(tmp_path / "saved"))
    return str(tmp_path / "saved")


def test_a_saved_folder_with_splits(saved):
    data = DataSection(source="dataset", path=saved, heldout_split="validation", heldout_limit=2)
    found = load_problem_set(data, seed=0)
    assert [p.title for p in found.train] == [f"Title {i}" for i in range(5)]
    assert [p.title for p in found.heldout] == ["Title 5", "Title 6"]


def test_one_split_is_divided_when_no_other_is_named(saved):
    found = load_problem_set(DataSection(source="dataset", path=saved), seed=0)
    assert (len(found.train), len(found.heldout)) == (4, 1)


def test_a_single_saved_set_and_a_folder_of_files_agree(tmp_path, write, flat_rows):
    datasets.Dataset.from_list(flat_rows).save_to_disk(str(tmp_path / "single"))
    one = read_dataset(str(tmp_path / "single"), None, "train")
    (tmp_path / "files").mkdir()
    datasets.Dataset.from_list(flat_rows).to_json(str(tmp_path / "files" / "train.jsonl"))
    two = read_dataset(str(tmp_path / "files"), None, "train")
    assert [p.questions for p in one.problems] == [p.questions for p in two.problems]
    assert len(one.problems) == 8


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet", "jsonl.gz"])
def test_other_rows_of_the_same_size_and_time_are_read(tmp_path, form):
    """As `cp -p`, `rsync -t` and image layers leave them; the library's cache goes by time."""
    folder = tmp_path / "files"
    folder.mkdir()

    def write(answer):
        row = {"context": "A passage.", "question": "Which?", "answer": answer}
        table = datasets.Dataset.from_list([row, row | {"context": "Another passage."}])
        file = folder / f"train.{form}"
        if form == "parquet":
            table.to_parquet(str(file))
        elif form == "csv.gz":
            lines = "".join(json.dumps(row) + "\n" for row in table)
            file.write_bytes(gzip.compress(lines.encode(), mtime=0))
        else:
            table.to_json(str(file), lines=form == "jsonl")
        os.utime(file, ns=(10**18, 10**18))
        return file.stat().st_size

    sizes, found = [], []
    for answer in ("aaaa", "bbbb"):
        sizes.append(write(answer))
        problems = read_dataset(str(folder), None, "train").problems
        found.append({gold for p in problems for q in p.questions for gold in q.golds})
    assert sizes[0] == sizes[1]
    assert found == [{"aaaa"}, {"bbbb"}]
    assert not list((tmp_path / "cache").rglob("*.arrow"))  # No copies of the rows are left.


def test_a_missing_split_lists_those_there_are(saved):
    with pytest.raises(InputError, match=r"no split 'test': .*train, validation"):
        read_dataset(saved, None, "test")


def test_what_cannot_be_loaded_is_one_line_with_the_fix(tmp_path):
    with pytest.raises(InputError, match=r"check data\.path") as caught:
        read_dataset(str(tmp_path / "nothing"), None, "train")
    assert "\n" not in str(caught.value)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "state.json").write_text("{")
    with pytest.raises(InputError, match="save it again"):
        read_dataset(str(broken), None, "train")


def test_a_bad_row_of_a_data_set_is_named(tmp_path, flat_rows):
    flat_rows[2]["context"] = ""
    datasets.Dataset.from_list(flat_rows).save_to_disk(str(tmp_path / "bad"))
    with pytest.raises(InputError, match=r"bad \(train\): row 3: 'context' is blank"):
        read_dataset(str(tmp_path / "bad"), None, "train")
