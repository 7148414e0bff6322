"""Whatever a data file holds, a fault in it is one line with file, row and fix, no traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.loading import load_config
from seal_core.domains.hub import read_dataset
from seal_core.domains.records import Parsed
from seal_core.domains.squad import read_squad
from seal_core.errors import InputError
from seal_core.published.records import read_published

GOOD = '{"title": "T", "context": "First.", "questions": [{"question": "Q?", "answer": "A"}]}'
ROW = '{"title": "T", "context": "Second.", "questions": [{"question": "Q?", "answer": "A"}], %s}'
DIGITS = "1" * 5000
NESTED = '{"a": ' * 3000 + "1" + "}" * 3000
DEEP = "[" * 100_000 + "]" * 100_000

FAULTS = {
    "digits": (ROW % f'"n": {DIGITS}', r"a number has more than 4300 digits: take it out"),
    "deep": (ROW % f'"n": {DEEP}', r"nested too deeply: take the field out"),
    "objects": (ROW % f'"n": {NESTED}', r"nested too deeply: take the field out"),
    "twice": (ROW % '"context": "Third."', r"has the key 'context' twice: remove one"),
    "surrogate": (ROW.replace("Second.", "\\ud83d") % '"n": 1', r"half of a surrogate pair"),
    "nul": (ROW.replace("Second.", "\\u0000") % '"n": 1', r"'context' has a NUL character"),
}


def read(folder: Path, form: str, text: str | bytes) -> Parsed:
    """Reads a data file directly, or as a folder of them through `datasets`."""
    ending, _, way = form.partition(" ")
    file = folder / f"train.{ending}"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_dataset(str(folder), None, "train") if way else read_squad(str(file))


FORMS = ["json", "jsonl", "json folder", "jsonl folder"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_row_is_named_with_its_place(tmp_path, form, fault) -> None:
    row, words = FAULTS[fault]
    text = f"{GOOD}\n{row}\n" if form.startswith("jsonl") else f"[\n{GOOD},\n{row}\n]"
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, form, text)
    said = str(caught.value)
    assert "row 2" in said and "\n" not in said and len(said) < 400
    assert f"train.{form.split()[0]}" in said or f"{tmp_path} (train)" in said


@pytest.mark.parametrize("form", FORMS)
def test_a_file_in_another_encoding_is_named(tmp_path, form) -> None:
    text = GOOD if form.startswith("jsonl") else f"[{GOOD}]"
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        with pytest.raises(InputError, match=rf"train\.{form.split()[0]}: .*save it as UTF-8"):
            read(tmp_path, form, text.encode(encoding))
    with pytest.raises(InputError, match=r"is not UTF-8"):
        read(tmp_path, form, text.replace('"T"', '"é"').encode("latin-1"))
    assert read(tmp_path, form, text.encode("utf-8-sig")).problems[0].title == "T"


def test_the_fault_of_squads_own_form_has_its_row_and_line(tmp_path) -> None:
    rows = []
    for i in range(3):
        qas = [{"question": "Q?", "answers": [{"text": "A"}]}]
        rows.append(json.dumps({"title": "T", "paragraphs": [{"context": f"C{i}", "qas": qas}]}))
    rows[2] = rows[2].replace("{", f'{{"n": {DIGITS}, ', 1)
    with pytest.raises(InputError, match=r"^train\.json: row 3 \(line 4\): a number"):
        read(tmp_path, "json", '{"version": "1.1", "data": [\n' + ",\n".join(rows) + "]}")


def test_numbers_that_are_no_numbers_may_stand_where_nothing_is_read(tmp_path) -> None:
    """Python and pandas write them for what is missing."""
    found = read(tmp_path, "jsonl", f"{GOOD}\n" + ROW % '"score": NaN')
    assert len(found.problems) == 2
    with pytest.raises(InputError, match=r"row 1: 'title' is of type float: it must be a text"):
        read(tmp_path, "jsonl", GOOD.replace('"T"', "NaN"))


@pytest.mark.parametrize("way", ["", " folder"])
def test_text_in_parquet_that_is_not_utf8_is_named_with_its_row(tmp_path, way) -> None:
    lengths, data = pa.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0"), pa.py_buffer(b"C\xff\xfe")
    context = pa.StringArray.from_buffers(2, lengths, data)
    table = pa.table({"context": context, "question": ["Q", "Q"], "answer": ["A", "A"]})
    pq.write_table(table, tmp_path / "train.parquet")
    text = (tmp_path / "train.parquet").read_bytes()
    with pytest.raises(InputError, match=r"row [12]: it cannot be read .*write its text as UTF-8"):
        read(tmp_path, f"parquet{way}", text)


@pytest.mark.parametrize(
    "text",
    [f'{{"articles": [{DIGITS}]}}', f'{{"articles": {DEEP}}}', '{"articles": [NaN]}',
     '{"articles": ["\\ud800"]}', '{"articles": ["\0"]}', f'{{"articles": [], "n": {DIGITS}}}'],
)  # fmt: skip
def test_published_files_name_the_line(tmp_path, text) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"results\.json: it is not JSON: .* at line 1 column"):
        read_published(file)


def test_configs_are_as_careful(tmp_path) -> None:
    file = tmp_path / "c.toml"
    for text in (f"[run]\nseed = {DIGITS}", f"[run]\nseed = {DEEP}"):
        file.write_text(text)
        with pytest.raises(InputError, match=r"c\.toml: not valid TOML"):
            load_config(file)
    file.write_bytes("[run]\nseed = 1".encode("utf-16"))
    with pytest.raises(InputError, match=r"c\.toml: not valid TOML"):
        load_config(file)
    file.write_bytes("[run]\nseed = 1".encode("utf-8-sig"))
    assert load_config(file).run.seed == 1
    for value in (DIGITS, DEEP, "0x" + "f" * 5000, str(2**63)):
        with pytest.raises(InputError, match=r"run\.seed = ") as caught:
            load_config(file, [f"run.seed={value}"])
        assert len(str(caught.value)) < 400


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_config_that_may_not_be_read_is_named(tmp_path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(json.dumps({}))
    file.chmod(0)
    with pytest.raises(InputError, match="check its rights"):
        load_config(file)
