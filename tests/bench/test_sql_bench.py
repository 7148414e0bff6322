"""The SQL benchmark at toy size: a store whose views say what its rows do, and a report."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from storage.sql.catalog import Catalog
from storage.sql.queries import list_queries
from storage.store import Store
from tests.bench import report, sql
from tests.bench.sql_rows import TOY
from tests.bench.sql_store import build

PAGE = "# Page\n\n<!-- floor:begin -->\n<!-- floor:end -->\n<!-- sql:begin -->\n<!-- sql:end -->\n"


@pytest.mark.long
def test_the_command_measures_every_view(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    arguments = ["--quick", "--folder", str(tmp_path / "stores"), "--report", str(page)]
    data = sql.main([*arguments, "--json", str(tmp_path / "sql.json")]).data
    assert json.loads((tmp_path / "sql.json").read_text()) == data
    views = [item for item in data["records"] if item["section"] == "view"]
    for store in ("answers", "answers-compact"):
        names = {item["name"].partition(",")[0] for item in views if item["store"] == store}
        assert names == {query.name for query in list_queries()}
    for item in data["records"]:
        for sample in item.get("samples", ()):
            assert sample["wall"] > 0 and sample["cpu"] > 0 and 10e6 < sample["peak"] < 1e9
    files = {item["store"]: item["files"] for item in data["records"] if "files" in item}
    assert files["answers-compact"] < files["answers"] / 3
    text = page.read_text()
    assert "| `best_edits` |" in text and "`seal sql best_edits`" in text
    # A toy run does not replace what is there.
    report.write(page, {**data, "records": []})
    assert page.read_text() == text


def test_the_store_is_consistent(tmp_path: Path) -> None:
    root = tmp_path / "store"
    assert build(root, TOY) and not build(root, TOY)
    n_edits = TOY.runs * TOY.rounds * TOY.problems * TOY.edits
    with Catalog(Store.open(str(root), create=False)) as catalog:
        scores = catalog.records("SELECT * FROM scores WHERE split = 'train'")
        assert len(scores) == n_edits
        ((different, n),) = catalog.fetch(
            """SELECT count(*) FILTER (abs(m.mean - s.reward) > 1e-9), count(*)
            FROM scores s JOIN (SELECT run, round, self_edit_id, avg(correct::INT) AS mean
            FROM answers GROUP BY ALL) m USING (run, round, self_edit_id)"""
        )
        assert different == 0 and n > n_edits
        rounds = catalog.records("FROM rewards_by_round")
        assert len(rounds) == TOY.runs * TOY.rounds
        first = [s["gain"] for s in scores if (s["run"], s["round"]) == ("bench-0", 0)]
        assert rounds[0]["mean_gain"] == pytest.approx(statistics.mean(first))
        assert {row["n_kept"] for row in rounds} == {TOY.problems}
        assert {r["condition"] for r in catalog.records("FROM heldout_by_condition")} >= {
            "no_adaptation", "in_context", "input_only", "round_0", "round_2",
        }  # fmt: skip
        assert max(r["depth"] for r in catalog.records("FROM policy_lineage")) == TOY.rounds
        (missing,) = catalog.fetch(
            "SELECT count(*) FROM question_before_after WHERE correct_before IS NULL "
            "AND text_before IS NULL AND split = 'heldout'"
        )
        assert missing[0] < 10


def test_half_a_store_is_not_taken_for_one(tmp_path: Path) -> None:
    Store.open(str(tmp_path / "store"))
    with pytest.raises(FileExistsError, match="half a store"):
        build(tmp_path / "store", TOY)
