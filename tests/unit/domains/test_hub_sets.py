"""Data sets through `datasets`: saved folders, folders of files, splits and their faults."""

from __future__ import annotations

import csv
import datetime
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
def folder(tmp_path):
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


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


DEEP = '{"n": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "train.json", "train.zip"])
@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ('"n": NaN', r"it is not JSON \(expected value"),
        (f'"n": {"9" * 5000}', r"it is not JSON \(number out of range"),
        (f'"n": {DEEP}', r"it is not JSON \(recursion limit"),
        ('"id": 1, "id": 2', "'id' is given twice"),
        ('"context": "Other."', "'context' is given twice"),
    ],
)
def test_what_is_no_plain_json_is_named_by_file_and_row(folder, flat_rows, name, extra, said):
    """In any field: the library takes the last of two, and crashes where nesting is deep."""
    good, bad = (json.dumps(row) for row in flat_rows[:2])
    _pack(folder / name, f"{good}\n{bad[:-1]}, {extra}}}\n")
    with pytest.raises(InputError, match=rf"files.{name}: (train.jsonl: )?row 2: {said}") as caught:
        read_dataset(str(folder), None, "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[\n" * 50_000 + "]\n" * 50_000, "recursion limit"),
        ('{"title": NaN', "expected value at line 1"),
        ('[{"a": 1},\n{"a": NaN}]', "expected value at line 2"),
        ("", "the file is empty"),
        ("\ufeff[]", r"files \(train\): there are no rows"),
    ],
)
def test_a_file_that_is_no_table_is_named(folder, text, said):
    (folder / "train.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_dataset(str(folder), None, "train")


def test_no_type_is_guessed(folder):
    """The library's readers would make 7 of 007, and add a time to dates of a file of its own."""
    rows = [f"C{i}.,Q?,{'NA' if i < 10_000 else '007'}" for i in range(10_001)]
    (folder / "train.csv").write_text("\n".join(["context,question,answer", *rows]))
    problems = read_dataset(str(folder), None, "train").problems
    assert [problems[i].questions[0].golds for i in (0, 10_000)] == [("NA",), ("007",)]
    (folder / "train.csv").unlink()
    for i, answer in enumerate(("word", "2020-01-01")):
        row = {"context": f"C{i}.", "question": "Q?", "answer": answer}
        (folder / f"train-{i}.json").write_text(json.dumps(row))
    problems = read_dataset(str(folder), None, "train").problems
    assert [p.questions[0].golds for p in problems] == [("word",), ("2020-01-01",)]


def test_parquet_files_of_other_types_are_not_converted(folder, caplog):
    for i, answer in enumerate(("word", datetime.datetime(2020, 1, 1))):
        row = {"context": f"C{i}.", "question": "Q?", "answer": answer}
        datasets.Dataset.from_list([row]).to_parquet(str(folder / f"train-{i}.parquet"))
    with pytest.raises(InputError, match=r"train-1.parquet: row 1: 'answer' is of type datetime"):
        read_dataset(str(folder), None, "train")
    (folder / "train-1.parquet").write_text("PAR1 nonsense")
    with pytest.raises(InputError, match=r"train-1.parquet: it is not a Parquet file"):
        read_dataset(str(folder), None, "train")
    assert not caplog.records


def test_a_table_of_texts_is_read_as_it_is(folder):
    head = "title\tcontext\tquestion\tanswer\tis_impossible\r\n"
    rows = '\tC1\tQ?\t"a ""b""\r\n c"\tFalse\r\n\r\nT\tC2\tQ?\t1.50\t\r\nT\tC2\tR?\tx\tTrue\r\n'
    (folder / "train.tsv").write_bytes(b"\xef\xbb\xbf" + (head + rows).encode())
    parsed = read_dataset(str(folder), None, "train")
    assert [(p.title, p.context, [q.golds for q in p.questions]) for p in parsed.problems] == [
        ("", "C1", [('a "b"\r\n c',)]),
        ("T", "C2", [("1.50",)]),
    ]
    assert [(item.unit, item.text) for item in parsed.left_out] == [("question", "R?")]


SQUAD = {
    "version": "1.1",
    "data": [{"paragraphs": [{"context": "C.", "qas": [{"question": "Q?", "answers": ["a"]}]}]}],
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("end", ["", "\n"])
def test_squads_own_file_is_one_on_one_line_too(folder, indent, end):
    (folder / "train.json").write_text(json.dumps(SQUAD, indent=indent) + end)
    (problem,) = read_dataset(str(folder), None, "train").problems
    assert (problem.context, problem.questions[0].golds) == ("C.", ("a",))


def test_a_row_with_a_field_called_data_is_a_row(folder):
    row = {"context": "C.", "question": "Q?", "answer": "a", "data": []}
    (folder / "train.json").write_text(json.dumps(row))
    (problem,) = read_dataset(str(folder), None, "train").problems
    assert problem.questions[0].golds == ("a",)


def write_table(folder, field, cells):
    with (folder / "train.csv").open("w", newline="") as file:
        rows = ((f"C{i}", "Q?", cell) for i, cell in enumerate(cells))
        csv.writer(file).writerows([("context", "question", field), *rows])


@pytest.mark.parametrize("field", ["answer", "answers"])
@pytest.mark.parametrize(
    "cell",
    [
        "{'text': ['a']}",
        '{"text": ["a"], "answer_start": null}',
        "{'text': array(['a', 'b'], dtype=object), 'answer_start': array([1, 2])}",
        " ['a']",
        "['a' 'b']",
    ],
)
def test_an_answer_that_a_library_printed_is_not_the_answer(folder, field, cell):
    write_table(folder, field, ["x", cell])
    said = rf"row 2: '{field}' is a list or an object written as a text .*answer's own text"
    with pytest.raises(InputError, match=said):
        read_dataset(str(folder), None, "train")


def test_nor_in_a_table_of_the_hub(folder, monkeypatch):
    write_table(folder, "answers", ["x", "['a']"])
    load, file = datasets.load_dataset_builder, str(folder / "train.csv")
    monkeypatch.setattr(
        datasets, "load_dataset_builder", lambda *_, **__: load("csv", data_files=file)
    )
    with pytest.raises(InputError, match=r"org/table \(train\): row 2: 'answers' is a list or an"):
        read_dataset("org/table", None, "train")


@pytest.mark.parametrize("cell", ["[sic]", "{x}", "[1, 2)", "{a: b}", "the set {1, 2}", "(1, 2)"])
def test_brackets_alone_make_no_list(folder, cell):
    write_table(folder, "answer", [cell])
    (problem,) = read_dataset(str(folder), None, "train").problems
    assert problem.questions[0].golds == (cell,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("context,answer\nC\n", r"train.csv: row 1: it has 1 values for 2 columns"),
        ("context,answer\n\nC,a\nC,a,b\n", r"train.csv: row 2: it has 3 values for 2 columns"),
        ("answer,answer\na,b\n", r"train.csv: the column 'answer' is given twice"),
        ('context,answer\nC,"a\n', r"train.csv: row 1: it is not CSV"),
        ("context,answer\nC,a\n", r"train.csv: row 1: 'questions' is missing"),
    ],
)
def test_a_table_that_is_not_square_is_named(folder, text, said):
    (folder / "train.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        read_dataset(str(folder), None, "train")


@pytest.mark.parametrize(
    ("split", "titles"),
    [("train[1:3]", "12"), ("train[-1:]", "4"), ("train[:40%]+test[1:]", "016"), ("test", "56")],
)
def test_slices_are_those_of_the_library(folder, flat_rows, split, titles):
    for name, rows in (("train", flat_rows[:5]), ("test", flat_rows[5:7])):
        datasets.Dataset.from_list(rows).to_json(str(folder / f"{name}.json"))
    (folder / "validation.json").write_text("broken, but not asked for")
    found = [p.title for p in read_dataset(str(folder), None, split).problems]
    assert found == [f"Title {i}" for i in titles]
    with pytest.raises(InputError, match=r'Unknown split "dev". Should be one of .*train'):
        read_dataset(str(folder), None, "dev")


def test_options_for_other_readers_are_refused(folder, flat_rows):
    (folder / "train.csv").write_text("context;question;answer\nC;Q?;A\n")
    card = "---\nconfigs:\n- config_name: default\n  data_files: train.csv\n  sep: ';'\n"
    (folder / "README.md").write_text(f"{card}---\n")
    assert len(read_dataset(str(folder), None, "train").problems) == 1
    (folder / "README.md").write_text(f"{card}  nrows: 1\n---\n")
    with pytest.raises(InputError, match="its README sets 'nrows' for reading its files"):
        read_dataset(str(folder), None, "train")


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


def _pack(file, text: str) -> None:
    """The text as a file, packed as its ending says."""
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("train.jsonl", text)
    else:
        file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())


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
