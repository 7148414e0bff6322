"""Turns known values into canonical JSON and a digest; raises on anything unstable."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

_ID_LENGTH = 16
_SEED_BITS = 63


def canonical_json(value: Any) -> str:
    """One text per value: keys sorted, no spaces, tuples as lists.

    Raises:
        TypeError: for a type whose text could differ between runs (a set, an object, a path).
            The message names the place in the value and the fix.
    """
    return json.dumps(_canonical(value, "$"), sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """Full SHA-256 hex digest of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def make_id(kind: str, *parts: Any) -> str:
    """A short id such as `edit-3f9a…`: the kind, and 64 bits of the parts' digest."""
    return f"{kind}-{digest([kind, *parts])[:_ID_LENGTH]}"


def derive_seed(*parts: Any) -> int:
    """A seed in [0, 2**63) that depends on its parts only, never on the clock."""
    return int(digest(["seed", *parts])[:16], 16) >> (64 - _SEED_BITS)


def _canonical(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{where} is {value}: use None or a finite number in an identity")
        return value
    if isinstance(value, Mapping):
        return {_key(k, where): _canonical(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_canonical(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise TypeError(
        f"{where} is a {type(value).__name__}, whose text may differ between runs: "
        "turn it into strings, numbers, lists and dicts first (a set into a sorted list, "
        "a path into the digest of its contents)"
    )


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{where} has the key {key!r}: keys in an identity must be strings")
    return key
