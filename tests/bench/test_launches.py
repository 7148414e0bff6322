"""A micro-batch on a GPU makes few calls for a module, and no more for more adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.bench import launches, report
from tests.bench.launch_tables import LIMIT

torch.set_num_threads(1)


@pytest.mark.long
def test_calls_do_not_grow_with_the_adapters(tmp_path: Path) -> None:
    page = Path(shutil.copy(report.REPORT, tmp_path))
    arguments = ["--layers", "2,12", "--n", "4,64", "--report", str(page)]
    launches.main([*arguments, "--json", str(tmp_path / "found.json")])
    records = json.loads((tmp_path / "found.json").read_text())["records"]
    assert len(records) == 8
    for few, many in zip(records[::2], records[1::2], strict=True):
        assert (few["n"], many["n"]) == (4, 64)
        assert many["per_module"] <= min(LIMIT, 1.1 * few["per_module"])
        assert many["per_module"] > 10  # They were counted.
        # The optimizer's, and no module's.
        assert (few["for_own_rates"], many["for_own_rates"]) == (3, 63)
    last = records[-1]
    line = f"| 12 | all-linear | 64 | {last['modules']} | {last['calls']} | {last['bare']} |"
    assert line in page.read_text()
