"""Both products, whatever the machine."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["apart", "together"])
def product(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Trains with the small products of a CPU, or with the one of a GPU."""
    together = request.param == "together"
    for user in ("slots.lora_slots", "batched_trainer"):
        monkeypatch.setattr(f"seal_core.training.{user}.wants_together", lambda _: together)
    return request.param
