"""Published result files for tests: small ones of one's own, and where the real ones are."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

_DEFAULT = Path(__file__).parents[1].parent / "shared" / "data"
PUBLISHED = Path(os.environ.get("SEAL_TEST_DATA", _DEFAULT)) / "published"
RESULTS = Path(os.environ.get("SEAL_TEST_RESULTS", PUBLISHED))
"""Every published result file: `knowledge-incorporation/results` of the reference code."""


def article(index: int, verdicts_E_R_Q: list[list[list[bool]]]) -> dict[str, Any]:
    """One article whose answers with the adapter have these verdicts; baselines are wrong."""
    return {
        "title": f"T{index}",
        "context": f"Passage {index}.",
        "prompt": "Write.",
        "stats": {},
        "completions": [
            {
                "text": f"\n Line {index}{e}. \n\nMore.",
                "stats": {},
                "questions": [
                    {
                        "rep": r,
                        "question": f"Question {q}?",
                        "answer": f"gold {q}",
                        "baseline_answer": f"before {e}{r}{q}",
                        "adapter_answer": f"gold {q}" if correct else "",
                        "baseline_correct": False,
                        "adapter_correct": correct,
                    }
                    for r, verdicts_Q in enumerate(verdicts_R_Q)
                    for q, correct in enumerate(verdicts_Q)
                ],
            }
            for e, verdicts_R_Q in enumerate(verdicts_E_R_Q)
        ],
    }


def results_file(articles: list[dict[str, Any]], k: int, repeats: int) -> dict[str, Any]:
    """The results form."""
    return {
        "overall": {},
        "timestamp": "0101_000000",
        "exp_name": "tiny",
        "dataset": "data.json",
        "split_newlines": True,
        "n_articles": len(articles),
        "k_completions": k,
        "eval_times": repeats,
        "lora_params": {
            "rank": 4,
            "alpha": 8,
            "dropout": 0.0,
            "epochs": 3,
            "lr": 0.001,
            "batch_size": 2,
            "grad_accum_steps": 1,
        },
        "articles": articles,
    }


def train_file() -> dict[str, Any]:
    """Two articles, two self-edits, two repeats, two questions; the first article is a tie."""
    tie = [[[True, False], [True, False]], [[False, True], [True, False]]]
    clear = [[[False, False], [True, False]], [[True, True], [True, False]]]
    return results_file([article(0, tie), article(1, clear)], k=2, repeats=2)


def eval_file() -> dict[str, Any]:
    """Two articles with one self-edit each."""
    return results_file([article(0, [[[True, False]]]), article(1, [[[True, True]]])], 1, 1)


def statistics_file() -> dict[str, Any]:
    """`train_file` as published for round 2: statistics of the answers, and no answers."""
    content = train_file()
    means = iter([0.5, 0.5, 0.25, 0.75])
    for completion in (c for a in content["articles"] for c in a["completions"]):
        completion["questions"] = []
        completion["stats"] = {
            "baseline_mean": 0.25,
            "baseline_std": None,
            "adapter_mean": next(means),
            "adapter_std": 0.1414,
            "gain_mean": 0.0,
        }
    return content


def pretraining_file() -> dict[str, Any]:
    """Continued pretraining on two passages with three questions in all."""
    verdicts = {"baseline_correct": [False, False, True], "adapter_correct": [True, False, True]}
    return {
        "overall": {"baseline_accuracy": 0.3333, "adapter_accuracy": 0.6667, "gain": 0.3333},
        "timestamp": "0101_000000",
        "dataset": "data.json",
        "n_articles": 2,
        "k_completions": 5,
        "split_newlines": False,
        "lora_params": {**train_file()["lora_params"], "batch_size": 4, "grad_accum_steps": 2},
        "per_article": {"T": {"baseline_correct": [True], "adapter_correct": [True]}},
        "train_sequences": 10,
        "eval_questions": 3,
        "server_reply": {
            "baseline_accuracy": 0.3333,
            "baseline_texts": ["a", "", "c"],
            "adapter_texts": ["d", "e", "f"],
            **verdicts,
        },
    }


def continual_file() -> dict[str, Any]:
    """Sequences of two passages."""
    return {
        "mean_over_sequences": [[0.1, 0.2], [0.5, 0.0], [0.25, 0.75]],
        "std_over_sequences": [[0.01, 0.02], [0.03, 0.0], [0.04, 0.05]],
        "n_sequences": 4,
        "n_datapoints": 2,
        "dataset": "data.json",
        "base_model": "models/tiny",
    }


def save(path: Path, content: Any) -> Path:
    """Writes a file of the published form."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
