"""Both products, whatever the machine."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["apart", "together"])
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Trains with the small products of a CPU, or with the one of a GPU."""
    together = request.param == "together"
    monkeypatch.setattr("seal_core.training.lora_slots.wants_together", lambda _: together)
    return request.param
