"""The README of an exported model: what it is, how it was made and measured, how to load it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flows.views.recorded import RecordedModel
from flows.views.results import held_out_results, results_markdown
from seal_core.errors import InputError
from storage.sql.catalog import Catalog

_LICENCE = re.compile(r"^license:\s*(\S+)\s*$", re.MULTILINE)
_CARDS = ("README.md", "MODEL_CARD.md")
_VERSIONS = """
SELECT versions FROM stages WHERE run = $run AND error IS NULL ORDER BY started_at DESC LIMIT 1
"""


Form = Literal["peft", "merged"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        adapters: Of the store, that are in it, the policy's first.
        rank: Of the adapter; None if it is merged.
        lost: Share of the adapters' change in the logits that rounding took; None for an adapter.
    """

    run: str
    models: tuple[str, ...]
    form: Form
    path: str
    base: str
    adapters: tuple[str, ...]
    rank: int | None
    lost: float | None

    def to_json(self) -> dict[str, Any]:
        """What `seal export --json` prints."""
        return asdict(self)


def model_card(catalog: Catalog, made: Exported, model: RecordedModel) -> str:
    """Markdown, with the front matter that the hub reads."""
    licence = base_licence(Path(model.path))
    config = model.config
    front = [
        "---",
        f"base_model: {json.dumps(made.base)}",
        f"library_name: {'peft' if made.form == 'peft' else 'transformers'}",
        *([f"license: {licence}"] if licence else []),
        "tags: [seal-pipeline, lora]",
        "---",
    ]
    data = config.data.path or config.data.source
    body = [
        f"# {' + '.join(made.models)} of run {made.run}",
        "",
        _what(made),
        "",
        f"- Base model: `{made.base}`"
        + (f", revision {config.model.revision}" if config.model.revision else ""),
        f"- Licence of the base model: {licence or 'not told in its folder: see where it is from'}",
        f"- Data: `{data}`; reward `{config.reward.kind}`, grader `{config.evaluate.grader}`",
        f"- Weights in {model.precision}" if made.form == "merged" else f"- Rank {made.rank}",
        f"- Made with {_versions(catalog, made.run)}",
        "",
        "## Held-out accuracy of the run",
        "",
        *_results(catalog, made.run),
        "",
        "## Use",
        "",
        *(f"    {line}" for line in _use(made)),
    ]
    return "\n".join([*front, "", *body, ""])


def base_licence(folder: Path) -> str | None:
    """What the base model's own card says, if it has one."""
    for name in _CARDS:
        try:
            head = (folder / name).read_text(encoding="utf-8", errors="replace")[:4000]
        except OSError:
            continue
        if found := _LICENCE.search(head):
            return found[1]
    return None


def _what(made: Exported) -> str:
    parts = "LoRA adapters" if made.form == "peft" else "weights"
    text = f"The {parts} of {' and '.join(made.models)}, written by `seal export`. "
    if len([name for name in made.models if not name.startswith("policy-")]) > 1:
        text += (
            "Several self-edits are added up that were trained apart: no answer of theirs "
            "together was measured. "
        )
    if made.form == "peft":
        return text + "What they stand on is in them: put them on the base model alone."
    return text + (
        f"The logits of a text are off by {made.lost or 0.0:.1%} of what the adapters change in "
        "them, by rounding."
    )


def _versions(catalog: Catalog, run: str) -> str:
    found = catalog.fetch(_VERSIONS, run=run)
    known = json.loads(found[0][0]) if found else {}
    return ", ".join(f"{name} {number}" for name, number in known.items()) or "unknown versions"


def _results(catalog: Catalog, run: str) -> list[str]:
    try:
        return results_markdown(held_out_results(catalog, run))
    except InputError as error:
        return [str(error)]


def _use(made: Exported) -> list[str]:
    if made.form == "peft":
        return [
            "from peft import AutoPeftModelForCausalLM",
            "from transformers import AutoTokenizer",
            f'model = AutoPeftModelForCausalLM.from_pretrained("{made.path}")',
            f'tokenizer = AutoTokenizer.from_pretrained("{made.base}")',
        ]
    return [
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        f'model = AutoModelForCausalLM.from_pretrained("{made.path}")',
        f'tokenizer = AutoTokenizer.from_pretrained("{made.path}")',
    ]
