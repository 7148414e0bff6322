"""`seal compact` and long results of `seal sql`, as typed.

1. It compacts every run, skips one that is being executed, and does nothing the second time.
2. A name that is no run's, a run that is being executed, and a folder that is no store are refused.
3. A table shows the first rows; CSV, JSON and Parquet have all of them.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from storage.store import Store
from tests.unit.storage.compacting import N_PARTS, filled, rows_of
from tests.unit.storage.rows import SCORE, many, put
from tests.waiting import HUNG

SEAL = [sys.executable, "-c", "from flows.cli import main; main()"]


def seal(*arguments: str, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*SEAL, *arguments], cwd=cwd, capture_output=True, text=True, timeout=HUNG, check=False
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return filled(str(tmp_path / "seal-store"))


def test_seal_compact(store: Store, tmp_path: Path) -> None:
    """1, 2"""
    filled(str(store.root), "busy")
    rows = rows_of(store)
    with store.lock("run-busy"):
        done = seal("compact", cwd=tmp_path)
        assert "being executed" in done.stderr and done.stderr.count("\n") == 1
        assert done.stdout.count("answers") == 1
        refused = seal("compact", "busy", cwd=tmp_path, code=2)
        assert "'busy' is being executed" in refused.stderr
    made = json.loads(seal("compact", "busy", "--json", cwd=tmp_path).stdout)
    assert {(item["run"], item["table"], item["parts"]) for item in made} == {
        ("busy", table, N_PARTS) for table in ("answers", "questions", "stages")
    }
    assert "nothing to compact" in seal("compact", cwd=tmp_path).stdout
    assert rows_of(store) == rows
    assert "no run 'none'" in seal("compact", "none", cwd=tmp_path, code=2).stderr
    seal("compact", "--store", "elsewhere", cwd=tmp_path, code=2)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.long
def test_long_results(store: Store, tmp_path: Path) -> None:
    """3"""
    n = 10_001
    put(store, "scores", many(SCORE, [{"self_edit_id": f"e{i}"} for i in range(n)]))
    cut = seal("sql", "scores", cwd=tmp_path)
    assert cut.stdout.endswith("\n(10000 rows)\n") and "first rows only" in cut.stderr
    exactly = seal("sql", "FROM scores LIMIT 10000", cwd=tmp_path).stdout.splitlines()
    assert exactly[-1] == "(10000 rows)"
    for form in ("csv", "json", "parquet"):
        seal("sql", "scores", "--format", form, "-o", f"out.{form}", cwd=tmp_path)
    assert len(list(csv.reader((tmp_path / "out.csv").open()))) == n + 1
    assert len(json.loads((tmp_path / "out.json").read_text())) == n
    assert pq.read_table(tmp_path / "out.parquet").num_rows == n
    printed = seal("sql", "scores", "--format", "csv", cwd=tmp_path).stdout
    assert printed == (tmp_path / "out.csv").read_text()
    wrong = seal("sql", "FROM none", "--format", "csv", "-o", "out.csv", cwd=tmp_path, code=2)
    assert "none" in wrong.stderr and (tmp_path / "out.csv").read_text() == printed
