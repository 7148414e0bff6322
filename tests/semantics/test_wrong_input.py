"""Wrong input: one line that names the thing and the fix, exit code 2, and nothing written.

 1. A config file that does not exist.
 2. A data file that does not exist.
 3. A passage without questions.
 4. An unknown config key.
 5. A model folder that does not exist, or has no tokenizer.
 6. K = 0.
 7. A store that is not writable: a file stands where the folder should be.
 8. A run without a name.
 8. A run name that is no file name, an empty one, and a device that is none.
 9. An unknown prompt or grader.
10. Another config under a used run name: see test_run_promises.py, which needs a run.
11. vLLM that is not installed or cannot do it, or a vLLM server that is not there.
12. A passage longer than the model's context, a target that it lacks, a device that is not there.
13. `seal plan` refuses all of it in the same words.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.commands.running.plan import plan
from seal_core.errors import InputError
from tests.models import save_qwen2
from tests.waiting import HUNG

ROOT = Path(__file__).parents[2]
SQUAD = [
    {"title": f"T{i}", "context": f"Passage {i}.", "questions": [{"question": "Q?", "answer": "A"}]}
    for i in range(4)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("wrong")
    save_qwen2(base / "model")
    save_qwen2(base / "mute")
    for path in (base / "mute").glob("tokenizer*"):
        path.unlink()
    (base / "good.json").write_text(json.dumps(SQUAD))
    long = {**SQUAD[3], "title": "Rivers", "context": "Long. " * 900}
    (base / "long.json").write_text(json.dumps([*SQUAD[:3], long]))
    (base / "bad.json").write_text(json.dumps([*SQUAD[:2], {**SQUAD[2], "questions": []}]))
    return base


def seal(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=HUNG,
        check=False,
    )


CASES = {
    "1 config": (["none.toml"], ["none.toml", "no such config"]),
    "2 data": (["--set", "data.path=none.json"], ["none.json"]),
    "3 questions": (["--set", "data.path=bad.json"], ["bad.json", "3", "questions"]),
    "4 key": (["--set", "sample.temprature=1"], ["sample.temprature", "sample.temperature"]),
    "5 model": (["--set", "model.path=./none"], ["none"]),
    "5 tokenizer": (["--set", "model.path=mute"], ["mute", "tokenizer"]),
    "6 K": (["--set", "sample.edits_per_problem=0"], ["edits_per_problem = 0"]),
    "7 store": (["--store", "good.json"], ["good.json"]),
    "8 name": (["--set", "run.name=none"], ["--name"]),
    "8 bad name": (["--name", "bad name"], ["bad name"]),
    "8 no name": (["--name", ""], ["run name ''"]),
    "8 device": (["--set", "execution.device=foo"], ["'foo' is no device", "cuda:1"]),
    "8 no model": (["--set", "model.path="], ["model has no name", "model.path"]),
    "9 prompt": (["--set", "sample.prompt=poem@1"], ["poem@1", "implications@1"]),
    "9 grader": (["--set", "evaluate.grader=vibes"], ["vibes", "exact_match"]),
    "11 vllm": (
        ["--set", "engine.kind=vllm", "--set", f"engine.python={sys.executable}"],
        ["vLLM is not installed", "docs/vllm.md"],
    ),
    "11 python": (["--set", "engine.kind=vllm", "--set", "engine.python=./none"], ["./none"]),
    "11 server": (
        ["--set", "engine.kind=vllm", "--set", 'engine.servers=["http://127.0.0.1:9"]'],
        ["http://127.0.0.1:9", "start it"],
    ),
    "11 rank": (
        ["--set", "engine.kind=vllm", "--set", "finetune.rank=500", "--set", "update.rank=500"],
        ["finetune.rank", "1000", "512"],
    ),
    "12 passage": (
        ["--set", "data.path=long.json"],
        [
            "context of model is 4096 tokens",
            "a self-edit on 'Rivers' (problem-",
            "shorten or split",
        ],
    ),
    "12 target": (["--set", 'finetune.targets=["q_prj"]'], ["'q_prj'", "it has down_proj"]),
    "12 device": (["--set", "execution.device=cuda:7"], ["no cuda", "execution.device=cpu"]),
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_input_is_one_line_and_writes_nothing(case: str, folder: Path) -> None:
    extra, words = CASES[case]
    before = sorted(folder.rglob("*"))
    good = ["--set", "data.path=good.json", "--set", "model.path=model"]
    config = [] if case == "1 config" else [str(ROOT / "configs/squad.toml")]
    done = seal("run", *config, *good, *extra, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("case", [case for case in CASES if case != "1 config"])
def test_a_plan_refuses_it_too(case: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """13"""
    extra, words = CASES[case]
    monkeypatch.chdir(folder)
    given: dict[str, str | None] = {"--name": None, "--store": None}
    settings = ["data.path=good.json", "model.path=model"]
    for option, value in zip(extra[::2], extra[1::2], strict=True):
        if option == "--set":
            settings.append(value)
        else:
            given[option] = value
    with pytest.raises(InputError) as caught:
        plan(str(ROOT / "configs/squad.toml"), given["--name"], settings, given["--store"])
    for word in words:
        assert word in str(caught.value)
