"""Draws a run's figures as SVG that takes the page's colour for text, light or dark.

matplotlib draws them: its SVG needs no script and no network, so the page opens anywhere.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.figure import Figure

from flows.views.results import ConditionResult

_INK = "#123456"
"""Stands for the page's own colour of text."""
_COLOURS = ("#3f88d9", "#d9822b", "#3a9d63", "#c8545c", "#8a63c9", "#7d8590")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.prop_cycle": cycler(color=_COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), _INK),
    **dict.fromkeys(("xtick.color", "ytick.color", "legend.labelcolor"), _INK),
}
_IDS = re.compile(r'(\bid="|url\(#|href="#)')
_SIZE = re.compile(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>')


def condition_figure(conditions: Sequence[ConditionResult], name: str) -> str:
    """Held-out accuracy of each condition with its interval."""

    def draw(axes: Any) -> None:
        rows = [row for row in conditions if row.accuracy.mean is not None][::-1]
        for y, row in enumerate(rows):
            found = row.accuracy
            axes.plot([found.low, found.high], [y, y], color=_COLOURS[0], linewidth=2)
            axes.plot([found.mean], [y], "o", color=_COLOURS[0])
        axes.set_yticks(range(len(rows)), [row.condition for row in rows])
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("held-out accuracy, 95% interval")

    return _svg(draw, name, height=0.6 + 0.32 * len(conditions))


def curve_figure(conditions: Sequence[ConditionResult], name: str) -> str:
    """Held-out accuracy over rounds, and the controls as lines."""

    def draw(axes: Any) -> None:
        rounds = [row for row in conditions if row.condition.startswith("round_")]
        x = [int(row.condition.removeprefix("round_")) for row in rounds]
        label = "policy of the round"
        axes.plot(x, [row.accuracy.mean for row in rounds], marker="o", label=label)
        for place, row in zip(x, rounds, strict=True):
            axes.plot([place, place], [row.accuracy.low, row.accuracy.high], color=_COLOURS[0])
        others = [row for row in conditions if not row.condition.startswith("round_")]
        for colour, row in zip(itertools.cycle(_COLOURS[1:]), others, strict=False):
            axes.axhline(row.accuracy.mean, color=colour, linestyle="--", label=row.condition)
        axes.set_xticks(x)
        axes.set_xlabel("round")
        axes.set_ylabel("held-out accuracy")
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))

    return _svg(draw, name)


def reward_figure(rewards: Mapping[int, Sequence[float]], name: str) -> str:
    """Rewards of training self-edits by round."""

    def draw(axes: Any) -> None:
        values = [value for round_index in rewards for value in rewards[round_index]]
        low, high = min(values), max(values)
        edges = [low + (high - low or 1.0) * i / 20 for i in range(21)]
        for index, own in rewards.items():
            weights = [1 / len(own)] * len(own)
            axes.hist(own, edges, weights=weights, histtype="step", label=f"round {index}")
        axes.set_xlabel("reward of a training self-edit")
        axes.set_ylabel("share")
        axes.legend(frameon=False)

    return _svg(draw, name)


def length_figure(points: Mapping[int, Sequence[tuple[int, float]]], name: str) -> str:
    """Gain of training self-edits against their length in tokens, by round."""

    def draw(axes: Any) -> None:
        for index, own in points.items():
            x, y = zip(*own, strict=True)
            axes.scatter(x, y, s=9, alpha=0.5, label=f"round {index}")
        axes.axhline(0, color=_COLOURS[-1], linewidth=0.8)
        axes.set_xlabel("tokens of the self-edit")
        axes.set_ylabel("gain")
        axes.legend(frameon=False)

    return _svg(draw, name)


def loss_figure(losses: Sequence[tuple[str, float, float]], name: str) -> str:
    """Mean training loss per token over the first and the last epoch, by condition."""

    def draw(axes: Any) -> None:
        for condition, first, last in losses:
            axes.plot([0, 1], [first, last], marker="o", label=condition)
        axes.set_xticks([0, 1], ["first epoch", "last epoch"])
        axes.set_ylabel("loss per token, nats")
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))

    return _svg(draw, name)


def _svg(draw: Callable[[Any], None], name: str, height: float = 3.2) -> str:
    """A figure as an element of a page; its ids begin with `name`, so that they are unique."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(6.4, height), layout="constrained")
        draw(figure.subplots())
        sink = io.StringIO()
        none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(sink, format="svg", transparent=True, metadata=none)
    text = sink.getvalue()
    text = text[text.index("<svg ") :].replace(_INK, "currentColor")
    text = _SIZE.sub(r'<svg class="figure" viewBox="\1" role="img">', text, count=1)
    text = text.replace("xlink:href", "href")
    return _IDS.sub(rf"\g<1>{name}-", text)
