"""The GPU's benchmark at toy size: its order, its time, what a run that is cut short leaves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from tests.bench import gpu, report
from tests.bench.busy import busy_share, covered, kernels
from tests.bench.edits import ROOT
from tests.bench.gpu_rows import GpuRows
from tests.bench.gpu_tables import gpu_lines
from tests.bench.plan import Budget, Row, run_rows
from tests.bench.records import Record, Records
from tests.bench.shapes import TOY, build
from tests.bench.timing import Sample

torch.set_num_threads(1)

NAMES = ["qv 2", "qv 3", "loops", "all-linear 2", "small 2", "busy 2"]
FOREIGN = (
    *("pyarrow", "duckdb", "prefect", "typer", "rich", "datasets", "trl", "pandas", "fastapi"),
    *("sqlalchemy", "s3fs", "httpx", "gguf", "pytest"),
)
"""What a bare machine with a GPU need not have."""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A copy of the report to write to."""
    return Path(shutil.copy(report.REPORT, tmp_path))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """The records of a toy run, as its file has them."""
    file = tmp_path_factory.mktemp("gpu") / "gpu.json"
    gpu.main(["--toy", "--n", "2,3", "--json", str(file)])
    return json.loads(file.read_text())


def test_the_command_at_toy_size_measures_every_row_in_order(measured: Record) -> None:
    records = {record["row"]: record for record in measured["records"]}
    assert list(records) == measured["planned"] == NAMES
    for name in ("qv 2", "qv 3", "all-linear 2", "small 2"):
        figures = ("batched", "tokens_per_pass", "steps", "flops", "state_bytes", "weight_bytes")
        assert all(records[name][figure] > 0 for figure in figures)
        assert ("answers" in records[name]) == (name != "small 2")
    # Two edits of 8 and 9 rows, a row of each in a pass.
    assert records["qv 2"]["tokens_per_pass"] == pytest.approx(2 * 445 / 9, rel=0.01)
    loops = records["loops"]
    assert loops["peft_epochs"] == measured["epochs"] == 1
    assert min(loops["peft"], loops["published"], loops["answers_one_by_one"]) > 0
    # bfloat16 keeps 8 bits, and ten steps of AdamW feel the last of them.
    assert loops["equal"]["distance"] < 0.05 and loops["equal"]["loss"] < 0.01
    assert records["busy 2"]["busy"] is None and "took" in records["busy 2"]


def test_the_report_names_what_is_missing(measured: Record, page: Path) -> None:
    report.write(page, measured)
    text = page.read_text()
    assert "these figures are missing" in text and "PEFT ÷ batched" in text
    assert "| qv 2 |" in text and "Not measured" not in text


def test_a_run_cut_anywhere_is_rendered(measured: Record) -> None:
    for n_records, record in enumerate(measured["records"]):
        for n_figures in range(1, len(record)):
            data = deepcopy(measured)
            data["records"] = data["records"][: n_records + 1]
            data["records"][-1] = dict(list(record.items())[:n_figures])
            if n_figures == 1:
                data["records"].pop()  # A record begins with its name.
            lines = "\n".join(gpu_lines(data))
            assert lines.count("Not measured") == len(NAMES) - n_records
            for name in NAMES[n_records:]:
                assert f"Not measured: `{name}`" in lines


def test_rows_without_time_are_named(tmp_path: Path, page: Path) -> None:
    arguments = ["--toy", "--n", "2,3", "--minutes", "0.1", "--report", str(page)]
    data = gpu.main(arguments).data
    assert [record["row"] for record in data["records"]] == NAMES
    assert all("skipped" in record for record in data["records"])
    for name in NAMES:
        assert f"Not measured: `{name}`, no time was left" in page.read_text()


def test_the_time_of_rows_before_decides_and_some_is_held_back(tmp_path: Path) -> None:
    now, ran = [100.0], []

    def row(name: str, took: float, *costs: Any) -> Row:
        def run(record: Record) -> None:
            ran.append(name)
            now[0] += took

        return Row(name, run, *costs)

    rows = [
        row("first", 12.0, 1.0, 2.0),  # A unit is 10 s.
        row("too long", 20.0, 2.0),  # 20 s and 9 s held back, of 28 s.
        row("fits", 11.0, 1.9),  # 19 s and 9 s.
        row("held", 9.0, 0.5, 4.0, True),
        row("last", 1.0, 1.0),  # 10 s of 8 s.
    ]
    records = Records(tmp_path / "plan.json", {})
    run_rows(rows, Budget(40.0, lambda: now[0], started=100.0), records)
    assert ran == ["first", "fits", "held"]
    kept = json.loads((tmp_path / "plan.json").read_text())["records"]
    assert [record["row"] for record in kept if "skipped" in record] == ["too long", "last"]
    assert [record.get("took") for record in kept] == [12.0, None, 11.0, 9.0, None]


def test_figures_are_written_at_once_and_a_failure_ends_only_its_row(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    records = Records(file, {"kind": "gpu"})

    def fail(record: Record) -> None:
        records.note(record, batched=1.5)
        assert json.loads(file.read_text())["records"][0]["batched"] == 1.5
        raise torch.OutOfMemoryError("the device is full\nand more")

    run_rows([Row("a", fail, 1.0), Row("b", lambda record: None, 1.0)], Budget(9.0), records)
    one, two = json.loads(file.read_text())["records"]
    assert one["batched"] == 1.5 and one["failed"] == "OutOfMemoryError: the device is full"
    assert "took" in two and "failed" not in two


def test_the_peft_loop_is_reckoned_where_no_whole_edit_fits(tmp_path: Path) -> None:
    args = gpu._arguments(["--toy", "--epochs", "6", "--only", "loops"])
    records = Records(None, {})
    rows = GpuRows(
        args, TOY, build(TOY, dtype=torch.bfloat16), tmp_path, records, Budget(0.0)
    ).rows()
    record: Record = {"row": "loops"}
    rows[0].run(record)
    assert record["peft_epochs"] == 2 and record["peft"] > 0 and "equal" not in record


def test_a_toy_run_does_not_replace_a_real_one(page: Path) -> None:
    data = {"kind": "gpu", "shape": "7B", "machine": {"device": "a GPU"}, "records": []}
    data |= {"rates": {"flops": 1.0, "bytes": 1.0}, "rows": 8.4, "tokens": 445, "epochs": 10}
    report.write(page, data)
    real = page.read_text()
    assert "a GPU" in real and "missing" not in real
    report.write(page, data | {"shape": "toy", "machine": {"device": "a CPU"}})
    assert page.read_text() == real


def test_the_union_of_intervals_counts_no_time_twice() -> None:
    assert covered([]) == 0
    assert covered([(5, 7), (0, 2), (1, 3), (1.5, 1.75), (3, 4), (7, 7)]) == 6


def test_only_kernels_of_the_device_are_busy_time() -> None:
    def event(name: str, device: DeviceType, annotation: bool = False) -> SimpleNamespace:
        fields = {"name": name, "device_type": device, "is_user_annotation": annotation}
        fields |= {"start_ns": 3, "duration_ns": 4}
        return SimpleNamespace(**{key: lambda value=value: value for key, value in fields.items()})

    events = [
        event("gemm", DeviceType.CUDA),
        event("Memcpy HtoD (Pinned -> Device)", DeviceType.CUDA),
        event("Optimizer.step", DeviceType.CUDA, annotation=True),
        event("cudaLaunchKernel", DeviceType.CPU),
    ]
    assert kernels(events) == [(3, 7)]
    with profile(activities=[ProfilerActivity.CPU]) as found:
        torch.ones(2).sum()
    assert found.profiler is not None and found.profiler.kineto_results is not None
    assert kernels(found.profiler.kineto_results.events()) == []
    assert busy_share(lambda: Sample(1.0, 1.0), torch.device("cpu")) is None


def test_the_command_imports_none_of_the_pipeline_s_other_libraries() -> None:
    # None in sys.modules is a library that is not there, also for those that only look.
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({FOREIGN!r})); import tests.bench.gpu; "
        f"assert not any(sys.modules[name] for name in {FOREIGN!r}); "
        "assert not {'storage', 'tasks', 'flows'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
