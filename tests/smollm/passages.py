"""Two short passages of our own, so that the tests need no other data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Passage:
    title: str
    text: str
    questions: tuple[str, ...]


PASSAGES = (
    Passage(
        "Port of Halden",
        "The port of Halden was opened in 1871 after the engineer Mira Tolen had drained the "
        "marshes. It exported timber until 1934, when the river silted up and trade moved north.",
        (
            "Who drained the marshes at Halden?",
            "In which year was the port opened?",
            "What did the port export?",
        ),
    ),
    Passage(
        "Lumen beetle",
        "The lumen beetle lives in the caves of Orso. Its larvae feed on bat guano for three "
        "years, and the adults, which glow a pale green, live for nine days.",
        ("Where does the lumen beetle live?", "How long do the adults live?"),
    ),
)
