"""Renders how far each contender is from the PEFT loop, from its records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seal_core.rewards.intervals import mean_interval
from tests.bench.markdown import table
from tests.bench.records import Record
from tests.bench.timing import Spread, number

PEFT = "PEFT"
ASKED = "PEFT, asked in smaller batches"
AGAIN = "PEFT again"
FILLED = "PEFT, rows filled up"
EAGER = "PEFT, eager attention"
BATCHED = "batched"


def rounding_lines(data: Record) -> list[str]:
    """Lines of Markdown."""
    lines = ["", *[f"- {text}" for text in data["machine"].values()]]
    for record in data["records"]:
        lines += _section(record, data)
    return lines


def _section(record: Record, data: Record) -> Iterator[str]:
    """One precision."""
    pairs, losses = record["pairs"], record["losses"]
    n_steps = [len(own) for own in losses[PEFT]]
    yield ""
    yield f"### {record['name']} in {record['section']}"
    yield ""
    yield (
        f"{record['n']} edits, {sum(n_steps)} steps, {max(n_steps)} of the longest; epochs: "
        f"{data['epochs']}; targets: {', '.join(data['targets'])}, rank 32."
    )
    yield ""
    head = ["against PEFT", "edits", "B differs", "loss of a step differs, mean", "greatest"]
    head += ["equal answers", "equal first tokens"]
    yield from table(head, [_row(name, own) for name, own in pairs.items()])
    yield ""
    ratios = [_ratio(pairs[BATCHED], pairs[name]) for name in (FILLED, EAGER)]
    yield (
        f"The batched trainer's B is {ratios[0]} times as far from the PEFT loop's as B of rows "
        f"filled up, and {ratios[1]} times as far as B of eager attention. Losses, means over the "
        "edits:"
    )
    yield ""
    whole = [name for name in losses if name != AGAIN]
    short = [name.removeprefix("PEFT, ") for name in whole]
    head = ["step", *[f"loss, {name}" for name in short], *[f"differs, {n}" for n in short[1:]]]
    yield from table(head, _steps({name: losses[name] for name in whole}))


def _row(name: str, pair: Record) -> list[object]:
    return [
        name,
        len(pair["distance"]),
        Spread.of(pair["distance"]),
        number(pair["loss_mean"]),
        number(pair["loss_most"]),
        _share(pair.get("answers")),
        _share(pair.get("first_tokens")),
    ]


def _share(values: Sequence[float] | None) -> str:
    """A mean over edits with its 95% interval; nothing was asked of a random model."""
    if values is None:
        return "–"
    found = mean_interval(values)
    if found.low is None:
        return f"{found.mean:.2f}"
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _ratio(ours: Record, theirs: Record) -> Spread | str:
    """Of distances, edit by edit; two that are bitwise equal have none."""
    pairs = zip(ours["distance"], theirs["distance"], strict=True)
    found = [one / other for one, other in pairs if other]
    return Spread.of(found) if found else "–"


def _steps(losses: dict[str, list[list[float]]]) -> Iterator[list[object]]:
    """Means over edits at steps 1, 2, 4, … that all edits have, and at each one's last."""
    fewest = min(len(own) for own in losses[PEFT])
    places = {str(2**k): 2**k - 1 for k in range(fewest.bit_length())} | {"last": -1}
    for label, place in places.items():
        at = {name: [own[place] for own in edits] for name, edits in losses.items()}
        right = at.pop(PEFT)
        means = [right, *at.values()]
        gaps = [[abs(a - b) for a, b in zip(own, right, strict=True)] for own in at.values()]
        yield [
            label,
            *[f"{sum(own) / len(own):.4f}" for own in means],
            *[number(sum(own) / len(own)) for own in gaps],
        ]
