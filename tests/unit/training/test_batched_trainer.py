"""Each adapter trained among others ends where PEFT ends with it alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file

from seal_core.engines import LoraSettings, TrainedAdapter, TrainJob, TrainRow
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.files.adapter_files import read_adapter
from seal_core.models.loading import load_model
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.peft_trainer import PeftTrainer

pytestmark = pytest.mark.usefixtures("product")

WORDS = ("the", "Avel", "flows", "past", "Brin", "and", "Zo", "where", "nobody", "asked", "it")


def rows(seed: int, n: int) -> tuple[TrainRow, ...]:
    """Texts of different length; some with a prompt."""
    texts = [" ".join(WORDS[(seed + i) % 7 : (seed + i) % 7 + 2 + (3 * i) % 5]) for i in range(n)]
    return tuple(TrainRow(t, prompt="Q: " if i % 3 == 2 else "") for i, t in enumerate(texts))


def different_jobs(adapters: dict[str, str]) -> list[TrainJob]:
    """Eight jobs that differ in everything a job can differ in."""
    base = LoraSettings(rank=4, alpha=8.0, lr=4e-3, epochs=3)
    settings = [
        base,
        replace(base, rank=2, epochs=5),
        replace(base, rank=8, lr=1e-3, batch_size=2),
        replace(base, schedule="constant", clip=0.1),
        replace(base, warmup_steps=3, weight_decay=0.1, max_steps=7),
        replace(base, targets=("q_proj", "up_proj"), batch_size=3),
        replace(base, max_train_tokens=150, clip=0.0),
        replace(base, alpha=2.0),
    ]
    jobs = [
        TrainJob(f"job-{i}", rows(i, 2 + i % 4), own, seed=100 + i)
        for i, own in enumerate(settings)
    ]
    jobs[3] = replace(jobs[3], base_adapters=(adapters["wide"],))
    return jobs


def weights(result: TrainedAdapter) -> dict[str, torch.Tensor]:
    assert result.error is None and result.path is not None, result.error
    return load_file(Path(result.path) / "adapter_model.safetensors")


def distance(first: TrainedAdapter, second: TrainedAdapter) -> float:
    """Relative L2 distance of two adapters' deltas' factors."""
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    flat = [torch.cat([w[name].double().flatten() for name in sorted(w)]) for w in (one, two)]
    return float((flat[0] - flat[1]).norm() / flat[1].norm())


@pytest.mark.parametrize("max_batch_tokens", [1, 64, 4096])
def test_many_at_once_equal_peft_alone(model_path, adapters, tmp_path, max_batch_tokens) -> None:
    jobs = different_jobs(adapters)
    alone = PeftTrainer(load_model(model_path, dtype="float64")).train(jobs, tmp_path / "peft")
    done: list[int] = []
    trainer = BatchedTrainer(load_model(model_path, dtype="float64"), max_batch_tokens, 3)
    together = trainer.train(jobs, tmp_path / "batched", done.append)
    assert sum(done) == len(jobs)
    for job, one, other in zip(jobs, together, alone, strict=True):
        assert one.adapter_id == job.adapter_id
        assert distance(one, other) <= 1e-10
        assert (one.n_rows, one.n_steps, one.n_tokens) == (
            other.n_rows,
            other.n_steps,
            other.n_tokens,
        )
        assert one.first_loss == pytest.approx(other.first_loss, rel=1e-9)
        assert one.final_loss == pytest.approx(other.final_loss, rel=1e-9)


def test_number_and_order_of_jobs_do_not_matter(model_path, adapters, tmp_path) -> None:
    jobs = different_jobs(adapters)
    jobs.append(replace(jobs[0], adapter_id="d", settings=replace(jobs[0].settings, dropout=0.3)))
    trainer = BatchedTrainer(load_model(model_path, dtype="float64"))
    first = trainer.train(jobs, tmp_path / "a")
    second = trainer.train(jobs[::-1], tmp_path / "b")[::-1]
    single = [trainer.train([job], tmp_path / "c")[0] for job in jobs]
    for one, two, three in zip(first, second, single, strict=True):
        assert distance(one, two) <= 1e-10 and distance(one, three) <= 1e-10
    assert distance(first[0], first[-1]) > 1e-3  # Dropout does something.


def test_the_same_jobs_give_the_same_bytes(model_path, adapters, tmp_path) -> None:
    jobs = different_jobs(adapters)
    files = []
    for name in ("a", "b"):
        torch.manual_seed(len(files))
        trainer = BatchedTrainer(load_model(model_path))
        files.append(
            [
                (Path(result.path or "") / "adapter_model.safetensors").read_bytes()
                for result in trainer.train(jobs, tmp_path / name)
            ]
        )
    assert files[0] == files[1]


def test_a_job_that_fails_leaves_the_others_as_they_are(model_path, adapters, tmp_path) -> None:
    jobs = different_jobs(adapters)
    loaded = load_model(model_path, dtype="float64")
    expected = BatchedTrainer(loaded).train(jobs, tmp_path / "a")
    bad = replace(jobs[0], adapter_id="nan", settings=replace(jobs[0].settings, lr=1e200, clip=0))
    refused = [
        replace(bad, adapter_id="empty", rows=()),
        replace(bad, adapter_id="policy", base_adapters=("/no/such/policy",)),
        replace(bad, adapter_id="init", init_adapter="/no/such/adapter"),
        replace(bad, adapter_id="rank", settings=replace(bad.settings, rank=0)),
    ]
    results = BatchedTrainer(loaded).train([bad, *jobs, *refused], tmp_path / "b")
    assert "loss is" in (results[0].error or "") or "not finite" in (results[0].error or "")
    assert all(result.path is None and result.error for result in results[-4:])
    for one, other in zip(results[1:-4], expected, strict=True):
        assert distance(one, other) <= 1e-12
    assert len(list((tmp_path / "b").iterdir())) == len(jobs)


def test_init_adapter_continues(model_path, adapters, tmp_path) -> None:
    loaded = load_model(model_path, dtype="float64")
    (first,) = BatchedTrainer(loaded).train(different_jobs(adapters)[:1], tmp_path / "a")
    again = replace(different_jobs(adapters)[0], adapter_id="again", init_adapter=first.path)
    (second,) = BatchedTrainer(loaded).train([again], tmp_path / "b")
    oracle = PeftTrainer(load_model(model_path, dtype="float64"))
    assert distance(second, oracle.train([again], tmp_path / "c")[0]) <= 1e-10


def test_the_model_is_whole_afterwards(model_path, adapters, tmp_path) -> None:
    loaded, untouched = load_model(model_path), load_model(model_path)
    trainer = BatchedTrainer(loaded)
    trainer.train(different_jobs(adapters), tmp_path)
    trainer.train(different_jobs(adapters)[:1], tmp_path)  # Ends on the base without a policy.
    ours, theirs = loaded.model.state_dict(), untouched.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert TransformersGenerator(loaded).generate([]) == []


def test_half_precision_models_train_float32_adapters(model_path, adapters, tmp_path) -> None:
    jobs = different_jobs(adapters)[:2]
    together = BatchedTrainer(load_model(model_path, dtype="bfloat16")).train(jobs, tmp_path / "a")
    alone = PeftTrainer(load_model(model_path, dtype="bfloat16")).train(jobs, tmp_path / "b")
    for one, other in zip(together, alone, strict=True):
        assert {tensor.dtype for tensor in weights(one).values()} == {torch.float32}
        assert one.final_loss == pytest.approx(other.final_loss, rel=0.05)


def poisoned(jobs: list[TrainJob], place: int, lr: float) -> list[TrainJob]:
    """The jobs, with one more that takes the same steps at this learning rate."""
    own = replace(jobs[0], adapter_id="poison", settings=replace(jobs[0].settings, lr=lr, clip=0))
    return [*jobs[:place], own, *jobs[place:]]


def test_one_that_diverges_alone_is_a_row_with_its_error(loaded, adapters, tmp_path) -> None:
    job = poisoned(different_jobs(adapters), 0, 1e30)[0]
    (found,) = BatchedTrainer(loaded).train([job], tmp_path)
    assert found.path is None and "at step 2" in (found.error or "")


@pytest.mark.parametrize("place", [0, 3])
def test_an_adapter_that_turns_nan_changes_no_bit_of_the_others(
    loaded, adapters, tmp_path, place
) -> None:
    jobs = different_jobs(adapters)
    healthy = BatchedTrainer(loaded).train(poisoned(jobs, place, 1e-3), tmp_path / "a")
    broken = BatchedTrainer(loaded).train(poisoned(jobs, place, 1e30), tmp_path / "b")
    assert healthy[place].error is None and healthy[place].path is not None
    assert broken[place].path is None and "step" in (broken[place].error or "")
    for i, (one, other) in enumerate(zip(broken, healthy, strict=True)):
        if i != place:
            ours, theirs = weights(one), weights(other)
            assert all(torch.equal(ours[name], theirs[name]) for name in ours)
            assert (one.first_loss, one.final_loss) == (other.first_loss, other.final_loss)


def test_an_adapter_with_nothing_to_do_keeps_its_moments(loaded, adapters, tmp_path) -> None:
    """A zero gradient would still move AdamW; with one row per tick every other adapter waits."""
    jobs = different_jobs(adapters)[:3]
    apart = BatchedTrainer(loaded, max_batch_tokens=1).train(jobs, tmp_path / "a")
    single = [BatchedTrainer(loaded).train([job], tmp_path / "b")[0] for job in jobs]
    for one, other in zip(apart, single, strict=True):
        assert distance(one, other) <= 1e-6


def test_the_size_of_a_shard_does_not_matter(model_path, adapters, tmp_path) -> None:
    jobs = different_jobs(adapters)
    trainer = BatchedTrainer(load_model(model_path, dtype="float64"))
    whole = trainer.train(jobs, tmp_path / "a")
    for size in (2, 3):
        cut = [
            r for i in range(0, 8, size) for r in trainer.train(jobs[i : i + size], tmp_path / "b")
        ]
        assert all(distance(one, two) <= 1e-10 for one, two in zip(cut, whole, strict=True))


def test_adapters_reload_in_peft_with_the_same_logits(model_path, tmp_path) -> None:
    """What is exported is what was trained: PEFT's own reading of it lowers the loss as said."""
    job = TrainJob("one", rows(1, 3), LoraSettings(rank=4, alpha=8.0, lr=5e-3, epochs=8), seed=1)
    (result,) = BatchedTrainer(load_model(model_path, dtype="float64")).train([job], tmp_path)
    loaded = load_model(model_path, dtype="float64")
    ids = torch.tensor([loaded.tokenizer(job.rows[0].text)["input_ids"]])
    pairs = read_adapter(str(result.path))
    with torch.no_grad():
        reread = peft.PeftModel.from_pretrained(
            load_model(model_path, dtype="float64").model,
            str(result.path),
            autocast_adapter_dtype=False,
        )
        theirs = reread(ids).logits
        for name, pair in pairs.items():
            weight = loaded.model.get_submodule(name).weight
            weight.add_(pair.scale * (pair.b.double() @ pair.a.double()))
        assert (loaded.model(ids).logits - theirs).abs().max() <= 1e-9
        base = load_model(model_path, dtype="float64").model(ids).logits
    assert (base - theirs).abs().max() > 1e-3
