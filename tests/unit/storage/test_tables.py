"""Tables and docs: every column is documented, once, and the docs are current."""

from __future__ import annotations

from pathlib import Path

from storage.sql.queries import list_queries
from storage.tables.glossary import GLOSSARY
from storage.tables.schema import PARTITIONS, TABLES, tables_markdown

DOCS = Path(__file__).parents[3] / "docs"


def test_docs_are_current() -> None:
    assert (DOCS / "tables.md").read_text() == tables_markdown()


def test_every_column_is_explained_and_every_explanation_used() -> None:
    columns = [column for table in TABLES.values() for column in table.columns]
    assert all(column.doc.strip() for column in columns)
    assert GLOSSARY.keys() <= {column.name for column in columns} | PARTITIONS.keys()
    for table in TABLES.values():
        assert set(table.key) <= {column.name for column in table.columns}


def test_every_query_is_documented() -> None:
    text = (DOCS / "sql.md").read_text()
    for query in list_queries():
        assert f"| `{query.name}` | {query.question} |" in text
