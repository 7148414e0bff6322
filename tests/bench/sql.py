"""`make bench-sql`: SQL over ten million answers, before and after compaction.

python -m tests.bench.sql [--quick] [--repeats 5] [--folder build/bench-sql]

The stores stay in the folder, and are taken from there the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from storage.files.json_records import read_record, write_record
from storage.files.local import LocalFiles
from storage.runs.compaction import compact
from storage.sql.queries import list_queries
from storage.store import Store
from storage.tables.paths import result_record
from storage.tables.schema import TABLES
from tests.bench import report
from tests.bench.records import Record, Records, machine
from tests.bench.sql_rows import FULL, TOY, Size
from tests.bench.sql_store import build

MANY_PARTS = Size(2, 2, 80, 17, 2, 2, 3, 2, 1)
"""Five thousand part files, with little in them."""
SEAL = ("-c", "from flows.cli import main; main()")
WHOLE = "question_before_after"
ONE_EDIT = f"SELECT * FROM {WHOLE} WHERE self_edit_id = (SELECT min(self_edit_id) FROM selections)"
ALL_TABLES = f"SELECT {', '.join(f'(SELECT count(*) FROM {name})' for name in TABLES)}"
TYPED = ("rewards_by_round", "best_edits")
N_RECORDS = 5000


def main(argv: Sequence[str] | None = None) -> Records:
    """Measures, and writes the JSON and the report that were asked for."""
    args = _arguments(argv)
    head = {"kind": "sql", "toy": args.quick, "machine": machine(torch.device("cpu"), 1)}
    records = Records(args.json, head)
    args.folder.mkdir(parents=True, exist_ok=True)
    sizes = {"answers": FULL, "parts": MANY_PARTS}
    if args.quick:
        sizes = {"answers": TOY, "parts": TOY}
    for name, size in sizes.items():
        _build(records, args.folder / name, size)
    _views(records, args, args.folder / "answers")
    _typed(records, args, args.folder / "answers-compact")
    _opening(records, args, args.folder / "parts")
    _result_records(records, args.folder / "records")
    if args.report is not None:
        report.write(args.report, records.data)
        records.tell(f"wrote {args.report}")
    return records


def _build(records: Records, root: Path, size: Size) -> None:
    """The store as runs leave it, and beside it, of the same files, the compacted one."""
    start = time.perf_counter()
    made = build(root, size)
    records.tell(
        f"{root.name}: {'made' if made else 'found'} in {time.perf_counter() - start:.0f} s"
    )
    compacted = root.with_name(f"{root.name}-compact")
    shutil.rmtree(compacted, ignore_errors=True)
    shutil.copytree(root, compacted, copy_function=os.link)
    start, cpu = time.perf_counter(), time.process_time()
    compact(Store.open(str(compacted), create=False))
    seconds = {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    records.tell(f"{root.name}: compacted in {seconds['wall']:.0f} s")
    for store in (root, compacted):
        paths = [path for name in TABLES for path in (store / name).rglob("*.parquet")]
        records.add(
            {
                "section": "store",
                "store": store.name,
                "files": len(paths),
                "bytes": sum(path.stat().st_size for path in paths),
                "compaction": seconds if store == compacted else None,
            }
        )


def _views(records: Records, args: argparse.Namespace, root: Path) -> None:
    """Every named view, its rows fetched; the one with millions of rows is streamed once."""
    names = [query.name for query in list_queries() if query.name != WHOLE]
    queries = {name: f"SELECT * FROM {name}" for name in names}
    queries[f"{WHOLE}, one self-edit"] = ONE_EDIT
    for store in (root, root.with_name(f"{root.name}-compact")):
        for name, sql in queries.items():
            samples = [_ask(store, sql) for _ in range(args.repeats)]
            _add(records, "view", store, name, samples)
    store = root.with_name(f"{root.name}-compact")
    _add(records, "view", store, f"{WHOLE}, all", [_ask(store, f"FROM {WHOLE}", "--stream")])


def _typed(records: Records, args: argparse.Namespace, store: Path) -> None:
    """The command as typed: from the start of the interpreter to the printed table."""
    for name in TYPED:
        command = (sys.executable, *SEAL, "sql", name, "--store", str(store))
        samples = [_child("tests.bench.sql_typed", *command) for _ in range(args.repeats)]
        _add(records, "typed", store, f"seal sql {name}", samples)


def _opening(records: Records, args: argparse.Namespace, root: Path) -> None:
    """A catalog opened, and every table of it counted."""
    for store in (root, root.with_name(f"{root.name}-compact")):
        samples = [_ask(store, ALL_TABLES) for _ in range(args.repeats)]
        _add(records, "opening", store, "every table counted", samples)


def _result_records(records: Records, folder: Path) -> None:
    """What a run that is started again reads of its shards: one small record each."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    files = LocalFiles(folder)
    paths = [result_record(f"{i:064x}") for i in range(N_RECORDS)]
    value = {"metadata": {}, "result": {"refs": [{"sha256": "0" * 64, "path": "x" * 70}] * 2}}
    for path in paths:
        write_record(files, path, value)
    start = time.perf_counter()
    for path in paths:
        read_record(files, path)
    seconds = time.perf_counter() - start
    records.add({"section": "records", "n": len(paths), "wall": seconds})
    shutil.rmtree(folder)


def _ask(store: Path, sql: str, *mode: str) -> Record:
    return _child("tests.bench.sql_query", str(store), sql, *mode)


def _child(module: str, *arguments: str) -> Record:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _add(records: Records, section: str, store: Path, name: str, samples: Sequence[Record]) -> None:
    records.add({"section": section, "store": store.name, "name": name, "samples": list(samples)})
    shown = sorted(sample["wall"] for sample in samples)[len(samples) // 2]
    peak = max(sample["peak"] for sample in samples) / 2**30
    records.tell(f"  {store.name}, {name}: {shown:.2f} s, {peak:.2f} GiB")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sql", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a toy store, to try the command")
    parser.add_argument("--repeats", type=int, help="fresh processes per query (5)")
    parser.add_argument("--folder", type=Path, default=Path("build/bench-sql"))
    parser.add_argument("--json", type=Path, help="write all samples here")
    parser.add_argument("--report", type=Path, help="rewrite this report's SQL part")
    args = parser.parse_args(argv)
    args.repeats = args.repeats or (1 if args.quick else 5)
    return args


if __name__ == "__main__":
    main()
