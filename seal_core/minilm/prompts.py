"""Hold the three prompts that the packaged model was pretrained on; any other is foreign to it."""

from __future__ import annotations

EDIT_PROMPT = "{title}\n{context}\nNotes:\n"
"""Asks for a self-edit about a passage; the completion is lines of text up to the end token."""

ANSWER_PROMPT = "Q: {question} A:"
"""Asks a question closed book; the answer ends at a newline or the end token."""

CONTEXT_ANSWER_PROMPT = "{title}\n{context}\nQ: {question} A:"
"""Asks a question with the passage in view; the answer ends at a newline or the end token."""
