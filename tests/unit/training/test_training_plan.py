"""Plans follow the settings, and only the settings, the lengths and the seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from seal_core.engines import LoraSettings, TrainRow
from seal_core.errors import InputError
from seal_core.models.text.tokens import encode_row, encode_rows
from seal_core.training.training_plan import check_settings, epoch_loss, lr_factor, plan_steps

COUNTS = (5, 9, 2, 7, 4)


def test_every_epoch_is_a_permutation_in_its_own_order() -> None:
    steps = plan_steps(COUNTS, LoraSettings(epochs=6, batch_size=2), seed=3)
    assert len(steps) == 6 * 3
    orders = []
    for epoch in range(6):
        order = [row for step in steps if step.epoch == epoch for row in step.rows]
        assert sorted(order) == [0, 1, 2, 3, 4]
        orders.append(tuple(order))
    assert len(set(orders)) > 1
    assert steps == plan_steps(COUNTS, LoraSettings(epochs=6, batch_size=2), seed=3)
    assert steps != plan_steps(COUNTS, LoraSettings(epochs=6, batch_size=2), seed=4)


def test_n_tokens_counts_targets() -> None:
    for step in plan_steps(COUNTS, LoraSettings(epochs=2, batch_size=3), seed=0):
        assert step.n_tokens == sum(COUNTS[row] for row in step.rows)


def test_max_steps_cuts_and_repeats_epochs() -> None:
    few = plan_steps(COUNTS, LoraSettings(epochs=10, max_steps=3), seed=0)
    many = plan_steps(COUNTS, LoraSettings(epochs=1, max_steps=23), seed=0)
    assert len(few) == 3 and len(many) == 23
    assert many[-1].epoch == 4 and many[-1].lr == pytest.approx(1e-3 / 23)
    assert Counter(row for step in many[:20] for row in step.rows) == dict.fromkeys(range(5), 4)


def test_max_train_tokens_is_never_passed() -> None:
    settings = LoraSettings(epochs=1, max_train_tokens=60)
    steps = plan_steps(COUNTS, settings, seed=0)
    total = sum(step.n_tokens for step in steps)
    assert 60 - max(COUNTS) < total <= 60
    assert steps[-1].epoch == 2
    with pytest.raises(InputError, match="max_train_tokens"):
        plan_steps([10], LoraSettings(max_train_tokens=9), seed=0)


def test_schedules_are_those_of_transformers() -> None:
    linear = LoraSettings(warmup_steps=2)
    factors = [lr_factor(i, 6, linear) for i in range(6)]
    assert factors == pytest.approx([0, 0.5, 1, 0.75, 0.5, 0.25])
    constant = LoraSettings(schedule="constant", warmup_steps=2)
    assert [lr_factor(i, 4, constant) for i in range(4)] == [0, 0.5, 1, 1]
    assert [lr_factor(i, 2, LoraSettings()) for i in range(2)] == [1, 0.5]


def test_epoch_loss_weighs_by_tokens() -> None:
    steps = plan_steps([1, 3], LoraSettings(epochs=1), seed=0)
    losses = [1.0 if step.n_tokens == 1 else 5.0 for step in steps]
    assert epoch_loss(steps, losses, 0) == pytest.approx(4.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"rank": 0},
        {"lr": -1.0},
        {"lr": float("nan")},
        {"schedule": "cosine"},
        {"dropout": 1.0},
        {"max_steps": 0},
        {"targets": ()},
    ],
)
def test_impossible_settings_are_refused(bad) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        check_settings(LoraSettings(**bad))


def test_rows_end_with_the_end_token_and_hide_the_prompt(loaded) -> None:
    plain = encode_row(loaded.codec, TrainRow("abc"), 256, 100)
    assert plain.ids == (*loaded.tokenizer("abc")["input_ids"], 256)
    assert plain.n_context == 1 and plain.n_targets == 3
    prompted = encode_row(loaded.codec, TrainRow("abc", prompt="Q: "), 256, 100)
    assert prompted.n_context == 3 and prompted.n_targets == 4
    chat = encode_row(loaded.codec, TrainRow("abc", prompt="Q", chat=True), 256, 100)
    assert loaded.tokenizer.decode(chat.ids) == "<|user|>Q<|assistant|>abc<|end|>"
    assert chat.n_targets == 4


@pytest.mark.parametrize(
    "row", [TrainRow("abc"), TrainRow("abc", "Q: "), TrainRow("abc", "Q", chat=True)]
)
def test_rows_that_go_on_end_with_nothing(loaded, row) -> None:
    whole = encode_row(loaded.codec, row, 256, 100)
    cut = encode_row(loaded.codec, replace(row, is_open=True), 256, 100)
    assert (*cut.ids, 256) == whole.ids and cut.n_context == whole.n_context


def test_rows_are_cut_and_empty_ones_left_out(loaded) -> None:
    rows = [TrainRow("abcdef"), TrainRow("x", prompt="much too long a prompt"), TrainRow("")]
    encoded = encode_rows(loaded.codec, rows, 256, 5)
    assert [len(row.ids) for row in encoded] == [5]
    with pytest.raises(InputError, match="token to train on"):
        encode_rows(loaded.codec, rows[1:], 256, 5)
