"""Fingerprints: equal values have equal digests, in every process; unstable values raise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from seal_core.fingerprint import canonical_json, derive_seed, digest, make_id


def test_key_order_and_sequence_type_do_not_matter():
    assert canonical_json({"b": (1, 2), "a": None}) == '{"a":null,"b":[1,2]}'
    assert digest({"a": [1], "b": 2}) == digest({"b": 2, "a": (1,)})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2], [2, 1]),
        ("1", 1),
        (1, True),
        (None, "null"),
        ({"a": None}, {}),
        (["ab"], ["a", "b"]),
        ("é", "e\u0301"),
        (0.1, 0.1 + 1e-16 * 2),
    ],
)
def test_different_values_differ(one, other):
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": {1, 2}}, r"\$\.a is a set"),
        ([Path("x")], r"\$\[0\] is a \w*Path"),
        ({"a": [object()]}, r"\$\.a\[0\] is a object"),
        (b"bytes", r"\$ is a bytes"),
        ({"a": float("nan")}, r"\$\.a is nan: use None"),
        ([1.0, float("inf")], r"\$\[1\] is inf"),
        ({1: "a"}, r"\$ has the key 1: keys in an identity must be strings"),
    ],
)
def test_unstable_values_raise_and_name_the_place(value, where):
    with pytest.raises(TypeError, match=where):
        digest(value)


def test_the_message_says_the_fix():
    with pytest.raises(TypeError, match="a set into a sorted list, a path into the digest"):
        digest({1})


def test_ids_carry_their_kind_and_64_bits():
    made = make_id("edit", "a", 1)
    assert made.startswith("edit-") and len(made) == len("edit-") + 16
    assert made != make_id("adapter", "a", 1)[-16:]
    assert make_id("edit", "a", 1) == made != make_id("edit", "a", 2)


def test_seeds_are_in_range_and_spread():
    seeds = [derive_seed("edit", i) for i in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_another_process_with_another_hash_seed_agrees():
    code = (
        "from seal_core.fingerprint import make_id, derive_seed; "
        "print(make_id('k', {'é': [1, 2.5, None]}), derive_seed('a', 1))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {f"{make_id('k', {'é': [1, 2.5, None]})} {derive_seed('a', 1)}\n"}


def test_digests_never_change_between_versions():
    """A changed digest would silently orphan every cached stage; bump stage versions instead."""
    assert make_id("edit", "a", 1) == "edit-6564e6c993fb4691"
    assert derive_seed("a", 1) == 876460096384671431
