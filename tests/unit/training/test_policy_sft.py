"""The outer update learns its examples, goes on from its parent, and leaves one folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file

from seal_core.engines import LoraSettings, ScoreRequest, TrainJob, TrainRow
from seal_core.errors import InputError
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import load_model
from seal_core.training.peft_trainer import PeftTrainer
from seal_core.training.policy_sft import update_policy
from tests.families import save_family
from tests.unit.training.test_batched_trainer import distance

SETTINGS = LoraSettings(rank=4, alpha=8.0, lr=5e-3, epochs=3, batch_size=2)
EXAMPLES = tuple(
    TrainRow(prompt=f"List what follows from {name}:", text=f" {name} is a town.")
    for name in ("Brin", "Avel", "Zo")
)


def mean_logprob(model_path: str, adapter: tuple[str, ...]) -> float:
    requests = [ScoreRequest(row.prompt, row.prompt, row.text, adapter) for row in EXAMPLES]
    scores = TransformersGenerator(load_model(model_path)).score(requests)
    return sum(score.logprob or 0.0 for score in scores) / len(scores)


def test_it_learns_the_examples_and_repeats_itself(model_path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done: list[int] = []
    results = []
    for name in ("a", "b"):
        torch.manual_seed(len(results))
        out = tmp_path / name / "policy"
        results.append(
            update_policy(load_model(model_path), EXAMPLES, SETTINGS, 2**62, out, None, done.append)
        )
    first = results[0]
    assert first.error is None and sum(done) == 2 * 6
    assert (first.n_rows, first.n_steps) == (3, 6)
    assert first.n_tokens == 3 * sum(len(row.text) + 1 for row in EXAMPLES)
    assert first.final_loss < first.first_loss
    assert mean_logprob(model_path, (first.path,)) > mean_logprob(model_path, ())
    files = [Path(r.path) / "adapter_model.safetensors" for r in results]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]
    assert peft.PeftModel.from_pretrained(load_model(model_path).model, first.path)


def test_the_first_loss_is_on_the_completion_alone(model_path, tmp_path) -> None:
    settings = replace(SETTINGS, lr=0.0, epochs=1, batch_size=1)
    row = TrainRow(prompt="Some prompt", text=" some text")
    result = update_policy(load_model(model_path), [row], settings, 1, tmp_path / "p")
    loaded = load_model(model_path)
    ids = loaded.tokenizer(row.prompt + row.text)["input_ids"] + [256]
    logprobs = loaded.model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    picked = logprobs.gather(1, torch.tensor(ids)[1:, None])[len(row.prompt) - 1 :]
    assert result.first_loss == pytest.approx(-picked.mean().item(), rel=1e-3)


def test_it_goes_on_from_its_parent(model_path, tmp_path) -> None:
    first = update_policy(load_model(model_path), EXAMPLES, SETTINGS, 1, tmp_path / "one")
    second = update_policy(
        load_model(model_path), EXAMPLES, SETTINGS, 2, tmp_path / "two", first.path
    )
    assert second.first_loss < first.first_loss
    other = replace(SETTINGS, rank=2)
    with pytest.raises(InputError, match="rank"):
        update_policy(load_model(model_path), EXAMPLES, other, 2, tmp_path / "x", first.path)


def test_rows_run_alone_give_the_same_policy(model_path, tmp_path) -> None:
    examples = [replace(row, text=row.text * (1 + i)) for i, row in enumerate(EXAMPLES)]
    results = [
        update_policy(
            load_model(model_path),
            examples,
            replace(SETTINGS, epochs=2),
            1,
            tmp_path / str(one_by_one),
            one_by_one=one_by_one,
        )
        for one_by_one in (False, True)
    ]
    together, alone = (
        load_file(Path(result.path or "") / "adapter_model.safetensors") for result in results
    )
    for name, tensor in together.items():
        assert torch.allclose(tensor, alone[name], atol=1e-4)
    assert results[0].n_steps == results[1].n_steps == 4
    assert results[1].first_loss == pytest.approx(results[0].first_loss, rel=1e-4)
    assert results[1].n_tokens == results[0].n_tokens


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("experts", ("all-linear",)),  # Its config knows a loss that balances experts.
        ("bert", ("all-linear",)),  # Computes more than a product after its last layer.
        ("dropout", ("all-linear",)),
        ("untied", ("lm_head", "v_proj")),
    ],
)
def test_the_update_is_that_of_a_plain_loop(tmp_path, kind, targets, one_by_one) -> None:
    path = str(save_family(tmp_path / kind, kind))
    settings = replace(SETTINGS, batch_size=3, lr=1e-2, targets=targets)
    job = TrainJob("plain", EXAMPLES, settings, seed=3)
    (plain,) = PeftTrainer(load_model(path)).train([job], tmp_path)
    ours = update_policy(
        load_model(path), EXAMPLES, settings, 3, tmp_path / "p", one_by_one=one_by_one
    )
    assert (ours.n_steps, ours.n_tokens) == (plain.n_steps, plain.n_tokens)
    assert ours.final_loss == pytest.approx(plain.final_loss, rel=1e-4)
    assert distance(ours, plain) <= 1e-4


def test_a_broken_update_writes_nothing(model_path, tmp_path) -> None:
    settings = replace(SETTINGS, lr=1e30, clip=0.0)
    result = update_policy(load_model(model_path), EXAMPLES, settings, 1, tmp_path / "p")
    assert result.path is None and "not finite" in (result.error or "")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="token to train on"):
        update_policy(load_model(model_path), [], SETTINGS, 1, tmp_path / "p")


def test_weights_scale_each_examples_loss(model_path, tmp_path) -> None:
    """Three times the weight is the example three times, in a step of all."""
    settings = replace(SETTINGS, epochs=1, batch_size=2, clip=0.0, schedule="constant")
    heavy = [replace(EXAMPLES[0], weight=3.0), replace(EXAMPLES[1], weight=1.0)]
    one = update_policy(load_model(model_path), heavy, settings, 1, tmp_path / "one")
    thrice = [EXAMPLES[0]] * 3 + [EXAMPLES[1]]
    four = replace(settings, batch_size=4)
    other = update_policy(load_model(model_path), thrice, four, 1, tmp_path / "other")
    plain = update_policy(load_model(model_path), EXAMPLES[:2], settings, 1, tmp_path / "plain")
    # Rows of equal length would make them equal; these differ by a token or two.
    assert distance(one, other) < 0.3 * distance(one, plain)


def test_an_adapters_rows_have_no_weights(model_path, tmp_path) -> None:
    job = TrainJob("w", (replace(EXAMPLES[0], weight=2.0),), SETTINGS, 1)
    (found,) = PeftTrainer(load_model(model_path)).train([job], tmp_path)
    assert found.error == "w: rows of an adapter have no weights of their own"
