"""Data sets through `datasets`: saved folders, folders of files, splits and their faults."""

from __future__ import annotations

import gzip
import json
import os
import zipfile

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


def test_a_file_replaced_by_one_of_its_size_and_time_is_read_anew(tmp_path, flat_rows):
    """As `cp -p` and `rsync -t` leave it."""
    folder = tmp_path / "files"
    folder.mkdir()
    file = folder / "train.jsonl"
    datasets.Dataset.from_list(flat_rows).to_json(str(file))
    stat, text = file.stat(), file.read_text()
    first = read_dataset(str(folder), None, "train")
    file.write_text(text.replace("Passage number 3 says things.", "Passage number 3 says nothin."))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    second = read_dataset(str(folder), None, "train")
    assert first.problems[3].context == "Passage number 3 says things."
    assert second.problems[3].context == "Passage number 3 says nothin."


@pytest.mark.parametrize(
    "text", ['{"title": ' + "9" * 5000 + "}", "[" * 100_000 + "]" * 100_000, '{"title": NaN']
)
def test_a_file_of_a_folder_that_is_no_json_is_one_line(tmp_path, text):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.jsonl").write_text(text)
    said = r"files(: split 'train'| .train.: row 1|.train.jsonl: line 1)"
    with pytest.raises(InputError, match=said) as caught:
        read_dataset(str(tmp_path / "files"), None, "train")
    assert "\n" not in str(caught.value)


DEEP = '{"n": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_a_row_so_deep_that_the_library_would_crash_is_named(tmp_path, flat_rows, name):
    """The process would end with a segmentation fault, and say nothing."""
    text = f"{json.dumps(flat_rows[0])}\n{DEEP}\n".encode()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    with pytest.raises(InputError, match=rf"files.{name}: line 2: it is nested too deeply"):
        read_dataset(str(tmp_path / "files"), None, "train")


def test_a_deep_file_that_is_no_json_lines_is_named(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.json").write_text("[\n" * 50_000 + "]\n" * 50_000)
    with pytest.raises(InputError, match=r"files.train.json: it is nested too deeply"):
        read_dataset(str(tmp_path / "files"), None, "train")


def test_a_compressed_file_that_is_cut_is_named(tmp_path, flat_rows):
    (tmp_path / "files").mkdir()
    whole = gzip.compress(json.dumps(flat_rows).encode())
    (tmp_path / "files" / "train.json.gz").write_bytes(whole[:-12])
    with pytest.raises(InputError, match=r"files.train.json.gz: cannot be read"):
        read_dataset(str(tmp_path / "files"), None, "train")


@pytest.mark.parametrize("ending", ["jsonl.gz", "zip", "parquet", "csv"])
def test_rows_of_any_kind_of_file_are_those_it_holds_now(tmp_path, ending):
    (tmp_path / "files").mkdir()
    file = tmp_path / "files" / f"train.{ending}"

    def content(answer: str) -> str:
        _write(file, ending, answer)
        os.utime(file, ns=(10**18, 10**18))
        (problem,) = read_dataset(str(file.parent), None, "train").problems
        return problem.questions[0].golds[0]

    assert content("one") == "one"
    size = file.stat().st_size
    assert content("two") == "two" and file.stat().st_size == size


def _write(file, ending: str, answer: str) -> None:
    row = {"title": "T", "context": "C.", "question": "Q?", "answer": answer}
    if ending == "parquet":
        datasets.Dataset.from_list([row]).to_parquet(str(file))
    elif ending == "csv":
        file.write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    elif ending == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(zipfile.ZipInfo("train.jsonl"), json.dumps(row))
    else:
        file.write_bytes(gzip.compress(json.dumps(row).encode(), compresslevel=0, mtime=0))


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
