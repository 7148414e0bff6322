"""What looks wrong in a run once it has rows: prompts that do not fit, self-edits of no use."""

from __future__ import annotations

from collections.abc import Iterator

from seal_core.types import Advice
from storage.sql.catalog import Catalog

_NEAR_ZERO = 0.1
_FEW = 5
_SHARE = 0.1
_LONG = 3
"""An answer of more than so many times the words of its longest reference says much besides."""

_STORED = "SELECT setting, text FROM advice WHERE run = $run ORDER BY setting"
_IN_CONTEXT = """
SELECT avg(correct::DOUBLE), count(DISTINCT problem_id) FROM answers
WHERE run = $run AND condition = 'in_context' AND error IS NULL
"""
_EDITS = """
SELECT count(*), count(e.unusable), count(*) FILTER (e.finish_reason = 'length'),
    count(*) FILTER (e.unusable IS NULL AND contains(p.context, trim(e.text)))
FROM self_edits e JOIN problems p USING (run, problem_id)
WHERE e.run = $run AND starts_with(e.condition, 'round_') AND e.error IS NULL
"""
_KEPT = """
SELECT count(*), count(*) FILTER (s.reward = 0 AND s.reward_name = 'accuracy')
FROM selections x JOIN scores s USING (run, round, self_edit_id) WHERE x.run = $run AND x.kept
    AND starts_with(x.rule, 'best_of_k')
"""
_LONG_ANSWERS = """
SELECT count(*), count(*) FILTER (
    len(string_split(trim(a.text), ' ')) > $long * list_max(
        list_transform(q.gold, lambda item: len(string_split(trim(item), ' ')))
    )
)
FROM answers a JOIN questions q USING (run, question_id)
WHERE a.run = $run AND a.split = 'heldout' AND a.correct AND a.grader = 'contains'
"""


def advice_of(catalog: Catalog, run: str) -> list[Advice]:
    """What was told before the run, and what its rows tell now."""
    stored = [Advice(*row) for row in catalog.fetch(_STORED, run=run)]
    return [*stored, *_found(catalog, run)]


def _found(catalog: Catalog, run: str) -> Iterator[Advice]:
    accuracy, n = catalog.fetch(_IN_CONTEXT, run=run)[0]
    if n >= _FEW and accuracy < _NEAR_ZERO:
        yield Advice(
            "evaluate.context_prompt",
            f"even with the passage in view, accuracy is {accuracy:.2f}: the prompt or "
            "evaluate.grader does not fit the model's answers; see them with `seal ask RUN "
            '"a question" --base --passage ID`',
        )
    edits, unusable, cut, echoes = catalog.fetch(_EDITS, run=run)[0]
    if edits and unusable > _SHARE * edits:
        yield Advice(
            "sample.prompt",
            f"{unusable} of {edits} self-edits teach nothing, see self_edits.unusable: use "
            "another prompt, or a lower sample.temperature",
        )
    if edits and cut > _SHARE * edits:
        yield Advice(
            "sample.max_tokens",
            f"{cut} of {edits} self-edits were cut: raise it, or set a prompt that asks for less",
        )
    if edits and echoes > _SHARE * edits:
        yield Advice(
            "sample.prompt",
            f"{echoes} of {edits} self-edits are parts of their passages: a model that echoes "
            "needs another prompt, or rows.variant",
        )
    kept, useless = catalog.fetch(_KEPT, run=run)[0]
    if useless:
        yield Advice(
            "selection.min_gain",
            f"{useless} of {kept} kept self-edits have the reward 0, and the policy learns them "
            "all the same: set selection.min_gain = 0.0, which keeps what gained something",
        )
    correct, long = catalog.fetch(_LONG_ANSWERS, run=run, long=_LONG)[0]
    if correct and long > _SHARE * correct:
        yield Advice(
            "evaluate.grader",
            f"{long} of {correct} correct answers are more than {_LONG} times as long as their "
            "reference, and `contains` accepts any that has it somewhere: lower "
            "evaluate.max_tokens, or use exact_match or f1",
        )
