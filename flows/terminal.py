"""A console whose tables are whole also where no terminal says how wide it is."""

from __future__ import annotations

from rich.console import Console

_WIDTH_OF_A_FILE = 160


def table_console() -> Console:
    """Standard output; as wide as the terminal, or wide enough for any table of ours.

    Brackets are text: users' settings, which have any, stand in tables.
    """
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_A_FILE
    return console
