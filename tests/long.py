"""Parameters of which the first alone is in `make test`, the others in `make test-long`."""

from __future__ import annotations

from typing import Any

import pytest


def first_of(*values: Any) -> list[Any]:
    return [values[0], *(pytest.param(value, marks=pytest.mark.long) for value in values[1:])]
