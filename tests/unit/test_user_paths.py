"""Paths that users give: every name works, or is refused by name.

1. `~` is the home folder, and a name like any other where there is no such user.
2. A path that is not UTF-8 is refused.
3. `--store` and `SEAL_STORE` take every text as it is.
4. Data is read in a folder of any name, and nothing of the folders beside it.
5. Names in a folder of data that fsspec would take for more than a name are refused.
6. Prefect's database is in the store's folder, whatever its path looks like in a URL.
7. A model's folder is never taken for an option, a home folder or a hub id.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from datasets import Dataset
from sqlalchemy.engine import make_url

from flows.loading import load_config, store_setting, with_store
from flows.prefect_server.environment import prepare_prefect
from seal_core.domains.hub import read_dataset
from seal_core.domains.squad import read_squad
from seal_core.errors import InputError
from seal_core.models.files.model_place import find_model
from seal_core.places import user_path
from storage.files.roots import open_files

ODD = ("a*b", "[a]", "x::y", "$HOME", "new\nline", "~", "~nobody-here", "{a,b}", "-é😀?#%20=\\'\"")


def _rows(first: int) -> list[dict[str, object]]:
    return [
        {
            "title": f"Town {i}",
            "context": f"Town {i} was founded in {1900 + i}.",
            "question": "When was it founded?",
            "answers": {"text": [str(1900 + i)], "answer_start": [0]},
        }
        for i in range(first, first + 2)
    ]


def _write_data(folder: Path, first: int) -> None:
    plain = folder.parent / "plain"  # The library that writes them minds the name too.
    (plain / "files").mkdir(parents=True)
    rows = _rows(first)
    (plain / "files/train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Dataset.from_list(rows).save_to_disk(str(plain / "saved"))
    Dataset.from_list(rows).to_parquet(str(plain / "f.parquet"))
    plain.rename(folder)


def test_home_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """1"""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a") == tmp_path / "a"
    assert user_path("~nobody-here/a") == Path("~nobody-here/a")
    monkeypatch.chdir(tmp_path)
    for url in ("~nobody-here/s", "a::b", "file:///x::y?#%20", "data:x"):
        expected = tmp_path / url.removeprefix("file://")
        assert open_files(url).root == expected


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    """2"""
    bad = str(tmp_path / os.fsdecode(b"\xff"))
    uses = (open_files, read_squad, find_model, load_config)
    for use in uses:
        with pytest.raises(InputError, match=r"\\udcff/x.json': the path is not UTF-8: give"):
            use(f"{bad}/x.json")


@pytest.mark.parametrize("name", [*ODD, "2024", "none", "true", "a\x7fb", " a ", "'a'", '"a"', "#"])
def test_stores_are_named_as_typed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """3"""
    demo = Path(__file__).parents[2] / "configs/demo.toml"
    assert load_config(demo, [store_setting(name)]).execution.store == name
    monkeypatch.setenv("SEAL_STORE", name)
    assert load_config(demo, with_store([])).execution.store == name


@pytest.mark.parametrize("name", ODD)
def test_data_in_any_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4"""
    monkeypatch.chdir(tmp_path)
    for other in ("axb", "a", "b", "x"):
        _write_data(tmp_path / other, 10)
    _write_data(tmp_path / name, 0)
    for folder in (f"./{name}", str(tmp_path / name)):
        found = [
            read_dataset(f"{folder}/files", None, "train"),
            read_dataset(f"{folder}/saved", None, "train"),
            read_squad(f"{folder}/f.parquet"),
        ]
        for parsed in found:
            assert [problem.title for problem in parsed.problems] == ["Town 0", "Town 1"]


@pytest.mark.parametrize("name", ["x::y", "x$HOME", "x\ny"])
def test_names_in_a_folder_of_data(name: str, tmp_path: Path) -> None:
    """5"""
    _write_data(tmp_path / "d", 0)
    (tmp_path / "d/files" / f"{name}.jsonl").write_text(json.dumps(_rows(2)[0]))
    with pytest.raises(InputError, match=r"cannot read this name: rename it"):
        read_dataset(str(tmp_path / "d/files"), None, "train")


def test_faults_name_the_users_folder(tmp_path: Path) -> None:
    """4"""
    (tmp_path / "a*b").mkdir()
    (tmp_path / "a*b/train.parquet").write_bytes(b"none")
    (tmp_path / "a*b/dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(InputError) as caught:
        read_dataset(str(tmp_path / "a*b"), None, "train")
    assert str(tmp_path / "a*b") in str(caught.value) and "seal-alias" not in str(caught.value)


@pytest.mark.parametrize("name", [*ODD, ":memory:", "x?mode=memory", "100%25"])
def test_prefects_database(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """6"""
    for variable in [key for key in os.environ if key.startswith("PREFECT_")]:
        monkeypatch.delenv(variable)
    home = prepare_prefect(str(tmp_path / name))
    assert home == tmp_path / name / "_prefect"
    for key in list(os.environ):
        if key.startswith("PREFECT_") or key == "DO_NOT_TRACK":
            monkeypatch.setenv(key, os.environ[key])  # Taken back at the end.
    text = os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    assert ":memory:" not in text and "mode=memory" not in text  # Prefect looks for them.
    url = make_url(text)
    assert url.query == {"uri": "true"}
    assert unquote(str(url.database)) == f"file:{home}/prefect.db"


@pytest.mark.parametrize("name", ["-model", "~", "~nobody-here", "org"])
def test_model_folders(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_path: str
) -> None:
    """7"""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_path, tmp_path / name)
    assert find_model(f"./{name}") == str(tmp_path / name)
    for path in (f"./{name}2", f"{name}/a/b", str(tmp_path / "none"), "~/none", "../no", "a//b"):
        with pytest.raises(InputError, match="no model folder and no hub id"):
            find_model(path)
