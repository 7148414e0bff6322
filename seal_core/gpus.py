"""Says which GPU a process on a device will see; asks the environment, and not torch."""

from __future__ import annotations

import os


def visible_gpu(device: str) -> str | None:
    """What an engine on this device has as `CUDA_VISIBLE_DEVICES`; None for a CPU's."""
    kind, _, index = device.partition(":")
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if kind not in ("auto", "cuda") or listed == "":
        return None
    visible = [gpu for gpu in (listed or "").split(",") if gpu]
    place = int(index) if index.isdecimal() else 0
    return visible[place] if place < len(visible) else str(place) if not visible else ""
