"""Suggested commands name the store that the user's own command named."""

from __future__ import annotations

import pytest

from flows.hints import complete

MESSAGE = "a is not finished (`seal status a`); see `seal doctor` and `x.py`, or `seal status`"


@pytest.mark.parametrize("named", [["--store", "my store"], ["--store=my store"]])
def test_the_store_is_added_where_a_command_has_one(named: list[str]) -> None:
    assert complete(MESSAGE, ["results", "a", *named]) == (
        "a is not finished (`seal status a --store 'my store'`); see `seal doctor` and `x.py`, or "
        "`seal status --store 'my store'`"
    )


def test_nothing_is_added_twice_or_without_need() -> None:
    assert complete(MESSAGE, ["results", "a"]) == MESSAGE
    full = "`seal results a --store b`"
    assert complete(full, ["status", "--store", "c"]) == full
