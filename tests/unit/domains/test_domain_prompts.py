"""Prompts: the published text byte for byte, braces left alone, purposes kept apart."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from seal_core.config import EvaluateSection, SampleSection
from seal_core.domains.prompts import get_prompt, prompt_ids
from seal_core.errors import InputError
from seal_core.minilm import prompts as minilm


def test_all_published_prompts_are_reproduced(shared_data):
    n_checked = 0
    for name in ("train_round1", "eval_base", "eval_iter1"):
        published = json.loads((shared_data / "published" / f"{name}.json").read_text("utf-8"))
        for article in published["articles"]:
            made = get_prompt("implications@1").render(article["title"], article["context"])
            assert made.text == article["prompt"]
            n_checked += 1
    assert n_checked == 450


def test_the_selected_prompts_are_those_of_the_squad_file(shared_data):
    passages = json.loads((shared_data / "squad" / "train50.json").read_text("utf-8"))
    lines = (shared_data / "published" / "selected_round1.jsonl").read_text("utf-8").splitlines()
    published = {json.loads(line)["prompt"] for line in lines}
    prompt = get_prompt("implications@1")
    assert {prompt.render(p["title"], p["context"]).text for p in passages} == published


def test_longer_variants_differ_by_their_adjective_only():
    base = get_prompt("implications@1").template
    for prompt_id, words in (
        ("implications-long@1", "long"),
        ("implications-very-long@1", "very long"),
    ):
        assert get_prompt(prompt_id).template == base.replace("a list", f"a {words} list")


def test_braces_and_backslashes_in_a_passage_stay():
    title, context = r"{context} \1 %s", "{title} {0} {} {question} {{x}}"
    text = get_prompt("implications@1").render(title, context).text
    assert f"Passage:\n{title}\n{context}\n\nImplications:\n" in text
    asked = get_prompt("answer@1").render(question="What is {context}?").text
    assert "Question: What is {context}?\nAnswer:\n" in asked


def test_answers_stop_at_a_line_end_but_a_chat_reply_does_not():
    assert get_prompt("answer@1").render(question="Q?").stop == ("\n",)
    plain = get_prompt("answer@1").render(question="Q?")
    chat = get_prompt("answer@1").render(question="Q?", chat=True)
    assert (chat.text, chat.chat, chat.stop) == (plain.text, True, ())


def test_unknown_and_misplaced_prompts_list_those_that_fit():
    with pytest.raises(InputError, match=r"'implication@1' is not known: use one of .*rewrite@1"):
        get_prompt("implication@1")
    with pytest.raises(InputError, match=r"is for 'edit', not 'answer': use one of answer@1, min"):
        get_prompt("implications@1", "answer")


def test_defaults_of_the_configuration_exist():
    assert get_prompt(SampleSection().prompt, "edit")
    assert get_prompt(EvaluateSection().prompt, "answer")
    assert get_prompt(EvaluateSection().context_prompt, "answer_in_context")


def test_minilm_prompts_are_those_it_was_trained_on():
    assert get_prompt("minilm-edit@1", "edit").template == minilm.EDIT_PROMPT
    assert get_prompt("minilm-answer@1", "answer").template == minilm.ANSWER_PROMPT
    prompt = get_prompt("minilm-answer-in-context@1", "answer_in_context")
    assert prompt.template == minilm.CONTEXT_ANSWER_PROMPT


# A prompt's wording is part of every stage's identity through its id, so it may never change
# under that id. If this fails, add a new version instead of a new digest.
FROZEN = {
    "answer@1": "2a1a35a7c6fd",
    "answer-in-context@1": "0c68c349f972",
    "implications@1": "77c296480d9a",
    "implications-long@1": "5ba1a8354d3d",
    "implications-very-long@1": "68e0ca6e34fa",
    "no-prompt@1": "2688a37470e7",
    "rewrite@1": "4e1a3c6911e3",
    "self-qa@1": "758410e7ece5",
}


def test_published_wordings_never_change():
    for prompt_id, expected in FROZEN.items():
        prompt = get_prompt(prompt_id)
        text = json.dumps([prompt.template, prompt.stop, prompt.purpose])
        assert hashlib.sha256(text.encode()).hexdigest()[:12] == expected, prompt_id
    assert set(FROZEN) == {name for name in prompt_ids() if not name.startswith("minilm-")}


def test_every_prompt_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text("utf-8")
    assert [name for name in prompt_ids() if f"`{name}`" not in page] == []
