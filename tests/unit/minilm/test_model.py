"""The packaged weights load and read; a build from nothing runs."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from seal_core.minilm import weights_path
from seal_core.minilm.build import build
from seal_core.minilm.corpus import IGNORE, ROW, Corpus
from seal_core.minilm.gates import MIN_READING, complete, measure
from seal_core.minilm.muon import orthogonalise
from seal_core.minilm.pretrain import loss_of
from seal_core.minilm.prompts import CONTEXT_ANSWER_PROMPT
from seal_core.minilm.tokenizer import build_tokenizer
from seal_core.minilm.world import make_passages


@pytest.fixture(scope="module")
def packaged():
    path = weights_path()
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(path)


def test_the_packaged_folder_is_small_and_complete():
    files = {f.name: f.stat().st_size for f in weights_path().iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "generation_config.json",
        "MODEL_CARD.md",
    } <= files.keys()
    assert sum(files.values()) <= 8 * 2**20


def test_the_packaged_model_is_a_llama_that_vllm_serves(packaged):
    config = packaged[0].config
    assert config.model_type == "llama"
    assert config.head_dim in (32, 64)
    assert config.max_position_embeddings >= 1024


def test_the_packaged_model_answers_a_question_in_context(packaged):
    passages = make_passages("heldout", 5, seed=11)
    prompts, golds = [], []
    for p in passages:
        for qa in p.questions:
            prompts.append(
                CONTEXT_ANSWER_PROMPT.format(title=p.title, context=p.context, question=qa.question)
            )
            golds.append(qa.answers)
    said = [text.split("\n")[0].strip() for text in complete(*packaged, prompts, 6)]
    assert sum(s in g for s, g in zip(said, golds, strict=True)) / len(golds) >= 0.9


def test_the_packaged_model_reads_and_has_not_met_the_held_out_people(packaged):
    gates = measure(*packaged, n=30, seed=5)
    assert gates.reading >= MIN_READING
    assert gates.blind <= 0.1


@pytest.mark.long
def test_the_card_names_every_gate_that_the_packaged_model_fails(packaged):
    gates = measure(*packaged, n=100)
    card = (weights_path() / "MODEL_CARD.md").read_text()
    assert f"Gates not met: {'; '.join(gates.failures) or 'none'}." in card


def test_a_packed_row_gives_each_document_what_it_gets_alone(packaged):
    model, tokenizer = packaged
    batch = Corpus(tokenizer, 0).batch(1, 1.0)
    with torch.no_grad():
        packed = loss_of(model, batch)
        kept = batch.labels != IGNORE
        total = torch.zeros(())
        for number in batch.documents.unique():
            chosen = batch.documents[0] == number
            logits = model(batch.ids[:, chosen]).logits[0]
            labels = batch.labels[0, chosen]
            total += torch.nn.functional.cross_entropy(
                logits, labels, ignore_index=IGNORE, reduction="sum"
            )
    assert packed.item() == pytest.approx((total / kept.sum()).item(), rel=1e-3)


def test_the_corpus_repeats_and_fills_its_rows():
    tokenizer = build_tokenizer()
    first, second = (Corpus(tokenizer, 4).batch(3, 0.5) for _ in range(2))
    assert torch.equal(first.ids, second.ids)
    assert first.ids.shape == (3, ROW)
    assert (first.labels != IGNORE).any(dim=1).all()


def test_orthogonalised_matrices_have_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((2, 16, 48), (2, 48, 16)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.5 and values.max() < 1.5


def test_a_toy_build_runs_from_nothing_and_repeats(tmp_path):
    lines: list[str] = []
    report = build(tmp_path / "a", tokens=4_000, report=lines.append)
    again = build(tmp_path / "b", tokens=4_000, report=lines.append)
    assert report.parameters < 2_000_000
    assert report.size <= 8 * 2**20
    assert any("gate not met" in line for line in lines)
    weights = [(r.path / "model.safetensors").read_bytes() for r in (report, again)]
    assert weights[0] == weights[1]
