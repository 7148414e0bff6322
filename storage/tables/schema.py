"""The tables: one declaration each, from which Arrow schema, SQL types and docs follow."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Union

import pyarrow as pa

from seal_core import types as nouns
from storage.tables.glossary import GLOSSARY
from storage.tables.store_rows import ProblemRow, QuestionRow, RunRow, StageRow

PARTITIONS = {"run": "VARCHAR", "round": "INTEGER"}
_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_SQL = {str: "VARCHAR", int: "BIGINT", float: "DOUBLE", bool: "BOOLEAN"}
_ATTRIBUTE = re.compile(r"^ {8}(\w+(?:, \w+)*): (.*(?:\n {12}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        python: The scalar type; of the items, if `is_list`; of the values by name, if `is_map`.
    """

    name: str
    python: type
    nullable: bool
    is_list: bool
    doc: str
    is_map: bool = False

    @property
    def arrow(self) -> pa.Field:
        """The column as an Arrow field."""
        scalar = _ARROW[self.python]
        kind = pa.list_(scalar) if self.is_list else scalar
        if self.is_map:
            kind = pa.map_(pa.string(), scalar)
        return pa.field(self.name, kind, nullable=self.nullable)

    def cell(self, value: Any) -> Any:
        """A value as Arrow takes it; the names of a map in their order, so that bytes are equal."""
        return sorted(value.items()) if self.is_map and value is not None else value

    @property
    def sql(self) -> str:
        """The column's type in DuckDB."""
        scalar = _SQL[self.python]
        if self.is_map:
            return f"MAP(VARCHAR, {scalar})"
        return scalar + ("[]" if self.is_list else "")


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        row: The frozen dataclass of its rows.
        key: Columns that identify a row within a run.
        version: Raised when a column changes its meaning or type.
        about: One line for the docs.
    """

    name: str
    row: type
    key: tuple[str, ...]
    version: int
    about: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of a part, without metadata."""
        return pa.schema([column.arrow for column in self.columns])

    def to_arrow(self, rows: Sequence[Any]) -> pa.Table:
        """Rows as an Arrow table, in their order.

        Raises:
            TypeError: a row is not of this table.
        """
        for row in rows:
            if type(row) is not self.row:
                raise TypeError(f"{self.name} takes {self.row.__name__}, not {type(row).__name__}")
        arrays = [
            pa.array([column.cell(getattr(row, column.name)) for row in rows], column.arrow.type)
            for column in self.columns
        ]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def from_arrow(self, table: pa.Table) -> list[Any]:
        """Rows of a part; a column that an older version lacks is None."""
        values = [self._values(column, table) for column in self.columns]
        return [self.row(*cells) for cells in zip(*values, strict=True)]

    @staticmethod
    def _values(column: Column, table: pa.Table) -> list[Any]:
        if column.name not in table.column_names:
            return [None] * table.num_rows
        cells = table.column(column.name).to_pylist(maps_as_pydicts="strict")
        return [tuple(cell) for cell in cells] if column.is_list else cells


def _declare(name: str, row: type, key: Sequence[str], about: str, version: int = 1) -> Table:
    docs = {
        name: " ".join(text.split())
        for names, text in _ATTRIBUTE.findall(row.__doc__ or "")
        for name in names.split(", ")
    }
    hints = typing.get_type_hints(row)
    columns = tuple(
        _column(field.name, hints[field.name], docs.get(field.name) or GLOSSARY[field.name])
        for field in dataclasses.fields(row)
    )
    return Table(name, row, tuple(key), version, about, columns)


def _column(name: str, hint: Any, doc: str) -> Column:
    members = typing.get_args(hint)
    nullable = typing.get_origin(hint) in (Union, types.UnionType) and type(None) in members
    if nullable:
        (hint,) = (member for member in members if member is not type(None))
    is_list, is_map = (typing.get_origin(hint) is kind for kind in (tuple, dict))
    if is_list or is_map:
        hint = typing.get_args(hint)[int(is_map)]
    if typing.get_origin(hint) is Literal:
        hint = str
    return Column(name, hint, nullable, is_list, doc, is_map)


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        _declare("runs", RunRow, ["run"], "Named runs and their configs."),
        _declare("problems", ProblemRow, ["problem_id"], "Passages."),
        _declare("questions", QuestionRow, ["question_id"], "Questions about the passages."),
        _declare(
            "left_out",
            nouns.LeftOut,
            ["unit", "place", "text"],
            "Problems and questions of the source that the run does not use.",
        ),
        _declare(
            "advice",
            nouns.Advice,
            ["setting"],
            "What looked like a mistake in the set-up before the run.",
        ),
        _declare("self_edits", nouns.SelfEdit, ["self_edit_id"], "What the policies wrote.", 3),
        _declare(
            "adapters", nouns.Adapter, ["adapter_id"], "LoRA weights trained on self-edits.", 2
        ),
        _declare("answers", nouns.Answer, ["answer_id"], "Answers to questions, graded.", 3),
        _declare("scores", nouns.Score, ["self_edit_id"], "Rewards of self-edits.", 2),
        _declare("selections", nouns.Selection, ["self_edit_id"], "Verdicts of the filter."),
        _declare("policies", nouns.Policy, ["policy_id"], "Models that write self-edits.", 2),
        _declare(
            "continual",
            nouns.ContinualAccuracy,
            ["step", "passage_index"],
            "Accuracy on the passages of a sequence while they are learnt one after the other.",
        ),
        _declare(
            "stages",
            StageRow,
            ["identity", "started_at", "pid", "attempt"],
            "Executions of shards: time, tokens, failures.",
        ),
    )
}


def tables_markdown() -> str:
    """The text of docs/tables.md."""
    parts = [_HEAD]
    for table in TABLES.values():
        key = ", ".join(f"`{name}`" for name in table.key)
        lines = [
            f"## {table.name}\n",
            f"{table.about} Key within a run: {key}. Version {table.version}.\n",
            "| column | type | may be null | meaning |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| `{c.name}` | {c.sql} | {'yes' if c.nullable else ''} | {c.doc} |"
            for c in table.columns
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


_HEAD = f"""# Tables

Generated from `storage/tables/schema.py`: run `python -m storage.tables.schema > docs/tables.md`.

A file is `<store>/<table>/run=<name>/round=<k>/part-<name>.parquet`; `seal compact` makes one
of many, `part-compact-<name>.parquet`. Any reader of Parquet opens them, by a plain glob over the
folder unless a compaction is under way or was killed (Polars is installed apart):

    duckdb.sql("FROM read_parquet('seal-store/scores/*/*/*.parquet', hive_partitioning=true)")
    polars.read_parquet("seal-store/scores/*/*/*.parquet", hive_partitioning=True)
    pandas.read_parquet("seal-store/scores")

Besides its own columns, every table has the partition columns:

| column | type | meaning |
| --- | --- | --- |
| `run` | VARCHAR | {GLOSSARY["run"]} |
| `round` | INTEGER | {GLOSSARY["round"]} |
"""

if __name__ == "__main__":
    print(tables_markdown(), end="")
