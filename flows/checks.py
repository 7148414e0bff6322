"""What one check of `seal doctor` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        state: `fail` would stop a run; `warn` would not.
        fix: What to do; None when all is well.
    """

    name: str
    state: State
    found: str
    fix: str | None = None
