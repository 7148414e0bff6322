"""Words that are more frequent: those whose odds rose most surely, and none that are rare."""

from __future__ import annotations

from flows.report.words import more_frequent


def test_the_surest_come_first() -> None:
    before = ["the cat sat"] * 20 + ["a Dog ran"] * 10
    now = ["the dog sat"] * 20 + ["a dog, dog hid"] * 10
    words = more_frequent(now, before)
    assert [word.text for word in words] == ["dog", "hid"]
    assert (words[0].share, words[0].share_before) == (1.0, 1 / 3)
    assert words[0].z > words[1].z > 0


def test_rare_words_and_empty_sets_tell_nothing() -> None:
    assert more_frequent(["new words"] * 4, ["old ones"] * 4) == []
    assert more_frequent([], []) == []
    assert [word.text for word in more_frequent(["new"] * 5, [])] == ["new"]


def test_only_words_count() -> None:
    assert more_frequent(["1999 a_b x 42nd"] * 9, ["other"] * 9) == []
