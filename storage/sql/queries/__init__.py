"""Named queries: one .sql file each, whose first line is the question that it answers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True)
class Query:
    """A named query, which every catalog has as a view."""

    name: str
    question: str
    sql: str


def list_queries() -> list[Query]:
    """All named queries by name.

    Raises:
        ValueError: a file does not begin with its question as a comment.
    """
    found = []
    for entry in sorted(files("storage.sql.queries").iterdir(), key=lambda item: item.name):
        if not entry.name.endswith(".sql"):
            continue
        first, _, sql = entry.read_text(encoding="utf-8").partition("\n")
        if not first.startswith("-- "):
            raise ValueError(f"{entry.name}: the first line must be `-- <question>`")
        found.append(Query(entry.name.removesuffix(".sql"), first.removeprefix("-- "), sql.strip()))
    return found
