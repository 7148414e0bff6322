"""Collects everything the store knows of one id, and prints it for a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from flows.views.formats import visible
from flows.views.policy_view import about_policy, own_first, policy_sections
from flows.views.recorded import domain_note, read_recorded, recorded_domain
from seal_core.config import RowsSection
from seal_core.domains.rows import build_rows, rows_digest
from seal_core.errors import InputError, SealError
from seal_core.types import Problem, TrainRow
from storage.sql.catalog import Catalog

_BREAKS = "\n\t"
_KINDS = {
    "edit": ("self_edits", "self_edit_id"),
    "adapter": ("adapters", "adapter_id"),
    "problem": ("problems", "problem_id"),
    "policy": ("policies", "policy_id"),
}


def explain(catalog: Catalog, item: str, run: str | None = None) -> dict[str, Any]:
    """All about one problem, self-edit or adapter, as plain JSON types.

    Raises:
        InputError: the id is of no known kind, or it is not in the store.
    """
    kind = item.partition("-")[0]
    if kind not in _KINDS:
        kinds = ", ".join(f"{name}-…" for name in _KINDS)
        raise InputError(f"{item!r} is no id that can be shown: ids look like {kinds}")
    table, key = _KINDS[kind]
    rows = _rows(catalog, table, key, item, run)
    if kind == "policy":
        rows = own_first(catalog, rows)
    (row,) = rows[:1] or (None,)
    if row is None:
        if run and not catalog.fetch("SELECT 1 FROM runs WHERE run = $run", run=run):
            raise InputError(f"no run {run!r} in this store: `seal status` lists those there are")
        where = f"run {run!r}" if run else "this store"
        raise InputError(f"{where} has no {kind} {item!r}: look for ids with `seal sql {table}`")
    found: dict[str, Any] = {"kind": kind, kind: row}
    run = str(row["run"])
    if kind == "policy":
        return found | about_policy(catalog, row)
    if kind != "problem":
        found["problem"] = _rows(catalog, "problems", "problem_id", row["problem_id"], run)[0]
    found["passage"] = _rendered(catalog, run, found["problem"])
    found["note"] = domain_note(run, read_recorded(catalog, run))
    if kind == "edit":
        found.update(_about_edit(catalog, row, found["problem"]))
    elif kind == "adapter":
        found["answers"] = _answers(catalog, "adapter_id", item, run)
    else:
        found["questions"] = _rows(catalog, "questions", "problem_id", item, run)
        found["self_edits"] = _edits_of(catalog, item, run)
    return found


def adapters_in(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of adapters among what was found; `has_weights` is for the caller to fill in."""
    return [found["adapter"]] if found["kind"] == "adapter" else found.get("adapters", [])


def _about_edit(catalog: Catalog, edit: dict[str, Any], problem: dict[str, Any]) -> dict[str, Any]:
    item, run = edit["self_edit_id"], edit["run"]
    passage = Problem(
        problem["problem_id"],
        problem["domain"],
        problem["split"],
        problem["title"],
        problem["context"],
        (),
    )
    built, unknown = _training_rows(catalog, run, passage, edit["text"])
    adapters = _rows(catalog, "adapters", "self_edit_id", item, run)
    return {
        "training_rows": [row.text for row in built],
        "training_prompts": [row.prompt for row in built],
        "training_rows_unknown": unknown,
        "trained_on_them": rows_digest(built) in {row["rows_sha256"] for row in adapters},
        "adapters": adapters,
        "answers": _answers(catalog, "self_edit_id", item, run),
        "baseline": _baseline(catalog, edit),
        "score": next(iter(_rows(catalog, "scores", "self_edit_id", item, run)), None),
        "selection": next(iter(_rows(catalog, "selections", "self_edit_id", item, run)), None),
    }


def _training_rows(
    catalog: Catalog, run: str, passage: Problem, text: str
) -> tuple[tuple[TrainRow, ...], str | None]:
    """The rows that a self-edit becomes, or why they are not known."""
    recorded = read_recorded(catalog, run)
    if "import" in recorded:
        return build_rows(passage, text, RowsSection.model_validate(recorded["rows"])), None
    try:
        return recorded_domain(run, recorded).train_rows(passage, text), None
    except SealError as error:
        return (), str(error)


def _rendered(catalog: Catalog, run: str, problem: dict[str, Any]) -> str:
    """A problem as its domain shows it; its bare text where that domain is not here."""
    passage = Problem(
        problem["problem_id"],
        problem["domain"],
        problem["split"],
        problem["title"],
        problem["context"],
        (),
    )
    try:
        return recorded_domain(run, read_recorded(catalog, run)).render(passage)
    except SealError:
        return problem["context"]


def print_explanation(found: dict[str, Any], console: Console) -> None:
    """Prints what `explain` found, section by section."""
    row = found[found["kind"]]
    console.print(f"[bold]{found['kind']} {row[_KINDS[found['kind']][1]]}[/] of run {row['run']}")
    if found.get("note"):
        console.print(escape(visible(found["note"])))
    if found["kind"] == "policy":
        for title, lines in policy_sections(found):
            _section(console, title, lines)
        return
    _section(console, f"Passage: {found['problem']['title']}", [found["passage"]])
    if found["kind"] == "problem":
        _section(
            console,
            "Questions",
            [f"{q['prompt']}  →  {' | '.join(q['gold'])}" for q in found["questions"]],
        )
        _section(console, "Self-edits", [_edit_line(edit) for edit in found["self_edits"]])
        return
    if found["kind"] == "edit":
        _print_edit(console, found)
    else:
        _section(console, "Training", [_adapter_line(row)])
    _section(console, "Answers after training", _answer_lines(found))


def _print_edit(console: Console, found: dict[str, Any]) -> None:
    edit, score, selection = found["edit"], found["score"], found["selection"]
    head = f"Self-edit ({edit['condition']}, {edit['split']}, sample {edit['sample_index']})"
    missing = edit["error"] or edit["unusable"] or edit["prompt_id"]
    _section(console, head, [edit["text"] or f"(none: {missing})"])
    if edit["text"] and edit["unusable"]:
        _section(console, "It teaches nothing", [edit["unusable"]])
    # Nothing may have been trained, and not every imported training tells its rows.
    doubt = "" if found["trained_on_them"] else " (rebuilt; no adapter confirms them)"
    unknown = found["training_rows_unknown"]
    rows = map(_row_line, found["training_prompts"], found["training_rows"])
    _section(console, f"Training rows{doubt}", [unknown] if unknown else list(rows))
    _section(console, "Adapters", [_adapter_line(row) for row in found["adapters"]])
    if score:
        _section(
            console,
            "Reward",
            [
                f"{score['reward_name']} {_percent(score['baseline_reward'])} before, "
                f"{_percent(score['reward'])} after: gain {_signed(score['gain'])} "
                f"({score['n_answers']} answers, {score['n_errors']} lost to errors)",
                *_components(score),
            ],
        )
    if selection:
        verdict = "kept" if selection["kept"] else "rejected"
        _section(console, "Verdict", [f"{verdict} by {selection['rule']}: {selection['reason']}"])


def _components(score: dict[str, Any]) -> list[str]:
    """What the reward was made of, where that is more than itself."""
    parts = {k: v for k, v in (score["components"] or {}).items() if k != score["reward_name"]}
    return (
        [", ".join(f"{name} {_percent(value)}" for name, value in parts.items())] if parts else []
    )


def _rows(
    catalog: Catalog, table: str, key: str, value: str, run: str | None
) -> list[dict[str, Any]]:
    where = f"{key} = $value" + (" AND run = $run" if run else "")
    parameters = {"value": value, **({"run": run} if run else {})}
    return catalog.records(f"SELECT * FROM {table} WHERE {where} ORDER BY run, round", **parameters)


def _answers(catalog: Catalog, key: str, value: str, run: str) -> list[dict[str, Any]]:
    return catalog.records(
        f"""SELECT a.*, q.prompt, q.gold FROM answers a JOIN questions q USING (run, question_id)
        WHERE a.{key} = $value AND a.run = $run ORDER BY a.repeat, q.question_index""",
        value=value,
        run=run,
    )


def _baseline(catalog: Catalog, edit: dict[str, Any]) -> dict[str, Any]:
    """Answers of the model without an adapter, by question; the first, if it was asked again."""
    rounds = edit["round"] if edit["split"] == "train" else -1
    rows = catalog.records(
        """SELECT question_id, text, correct FROM answers WHERE run = $run AND round = $round
        AND problem_id = $problem AND condition = 'no_adaptation'
        ORDER BY repeat DESC, answer_id DESC""",
        run=edit["run"],
        round=rounds,
        problem=edit["problem_id"],
    )
    return {row["question_id"]: row for row in rows}


def _edits_of(catalog: Catalog, problem: str, run: str) -> list[dict[str, Any]]:
    return catalog.records(
        """SELECT e.self_edit_id, e.condition, e.sample_index, s.gain, x.kept
        FROM self_edits e LEFT JOIN scores s USING (run, self_edit_id)
        LEFT JOIN selections x USING (run, self_edit_id)
        WHERE e.problem_id = $problem AND e.run = $run
        ORDER BY e.round, e.condition, e.sample_index""",
        problem=problem,
        run=run,
    )


def _section(console: Console, title: str, lines: Sequence[str]) -> None:
    console.print(f"\n[bold]{escape(visible(title))}[/]")
    for line in lines or ["(nothing)"]:
        console.print(f"  {escape(visible(line, keep=_BREAKS))}".replace("\n", "\n  "))


def _row_line(prompt: str, text: str) -> str:
    return f"{text}\n    (after: {prompt})" if prompt else text


def _edit_line(edit: dict[str, Any]) -> str:
    kept = {True: "kept", False: "rejected", None: ""}[edit["kept"]]
    return (
        f"{edit['self_edit_id']}  {edit['condition']} sample {edit['sample_index']}  "
        f"gain {_signed(edit['gain'])}  {kept}"
    )


def _adapter_line(row: dict[str, Any]) -> str:
    if row["error"]:
        return f"{row['adapter_id']}  failed: {row['error']}"
    counts = ((name, row[f"n_{name}"]) for name in ("rows", "steps", "tokens"))
    known = [f"{count} {name}" for name, count in counts if count is not None]
    if row["first_loss"] is not None and row["final_loss"] is not None:
        known.append(f"loss {row['first_loss']:.3f} → {row['final_loss']:.3f}")
    if not row["has_weights"]:
        known.append("no weights kept")
    return f"{row['adapter_id']}  rank {row['rank']}, {', '.join(known)}"


def _answer_lines(found: dict[str, Any]) -> list[str]:
    before = found.get("baseline", {})
    return [_answer_line(answer, before.get(answer["question_id"])) for answer in found["answers"]]


def _answer_line(answer: dict[str, Any], before: dict[str, Any] | None) -> str:
    mark = {True: "right", False: "wrong", None: "error"}[answer["correct"]]
    said = answer["text"] if answer["text"] is not None else answer["error"]
    was = f"  (before: {before['text']!r})" if before else ""
    return f"{mark:<5}  {answer['prompt']}  →  {said!r}; gold {' | '.join(answer['gold'])}{was}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"
