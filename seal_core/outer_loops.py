"""The OuterLoop protocol: what the policy learns from a round; and the loops that are built in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from seal_core.kinds.sections import RestemSection
from seal_core.types import Score, Selection, SelfEdit


class OuterLoop(Protocol):
    """Says which self-edits the next policy is fine-tuned on, and how much each counts."""

    @property
    def start(self) -> Literal["policy", "base"]:
        """What the update starts from."""
        ...

    def weights(
        self,
        edits: Sequence[SelfEdit],
        scores: Sequence[Score],
        selections: Sequence[Selection],
    ) -> Mapping[str, float]:
        """Weight of each self-edit's loss, by id; those that are not named teach nothing.

        Weights are finite and positive, only their ratio counts, and none is of a self-edit that is
        unusable or has an error.

        Args:
            edits: All of a round; `scores` and `selections` are of the same ones.
        """
        ...


@dataclass(frozen=True, slots=True)
class Restem:
    """ReST-EM's M-step (Singh et al. 2023, arXiv 2312.06585): all that was kept, alike."""

    options: RestemSection

    @property
    def start(self) -> Literal["policy", "base"]:
        """See `RestemSection`."""
        return self.options.start

    def weights(
        self,
        edits: Sequence[SelfEdit],
        scores: Sequence[Score],
        selections: Sequence[Selection],
    ) -> Mapping[str, float]:
        """One for each that was kept; none for those that were cut, if they are left out."""
        kept = {selection.self_edit_id for selection in selections if selection.kept}
        if self.options.cut == "leave_out":
            kept -= {edit.self_edit_id for edit in edits if edit.finish_reason == "length"}
        return {edit.self_edit_id: 1.0 for edit in edits if edit.self_edit_id in kept}
