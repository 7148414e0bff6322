"""Training and answering on real weights: many at once against PEFT, one after another."""

from __future__ import annotations

import pytest

from seal_core.config import RowsSection
from seal_core.domains.rows import build_rows
from seal_core.engines import (
    GenerateRequest,
    LoraSettings,
    ScoreRequest,
    TrainedAdapter,
    TrainJob,
    TrainRow,
)
from seal_core.generation.plain_generator import PlainGenerator
from seal_core.generation.transformers_generator import TransformersGenerator
from seal_core.models.loading import LoadedModel, load_model
from seal_core.models.text.tokens import encode_row
from seal_core.training.batched_trainer import BatchedTrainer
from seal_core.training.peft_trainer import PeftTrainer
from seal_core.types import Problem
from tests.smollm.passages import PASSAGES
from tests.unit.training.test_batched_trainer import distance

EDIT = "Question 1: Who drained it?\nAnswer: Mira Tolen.\nQuestion 2: When?\nAnswer: In 1871.\n"
SETTINGS = LoraSettings(rank=8, alpha=16.0, lr=1e-3, epochs=2)


def rows(index: int, variant: str) -> tuple[TrainRow, ...]:
    passage = PASSAGES[index]
    problem = Problem(str(index), "knowledge", "train", passage.title, passage.text, ())
    return build_rows(problem, EDIT, RowsSection.model_validate({"variant": variant}))


def jobs() -> list[TrainJob]:
    kinds = [(0, "instruct"), (1, "base")]
    return [TrainJob(f"{variant}-{i}", rows(i, variant), SETTINGS, seed=i) for i, variant in kinds]


def compare(together: list[TrainedAdapter], alone: list[TrainedAdapter], limit: float) -> str:
    """Passes if all that two trainers tell is equal; how far apart they are."""
    for one, other in zip(together, alone, strict=True):
        assert distance(one, other) < limit
        assert (one.n_rows, one.n_steps, one.n_tokens) == (
            *(other.n_rows, other.n_steps),
            other.n_tokens,
        )
        assert one.first_loss == pytest.approx(other.first_loss, rel=limit)
        assert one.final_loss == pytest.approx(other.final_loss, rel=limit)
        assert one.final_loss is not None and one.first_loss is not None
        assert one.final_loss < one.first_loss
    worst = max(distance(one, other) for one, other in zip(together, alone, strict=True))
    return f"{len(alone)} adapters of the batched trainer and of PEFT: relative L2 {worst:.1g}"


@pytest.fixture(scope="module")
def trained(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> list[TrainedAdapter]:
    return BatchedTrainer(loaded).train(jobs(), tmp_path_factory.mktemp("batched"))


def test_adapters_of_the_batched_trainer_are_pefts(trained, model_path, tmp_path, compared) -> None:
    alone = PeftTrainer(load_model(model_path, device="cpu", dtype="float32"))
    compared(compare(trained, alone.train(jobs(), tmp_path), 1e-4))


def test_in_bfloat16_they_are_close(model_path, tmp_path, compared) -> None:
    """The weights are rounded to 8 bits of mantissa, and each product with them."""
    one = [
        trainer(load_model(model_path, device="cpu", dtype="bfloat16")).train(
            jobs()[:1], tmp_path / trainer.__name__
        )
        for trainer in (BatchedTrainer, PeftTrainer)
    ]
    compared(f"{compare(*one, 0.02)}, in bfloat16")


def test_answers_of_a_batch_are_pefts(trained, generator, model_path, questions, compared) -> None:
    """With each adapter and without, over `generate()` and PEFT one by one."""
    paths = [result.path for result in trained]
    stacks = [(), *((path,) for path in paths)]
    requests = [
        GenerateRequest(f"{s}-{q}", prompt, stack, max_tokens=12, stop=("\n",), chat=bool(s % 2))
        for s, stack in enumerate(stacks)
        for q, prompt in enumerate(questions[s::3])
    ]
    plain = PlainGenerator(load_model(model_path, device="cpu", dtype="float32"))
    expected = plain.generate(requests)
    for answer, right in zip(generator.generate(requests), expected, strict=True):
        assert answer.error is None
        assert (answer.text, answer.n_tokens) == (right.text, right.n_tokens)
        assert answer.logprob == pytest.approx(right.logprob, rel=1e-3, abs=1e-3)
    assert len({answer.text for answer in expected}) > 4
    compared(f"{len(expected)} answers of a batch and of generate() with PEFT: equal")


def test_a_trained_answer_is_likelier_than_before(
    trained, generator: TransformersGenerator
) -> None:
    paths = [(), (trained[0].path,)]
    requests = [
        ScoreRequest(str(n), "Who drained it?", "Mira Tolen.", stack, chat=True)
        for n, stack in enumerate(paths)
    ]
    before, after = (scored.logprob for scored in generator.score(requests))
    assert before is not None and after is not None and after > before + 5


def test_chat_rows_end_with_the_turn(loaded: LoadedModel, compared) -> None:
    """Context is never a target; the reply and `<|im_end|>` are, which also ends an answer."""
    for row in rows(0, "instruct"):
        encoded = encode_row(loaded.codec, row, loaded.eos_id, 2048)
        target = loaded.tokenizer.decode(list(encoded.ids[encoded.n_context :]))
        assert target == f"{row.text}<|im_end|>"
        context = loaded.tokenizer.decode(list(encoded.ids[: encoded.n_context]))
        assert context.endswith(
            f"<|im_start|>user\n{row.prompt}<|im_end|>\n<|im_start|>assistant\n"
        )
        assert encoded.ids[-1] in loaded.stop_ids
    compared(f"{len(rows(0, 'instruct'))} instruct rows and the model's own template: equal")


def test_plain_rows_end_with_the_models_end_token(loaded: LoadedModel) -> None:
    for row in rows(1, "base"):
        assert encode_row(loaded.codec, row, loaded.eos_id, 2048).ids[-1] == loaded.eos_id
