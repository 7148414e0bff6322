"""Opens a catalog and asks once, in a process of its own; prints seconds and memory as JSON.

python -m tests.bench.sql_query STORE "SELECT …" [--stream]
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from storage.sql.catalog import Catalog
from storage.store import Store


def main(root: str, sql: str, mode: str = "") -> None:
    """Measures from an interpreter that has imported everything."""
    start, cpu = time.perf_counter(), _cpu()
    with Catalog(Store.open(root, create=False)) as catalog:
        opened = time.perf_counter()
        if mode == "--stream":
            with catalog.stream(sql) as reader:
                rows = sum(batch.num_rows for batch in reader)
        else:
            rows = catalog.query(sql).arrow.num_rows
        asked = time.perf_counter()
    figures = {
        "open": opened - start,
        "wall": asked - start,
        "cpu": _cpu() - cpu,
        "peak": _peak(),
        "rows": rows,
    }
    print(json.dumps(figures))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> int:
    """Bytes. Not `ru_maxrss`, which a child begins with its parent's share of."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
