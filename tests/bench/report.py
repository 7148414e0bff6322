"""Writes docs/performance.md: tables from records, between markers that mark what is generated.

python -m tests.bench.report FILE.json … (renders records that were measured elsewhere)
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.cpu_tables import cpu_lines
from tests.bench.edits import ROOT
from tests.bench.gpu_tables import MEASURED, floor_lines, gpu_lines
from tests.bench.records import Record
from tests.bench.shapes import QWEN_7B
from tests.bench.sql_tables import sql_lines

REPORT = ROOT / "docs" / "performance.md"
_LINES = {"cpu": cpu_lines, "gpu": gpu_lines, "sql": sql_lines}


def write(path: Path, data: Record) -> None:
    """Replaces the part of the report that these records are about, and the floor's."""
    text = path.read_text("utf-8")
    old = _section(text, data["kind"])
    if data["kind"] == "gpu" and data["shape"] != QWEN_7B.name and MEASURED in old:
        return  # A toy run does not replace a real one.
    if data["kind"] == "sql" and data["toy"] and old.strip():
        return
    lines = _LINES[data["kind"]](data)
    text = _replaced(text, data["kind"], lines)
    path.write_text(_replaced(text, "floor", floor_lines()), "utf-8")


def _section(text: str, name: str) -> str:
    found = re.search(rf"<!-- {name}:begin -->\n(.*?)<!-- {name}:end -->", text, re.DOTALL)
    if found is None:
        raise ValueError(f"the report has no part between <!-- {name}:begin --> and its end")
    return found[1]


def _replaced(text: str, name: str, lines: Sequence[str]) -> str:
    old = f"<!-- {name}:begin -->\n{_section(text, name)}<!-- {name}:end -->"
    body = "\n".join(lines).strip("\n")
    return text.replace(old, f"<!-- {name}:begin -->\n\n{body}\n\n<!-- {name}:end -->")


if __name__ == "__main__":
    for file in sys.argv[1:]:
        write(REPORT, json.loads(Path(file).read_text("utf-8")))
