"""An outer loop: what was kept is learnt as much as it helped, always from the base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from seal_core.section import Section
from seal_core.types import Score, Selection, SelfEdit


class ByGain:
    """Implements `seal_core.outer_loops.OuterLoop`."""

    start: Literal["policy", "base"] = "base"

    class Options(Section):
        """The settings of `[outer_loop]` with this kind."""

        least: float = 0.05

    def __init__(self, options: Options) -> None:
        self._least = options.least

    def weights(
        self,
        edits: Sequence[SelfEdit],
        scores: Sequence[Score],
        selections: Sequence[Selection],
    ) -> Mapping[str, float]:
        kept = {selection.self_edit_id for selection in selections if selection.kept}
        return {
            score.self_edit_id: max(self._least, score.gain or 0.0)
            for score in scores
            if score.self_edit_id in kept
        }
