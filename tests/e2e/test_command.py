"""The command line as typed, with real engines in processes of their own.

1. A whole round on real SQuAD passages with a model folder that is not ours.
2. The embedded model's loop: results, status, sql, show, verify, and a second run from the cache.
3. A run killed with SIGKILL goes on, and its tables equal an undisturbed run's.
4. Ctrl-C ends with 130, SIGTERM with 143, and both say how to go on.
5. Another config under a used run name: one line with the field that differs, exit code 2.
6. Ctrl-C also ends a run that waits for a shard on which another run works.
7. Of two starts of a new run at the same moment one works, and the other says so.
8. Base, policy and self-edits give their stored answers again when they are asked.
9. What is exported gives them too, to plain transformers and PEFT.
10. The report is one page that loads nothing, and a browser shows it without an error.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from peft import AutoPeftModelForCausalLM, PeftConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from flows.run_models.asking import open_models
from storage.store import Store
from tests.models import save_qwen2
from tests.waiting import HUNG

ROOT = Path(__file__).parents[2]
SQUAD = Path(os.environ.get("SEAL_TEST_DATA", ROOT.parent / "shared/data")) / "squad/train50.json"
SEAL = [sys.executable, "-c", "from flows.cli import main; main()"]
SMALL = [
    *("--set", "run.rounds=1", "--set", "data.limit=3", "--set", "data.heldout_limit=3"),
    *("--set", "finetune.epochs=2", "--set", "execution.shard_size=1"),
    *("--set", "sample.edits_per_problem=2"),
]
DEMO = ["run", str(ROOT / "configs/demo.toml"), *SMALL]


def seal(*arguments: str, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        [*SEAL, *arguments], cwd=cwd, capture_output=True, text=True, timeout=HUNG, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def tables(store: Path) -> dict[str, bytes]:
    parts = (p for p in store.rglob("*.parquet") if "stages" not in p.parts)
    return {str(p.relative_to(store)): p.read_bytes() for p in parts if "runs" not in p.parts}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A name like a table's partition, and characters that patterns, URLs and SQL know.
    folder = tmp_path_factory.mktemp("demo") / "round=3" / "run=x #1? [a]* 'é' 100%"
    folder.mkdir(parents=True)
    assert "Held-out accuracy, run demo" in seal(*DEMO, cwd=folder)
    return folder


@pytest.mark.skipif(not SQUAD.exists(), reason="the shared SQuAD file is not here")
def test_a_round_on_squad_with_any_model_folder(tmp_path: Path) -> None:
    """1"""
    save_qwen2(tmp_path / "model")
    out = seal(
        *("run", str(ROOT / "configs/squad.toml"), "--set", f"data.path={SQUAD}"),
        *("--set", "data.limit=4", "--set", "model.path=model", "--set", "sample.max_tokens=48"),
        *("--set", "finetune.epochs=1", "--set", "finetune.repeats=1", "--json"),
        cwd=tmp_path,
    )
    report = json.loads(out)
    assert report["run"] == "squad"
    names = [
        "no_adaptation",
        "input_only",
        "input_only_matched",
        "round_0",
        "round_1",
        "in_context",
    ]
    assert [row["condition"] for row in report["conditions"]] == names
    assert all(0 <= row["mean"] <= 1 and row["n"] == 1 for row in report["conditions"])


def test_results_status_sql_and_show(demo: Path) -> None:
    """2"""
    report = json.loads(seal("results", "demo", "--json", cwd=demo))
    first = report["conditions"][0]
    assert {"condition", "n", "mean", "low", "high", "steps", "tokens"} <= set(first)
    assert {"a", "b", "mean", "se", "low", "high"} <= set(report["paired"][0])
    assert "finetune round_0" in seal("status", cwd=demo)
    sql = "SELECT round, avg(gain) FROM scores GROUP BY round ORDER BY round"
    rows = json.loads(seal("sql", sql, "--format", "json", cwd=demo))
    assert [row["round"] for row in rows] == [-1, 0, 1]
    for kept, word in ((True, "kept"), (False, "rejected")):
        query = f"SELECT self_edit_id FROM selections WHERE kept = {kept} LIMIT 1"
        (row,) = json.loads(seal("sql", query, "--format", "json", cwd=demo))
        shown = seal("show", row["self_edit_id"], cwd=demo)
        for part in ("Training rows\n", "Reward", "Answers after training", "before:", word):
            assert part in shown
    problem = json.loads(seal("sql", "problems", "--format", "json", cwd=demo))[0]
    assert problem["context"] in seal("show", problem["problem_id"], cwd=demo)
    seal("show", "edit-0000", cwd=demo, code=2)
    seal("results", "none", cwd=demo, code=2)
    assert "ok" in seal("doctor", cwd=demo)
    assert "all whole" in seal("verify", cwd=demo)
    part = next((demo / "seal-store/answers").rglob("part-*.parquet"))
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])
    named = seal("verify", "demo", cwd=demo, code=1)
    part.write_bytes(whole)
    assert part.name in named and "1 damaged; resume demo" in named


def test_a_finished_run_is_cached(demo: Path) -> None:
    """2"""
    before = tables(demo / "seal-store")
    seal(*DEMO, cwd=demo)
    assert tables(demo / "seal-store") == before


def test_another_config_under_a_used_name_is_refused(demo: Path) -> None:
    """5"""
    before = tables(demo / "seal-store")
    done = subprocess.run(
        [*SEAL, *DEMO, "--set", "finetune.lr=0.5"],
        cwd=demo,
        capture_output=True,
        text=True,
        timeout=HUNG,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "finetune.lr: 0.003 -> 0.5" in done.stderr
    assert tables(demo / "seal-store") == before


ANSWERS = """
SELECT a.self_edit_id AS edit, q.prompt, a.text, a.problem_id AS problem
FROM answers a JOIN questions q USING (run, question_id)
WHERE a.condition = '{}' AND a.split = 'heldout' ORDER BY a.problem_id, a.answer_id LIMIT 6
"""


def stored(demo: Path, condition: str) -> list[dict[str, str]]:
    query = ANSWERS.format(condition)
    return json.loads(seal("sql", query, "--format", "json", cwd=demo))


def test_ask_gives_the_stored_answers(demo: Path) -> None:
    """8"""
    store = Store.open(str(demo / "seal-store"), create=False)
    rows = stored(demo, "round_1")
    heard: list[str] = []
    models = open_models(store, "demo", base=True, edits=[rows[0]["edit"]], hear=heard.append)
    for row in (row for row in rows if row["edit"] == rows[0]["edit"]):
        heard.clear()
        base, edit = models.ask(row["prompt"])
        assert (base.model, edit.model) == ("base", row["edit"])
        assert edit.answer == row["text"] and "".join(heard) == base.answer + edit.answer
    row = stored(demo, "in_context")[0]
    models = open_models(store, "demo", base=True, passage=row["problem"])
    assert [said.answer for said in models.ask(row["prompt"])] == [row["text"]]
    question = rows[0]["prompt"]
    printed = seal("ask", "demo", question, "--base", "--edit", rows[0]["edit"], cwd=demo)
    lines = printed.splitlines()
    assert lines[1] == f"{rows[0]['edit']}: {rows[0]['text'].strip()}" and len(lines) == 2
    for wrong in (["--edit", "edit-0"], ["--policy", "policy-0"], ["--passage", "problem-0"]):
        seal("ask", "demo", question, *wrong, cwd=demo, code=2)


def said(model: Any, tokenizer: Any, question: str) -> str:
    ids = tokenizer(f"Q: {question} A:", return_tensors="pt")["input_ids"]
    made = model.generate(input_ids=ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    return tokenizer.decode(made, skip_special_tokens=True).partition("\n")[0]


def test_exports_give_the_stored_answers(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """9"""
    monkeypatch.chdir(demo)
    rows = stored(demo, "round_1")
    edit = rows[0]["edit"]
    made = json.loads(seal("export", "demo", "adapter", "--edit", edit, "--json", cwd=demo))
    assert (made["rank"], len(made["adapters"])) == (24, 2)
    seal("export", "demo", "merged", "--edit", edit, "--form", "merged", cwd=demo)
    tokenizer = AutoTokenizer.from_pretrained("merged")
    for model in (
        AutoPeftModelForCausalLM.from_pretrained("adapter"),
        AutoModelForCausalLM.from_pretrained("merged"),
    ):
        for row in (row for row in rows if row["edit"] == edit):
            assert said(model, tokenizer, row["prompt"]) == row["text"]
    card = (demo / "merged/README.md").read_text()
    assert f"# {edit} of run demo" in card and "license: mit" in card and "| round_1 |" in card
    seal("export", "demo", "merged", cwd=demo, code=2)
    # What an edit's adapter in the store stands on is not lost on whoever loads it alone.
    alone = demo / "seal-store" / made["adapters"][1]
    with pytest.warns(UserWarning, match="needs_seal_policy"):
        PeftConfig.from_pretrained(str(alone))


class Page(HTMLParser):
    """What a page refers to, its ids and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [str(values["id"])] if "id" in values else []
        self.loaded += [str(values[k]) for k in ("src", "href") if k in values and tag != "use"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_one_page(demo: Path) -> None:
    """10"""
    seal("report", "demo", "-o", "r.html", cwd=demo)
    page = Page()
    page.feed((demo / "r.html").read_text())
    assert page.loaded == ["data:,"] and len(set(page.ids)) == len(page.ids)
    for words in ("Run demo", "in_context", "3 held-out problems", "epochs"):
        assert words in page.text
    best = json.loads(seal("sql", "best_edits", "--format", "json", cwd=demo))[0]
    assert best["self_edit_id"] in page.text
    for wrong in (["demo", "demo"], ["none"], ["demo", "-o", "seal-store/r.html"]):
        seal("report", *wrong, cwd=demo, code=2)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_shows_the_report(demo: Path, tmp_path: Path) -> None:
    """10"""
    seal("report", "demo", "-o", str(tmp_path / "r.html"), cwd=demo)
    chromium = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
    ]
    picture = tmp_path / "r.png"
    done = subprocess.run(
        [*chromium, f"--user-data-dir={tmp_path}/profile", f"--screenshot={picture}", "r.html"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HUNG,
        check=True,
    )
    assert "CONSOLE" not in done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


def _start(folder: Path, *more: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*SEAL, *DEMO, *more], cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("finetune heldout round_0"):
            return process
    raise AssertionError(f"the run ended with {process.wait()}")


@pytest.mark.long
def test_a_killed_run_goes_on(demo: Path, tmp_path: Path) -> None:
    """3"""
    process = _start(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=HUNG)
    seal(*DEMO, cwd=tmp_path)
    assert tables(tmp_path / "seal-store") == tables(demo / "seal-store")


@pytest.mark.long
def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    """4"""
    process = _start(tmp_path)
    # As a terminal does: to the whole foreground group.
    os.killpg(process.pid, signal.SIGINT)
    _, rest = process.communicate(timeout=HUNG)
    assert process.returncode == 130, rest
    assert "go on with: seal run" in rest
    assert "Traceback" not in rest


def test_sigterm_ends_in_good_order(tmp_path: Path) -> None:
    """4"""
    process = _start(tmp_path)
    for _ in range(4):  # `timeout` sends two; none may interrupt what the first began.
        process.terminate()
        time.sleep(0.02)
    _, rest = process.communicate(timeout=HUNG)
    assert process.returncode == 143, rest
    assert "go on with: seal run" in rest
    assert "Traceback" not in rest
    assert "Crash" not in rest


@pytest.mark.long
def test_ctrl_c_while_another_run_has_the_shard(tmp_path: Path) -> None:
    """6"""
    first = _start(tmp_path)
    notes = tmp_path / "seal-store/_running"
    try:
        while True:  # Until it is stopped while it works on a shard.
            os.killpg(first.pid, signal.SIGSTOP)
            if any(b'"ended_at":null' in note.read_bytes() for note in notes.glob("demo/*.json")):
                break
            os.killpg(first.pid, signal.SIGCONT)
            assert first.poll() is None
            time.sleep(0.02)
        second = _start(tmp_path, "--name", "second")
        time.sleep(3)
        assert not list(notes.glob("second/*.json"))  # It waits.
        os.killpg(second.pid, signal.SIGINT)
        _, rest = second.communicate(timeout=HUNG)
        assert second.returncode == 130, rest
        assert "Traceback" not in rest
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait(timeout=HUNG)


@pytest.mark.long
@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_two_starts_at_once(tmp_path: Path, pause: float) -> None:
    """7"""
    starts = []
    for _ in range(2):
        starts.append(
            subprocess.Popen([*SEAL, *DEMO], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        )
        time.sleep(pause)
    told = [start.communicate(timeout=HUNG)[1] for start in starts]
    codes = [start.returncode for start in starts]
    assert sorted(codes) == [0, 2], told
    refused = told[codes.index(2)]
    assert "run 'demo' is being executed by another process" in refused
    assert refused.count("\n") == 1
