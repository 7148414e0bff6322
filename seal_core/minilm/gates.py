"""Measure a pretrained model on people it never met; a model that fails is not shipped."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from .edits import STYLE_WEIGHTS, judge_line
from .prompts import ANSWER_PROMPT, CONTEXT_ANSWER_PROMPT, EDIT_PROMPT
from .world import Passage, Split, facts_of, make_passages, split_people

MIN_READING = 0.95
MIN_CORRECT_LINES = 0.90
_MAX_ANSWER = 6
_MAX_EDIT = 96


@dataclass(frozen=True, slots=True)
class Gates:
    """What a pretrained model can do, as shares from 0 to 1.

    Attributes:
        reading: Answers right with the passage in view, on held-out people.
        blind: Answers right without passage on held-out people; should be about nothing.
        recall: Answers right without passage on the people of pretraining's closed book.
        correct_lines: Lines of sampled self-edits that are well formed and faithful.
        lines: Mean lines of a self-edit.
        styles: Share of each style among the correct lines.
    """

    reading: float
    blind: float
    recall: float
    correct_lines: float
    lines: float
    styles: dict[str, float]

    @property
    def failures(self) -> tuple[str, ...]:
        """Gates that are not met, in words; empty when the model may be shipped."""
        failed = []
        if self.reading < MIN_READING:
            failed.append(f"reading {self.reading:.3f} < {MIN_READING}")
        if self.correct_lines < MIN_CORRECT_LINES:
            failed.append(f"correct lines {self.correct_lines:.3f} < {MIN_CORRECT_LINES}")
        for style, planted in STYLE_WEIGHTS.items():
            if not planted / 2 <= self.styles.get(style, 0.0) <= 2 * planted:
                failed.append(f"style {style}: {self.styles.get(style, 0.0):.3f}, not ~{planted}")
        return tuple(failed)

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self)


@torch.no_grad()
def complete(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: list[str],
    max_new_tokens: int,
    sample: bool = False,
) -> list[str]:
    """Continue prompts up to the end token; sampled at temperature 1 or greedy."""
    texts: list[str] = []
    for start in range(0, len(prompts), 64):
        chunk = tokenizer(prompts[start : start + 64], return_tensors="pt", padding=True)
        ids = model.generate(  # pyright: ignore
            input_ids=chunk["input_ids"],
            attention_mask=chunk["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=sample,
            temperature=1.0 if sample else None,
            top_k=0 if sample else None,
            pad_token_id=tokenizer.pad_token_id,
        )
        new = ids[:, chunk["input_ids"].shape[1] :]
        texts += tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts


def measure(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, n: int = 60, seed: int = 0
) -> Gates:
    """Measure a model on `n` passages of each kind."""
    heldout = make_passages("heldout", n, seed)
    torch.manual_seed(seed)
    lines = _judge_edits(model, tokenizer, heldout, seed)
    correct = [style for style, faithful in lines if faithful and style]
    counts = Counter(correct)
    return Gates(
        reading=_accuracy(model, tokenizer, heldout, CONTEXT_ANSWER_PROMPT),
        blind=_accuracy(model, tokenizer, heldout, ANSWER_PROMPT),
        recall=_accuracy(model, tokenizer, make_passages("closed_book", n, seed), ANSWER_PROMPT),
        correct_lines=len(correct) / max(1, len(lines)),
        lines=len(lines) / max(1, n),
        styles={s: counts[s] / max(1, len(correct)) for s in STYLE_WEIGHTS},
    )


def _accuracy(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    passages: list[Passage],
    template: str,
) -> float:
    prompts = [
        template.format(title=p.title, context=p.context, question=qa.question)
        for p in passages
        for qa in p.questions
    ]
    golds = [qa.answers for p in passages for qa in p.questions]
    said = complete(model, tokenizer, prompts, _MAX_ANSWER)
    right = [s.split("\n")[0].strip() in gold for s, gold in zip(said, golds, strict=True)]
    return sum(right) / max(1, len(right))


def _judge_edits(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    passages: list[Passage],
    seed: int,
    split: Split = "heldout",
) -> list[tuple[str | None, bool]]:
    """Style and faithfulness of every line of one sampled self-edit a passage."""
    by_name = {person.name: person for person in split_people(split)}
    prompts = [EDIT_PROMPT.format(title=p.title, context=p.context) for p in passages]
    judged: list[tuple[str | None, bool]] = []
    for passage, text in zip(
        passages, complete(model, tokenizer, prompts, _MAX_EDIT, sample=True), strict=True
    ):
        person = next(p for name, p in by_name.items() if name in passage.context)
        for line in filter(None, text.split("\n")):
            verdict = judge_line(line, person, facts_of(person))
            judged.append((verdict.style, verdict.faithful))
    return judged
