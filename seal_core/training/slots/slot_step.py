"""One optimizer step of one slot, as planned."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlotStep:
    """One optimizer step of one slot.

    Attributes:
        clip: Largest norm that the gradient keeps; 0 for none.
    """

    slot: int
    lr: float
    clip: float
