"""Measures the shape of the code: `python -m tests.bench.house --report docs/architecture.md`.

Counts lines and modules, what stands behind the main loop, import circles and the largest folder.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import grimp
import networkx

from tests.bench.markdown import replaced, table

PACKAGES = ("seal_core", "storage", "tasks", "flows")
ROOT = Path(__file__).parents[2]
BEFORE = (20_685, 182, 98, 3, 45)
"""Of the code before the redesign; 98 modules were behind `flows/seal.py`, which ran the stages."""


def shape() -> list[tuple[str, int | str, int]]:
    """Figures by name, before and now."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    lines = sum(len(path.read_text().splitlines()) for path in files)
    folders = Counter(path.parent for path in files if path.name != "__init__.py")
    behind = graph.find_upstream_modules
    edges = ((a, b) for a in graph.modules for b in graph.find_modules_directly_imported_by(a))
    circles = networkx.strongly_connected_components(networkx.DiGraph(edges))
    now = (
        ("lines of Python", lines),
        ("modules", len(graph.modules)),
        (
            "modules behind what runs the stages (`flows/seal_flow.py`)",
            len(behind("flows.seal_flow")),
        ),
        ("import circles", sum(len(circle) > 1 for circle in circles)),
        ("files of the largest folder", max(folders.values())),
    )
    rows = [(name, before, value) for (name, value), before in zip(now, BEFORE, strict=True)]
    loop = len(behind("flows.seal"))
    return [*rows, ("modules behind the statement of the algorithm (`flows/seal.py`)", "–", loop)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path)
    report = parser.parse_args().report
    lines = table(("", "before", "now"), [(n, _number(a), _number(b)) for n, a, b in shape()])
    print("\n".join(lines))
    if report:
        report.write_text(replaced(report.read_text("utf-8"), "shape", ["", *lines]), "utf-8")


def _number(value: int | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"


if __name__ == "__main__":
    main()
