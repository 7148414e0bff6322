"""Writes docs/performance.md: tables from records, between markers that mark what is generated.

python -m tests.bench.report FILE.json … (renders records that were measured elsewhere)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.bench.cpu_tables import cpu_lines
from tests.bench.edits import ROOT
from tests.bench.gpu_tables import MEASURED, floor_lines, gpu_lines
from tests.bench.launch_tables import launch_lines
from tests.bench.markdown import replaced, section
from tests.bench.records import Record
from tests.bench.rounding_tables import rounding_lines
from tests.bench.shapes import QWEN_7B
from tests.bench.sql_tables import sql_lines

REPORT = ROOT / "docs" / "performance.md"
_LINES = {
    "cpu": cpu_lines,
    "gpu": gpu_lines,
    "launches": launch_lines,
    "rounding": rounding_lines,
    "sql": sql_lines,
}


def write(path: Path, data: Record) -> None:
    """Replaces the part of the report that these records are about, and the floor's."""
    text = path.read_text("utf-8")
    old = section(text, data["kind"])
    measured = data["kind"] == "gpu" and any("took" in row for row in data["records"])
    is_real = measured and data["shape"] == QWEN_7B.name
    if data["kind"] == "gpu" and MEASURED in old and not is_real:
        return  # A toy run does not replace a real one, nor one without the time for a row.
    if data["kind"] == "sql" and data["toy"] and old.strip():
        return
    lines = _LINES[data["kind"]](data)
    text = replaced(text, data["kind"], lines)
    path.write_text(replaced(text, "floor", floor_lines()), "utf-8")


if __name__ == "__main__":
    for file in sys.argv[1:]:
        write(REPORT, json.loads(Path(file).read_text("utf-8")))
