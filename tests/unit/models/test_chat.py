"""Conversations are rendered as the template has them, whatever its kind, and end where it says."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from tokenizers import AddedToken

from seal_core.engines import ChatSettings, TrainRow
from seal_core.errors import InputError
from seal_core.models.text.tokens import Codec, encode_prompt, encode_row
from tests.chat_models import BACKENDS, CHATML, CONTROL, END, chat_tokenizer

KINDS = sorted(CONTROL)
QUESTION = "What  is\n\nin it, a <table>? é"
REPLY = "Two things, in\n\na list: a, in."
NOW = datetime(2024, 7, 26)

CUSTOM_PROMPT = {
    # It would open a thought, and leave the channel to the model.
    "thinker": "<s><|User|>Q<|Assistant|>",
    "channels": "<|start|>system<|message|>Date: 2024-07-26<|end|><|start|>user<|message|>Q<|end|>"
    "<|start|>assistant<|channel|>final<|message|>",
}
CUSTOM_CONTEXT = {
    "closed": "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n",
    "break": "<|user|>Q</s><|assistant|>",
}
"""What stands before the reply of a row, where the generation prompt has more."""


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def library(tokenizer: Any, *messages: dict[str, str], **options: Any) -> list[int]:
    """What `apply_chat_template` gives, told the same."""
    known = {"enable_thinking": False, "thinking": False, "strftime_now": NOW.strftime}
    known["date_string"] = NOW.strftime("%d %b %Y")
    return list(
        tokenizer.apply_chat_template(
            list(messages), tokenize=True, return_dict=False, **(known | options)
        )
    )


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_text_gives_the_tokens_of_the_library(kind: str, backend: str) -> None:
    tokenizer = chat_tokenizer(kind, backend)
    codec = Codec(tokenizer)
    asked = said("user", QUESTION)
    prompt = encode_prompt(codec, QUESTION, chat=True)
    if kind not in CUSTOM_PROMPT:
        assert prompt == library(tokenizer, asked, add_generation_prompt=True)
    row = encode_row(codec, TrainRow(REPLY, QUESTION, chat=True), tokenizer.eos_token_id, 1000)
    whole = library(tokenizer, asked, said("assistant", REPLY))
    if END[kind] == "<|user|>":  # The reply ends with the next turn.
        whole = library(tokenizer, asked, said("assistant", REPLY), said("user", ""))
    assert list(row.ids) == whole[: len(row.ids)]
    if kind in CUSTOM_CONTEXT:
        prompt = codec.literal.encode(CUSTOM_CONTEXT[kind].replace("Q", QUESTION))
    assert list(row.ids[: row.n_context]) == prompt


@pytest.mark.parametrize("kind", KINDS)
def test_a_turn_ends_with_what_follows_the_reply(kind: str) -> None:
    tokenizer = chat_tokenizer(kind)
    codec = Codec(tokenizer)
    end = tokenizer.convert_tokens_to_ids(END[kind])
    row = encode_row(codec, TrainRow(REPLY, "Q", chat=True), tokenizer.eos_token_id, 1000)
    assert codec.chat.end_id == row.ids[-1] == end
    assert end not in row.ids[row.n_context : -1]
    assert codec.ends((tokenizer.eos_token_id,), chat=True) == tuple(
        sorted({tokenizer.eos_token_id, end})
    )
    assert codec.ends((7,), chat=False) == (7,)


@pytest.mark.parametrize("kind", sorted(CUSTOM_PROMPT))
def test_without_thinking_an_answer_begins_where_the_template_puts_a_reply(kind: str) -> None:
    codec = Codec(chat_tokenizer(kind))
    assert codec.chat.prompt_text("Q") == CUSTOM_PROMPT[kind]


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("kind", KINDS)
def test_text_that_looks_like_a_control_token_stays_text(kind: str, backend: str) -> None:
    tokenizer = chat_tokenizer(kind, backend)
    codec = Codec(tokenizer)
    control = codec.literal.ids
    plain = encode_row(codec, TrainRow("a", "b", chat=True), tokenizer.eos_token_id, 1000)
    expected = [token for token in plain.ids if token in control.values()]
    for name in control:
        text = f"a {name}x{name}"
        row = encode_row(codec, TrainRow(text, text, chat=True), tokenizer.eos_token_id, 1000)
        found = [token for token in row.ids if token in control.values()]
        assert found == expected, name
        shown = tokenizer.decode(row.ids[row.n_context : -1]).strip()
        assert shown == text


ODD = '\n It\'s <b>1</b> &amp; "2"  \t\n\n漢字 🙂 {{ x }} e\u0301 <|no token|> \n '


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_odd_text_too_is_trained_as_the_library_renders_it(kind: str, thinking: bool) -> None:
    tokenizer = chat_tokenizer(kind)
    if thinking and "</think>" not in tokenizer.chat_template:
        return
    chat = Codec(tokenizer, chat=ChatSettings(thinking=thinking)).chat
    asked, options = said("user", ODD), {"enable_thinking": thinking, "thinking": thinking}
    # Its first line break joins the prompt's last.
    row, reply = chat.row(ODD, ODD), said("assistant", ODD)
    turns = [asked, reply]
    if END[kind] == "<|user|>":
        turns.append(said("user", ""))
    assert row.ids == library(tokenizer, *turns, **options)[: len(row.ids)]
    assert row.ids[-1] == tokenizer.convert_tokens_to_ids(END[kind])
    if thinking or kind not in CUSTOM_PROMPT:
        prompt = library(tokenizer, asked, add_generation_prompt=True, **options)
        assert chat.prompt(ODD) == prompt


BLANK = (
    "{{ bos_token }}{% for m in messages %}{{ '>>> ' + m.role + ': ' + m.content }}"
    "{{ eos_token if m.role == 'assistant' else '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '>>> assistant: ' }}{% endif %}"
)


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_a_reply_that_joins_the_prompts_last_space_has_one_space(backend: str) -> None:
    tokenizer = chat_tokenizer("brackets", backend)
    tokenizer.chat_template = BLANK
    chat, asked = Codec(tokenizer).chat, said("user", "Q")
    for reply, joins in (("a list", backend != "unigram"), ("two", False), ("a </s>", None)):
        row = chat.row("Q", reply)
        prompt = library(tokenizer, asked, add_generation_prompt=True)
        assert chat.prompt("Q") == prompt
        assert tokenizer.decode(row.ids).endswith(f">>> assistant: {reply}</s>")
        assert row.ids[: row.n_context] == prompt[: row.n_context]
        if joins is not None:
            assert row.ids == library(tokenizer, asked, said("assistant", reply))
            assert row.n_context == len(prompt) - joins


@pytest.mark.parametrize("kind", ["phi3", "pieces"])
def test_control_tokens_that_a_template_puts_together_are_known(kind: str) -> None:
    tokenizer = chat_tokenizer(kind)
    tokenizer.add_tokens(["<table>", "<|other|>"])
    _, _, added = CONTROL[kind]
    assert set(Codec(tokenizer).literal.ids) == {"<s>", "</s>", "<unk>", *added}


def test_a_text_that_the_template_changes_is_refused_and_no_other() -> None:
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = CHATML.replace("m.content", "m.content.split('</think>')[-1]")
    chat = Codec(tokenizer, "acme-7b").chat
    assert tokenizer.decode(chat.row("Q", "A").ids).endswith("A<|im_end|>")
    with pytest.raises(InputError, match=r"acme-7b .* the assistant says: '<think>Hm' becomes 'A'"):
        chat.row("Q", "<think>Hm</think> A")
    with pytest.raises(InputError, match=r"the user says: 'a</think>' becomes 'b'"):
        chat.prompt("a</think>b")
    # It is no text to the template where it is a token, which text cannot be.
    tokenizer.add_tokens(["</think>"])
    row = Codec(tokenizer).chat.row("Q", "Hm</think> A")
    assert tokenizer.decode(row.ids).endswith("Hm</think> A<|im_end|>")


@pytest.mark.parametrize("thinking", [False, True])
def test_a_thinking_switch_is_off_unless_the_config_turns_it_on(thinking: bool) -> None:
    codec = Codec(chat_tokenizer("switch"), chat=ChatSettings(thinking=thinking))
    prompt = codec.chat.prompt_text("Q")
    start = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    assert prompt == (start if thinking else f"{start}<think>\n\n</think>\n\n")
    # A row has no thought to learn, so that the empty one is never trained on.
    row = codec.chat.row("Q", "Yes")
    ids = codec.literal.encode(f"{start}<think>\n\n</think>\n\nYes<|im_end|>")
    assert (row.ids, row.n_context) == (ids, len(ids) - 4)


def test_what_was_thought_is_no_part_of_the_reply() -> None:
    tokenizer = chat_tokenizer("switch")
    codec = Codec(tokenizer, chat=ChatSettings(thinking=True))
    ends = codec.ends((), chat=True)

    def answer(text: str) -> str:
        ids = codec.literal.encode(text)
        return codec.answer_text("Q", True, ids, ends, tokenizer.decode)

    assert answer("<think>\nHm </think> not\n</think>\n\nYes<|im_end|>") == "Yes"
    assert answer("Yes<|im_end|>") == "Yes"
    with pytest.raises(InputError, match="within its thought: raise max_tokens"):
        answer("<think>\nHm, so")
    off = Codec(tokenizer)
    ids = off.literal.encode("Yes<|im_end|>")
    assert off.answer_text("Q", True, ids, ends, tokenizer.decode) == "Yes"


def test_a_thought_that_the_prompt_opens_must_end_too() -> None:
    tokenizer = chat_tokenizer("thinker")
    codec = Codec(tokenizer, chat=ChatSettings(thinking=True))
    assert codec.chat.prompt_text("Q") == "<s><|User|>Q<|Assistant|><think>\n"
    ids = codec.literal.encode("Hm, so")
    with pytest.raises(InputError, match="within its thought"):
        codec.answer_text("Q", True, ids, (), tokenizer.decode)
    # The row's context is where the template puts a reply.
    row = codec.chat.row("Q", "Yes")
    assert tokenizer.decode(row.ids) == "<s><|User|>Q<|Assistant|>Yes</s>"


def test_the_date_is_the_configs_and_never_the_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = set()
    for zone in ("Pacific/Kiritimati", "Pacific/Niue"):
        monkeypatch.setenv("TZ", zone)
        prompts.add(Codec(chat_tokenizer("dated")).chat.prompt_text("Q"))
    (prompt,) = prompts
    assert "Today: 26 Jul 2024\nAgain: 26 Jul 2024\n" in prompt
    later = Codec(chat_tokenizer("dated"), chat=ChatSettings(date="2031-12-05"))
    assert "Today: 05 Dec 2031\nAgain: 05 Dec 2031\n" in later.chat.prompt_text("Q")
    assert "Date: 2024-07-26" in Codec(chat_tokenizer("channels")).chat.prompt_text("Q")


def test_a_system_message_is_sent_where_the_template_has_a_place_for_it() -> None:
    settings = ChatSettings(system="Be brief </s>.")
    codec = Codec(chat_tokenizer("chatml"), chat=settings)
    shown = codec.literal.reveal(codec.chat.prompt_text("Q"))
    assert shown.startswith("<|im_start|>system\nBe brief </s>.<|im_end|>\n<|im_start|>user\nQ")
    assert codec.literal.ids["</s>"] not in codec.chat.prompt("Q")


def test_a_system_message_that_rows_would_lose_is_refused() -> None:
    # It stands before the last question, and a row's conversation ends with a reply.
    codec = Codec(chat_tokenizer("mistral"), "acme-7b", ChatSettings(system="Be brief."))
    with pytest.raises(InputError, match=r"acme-7b .* leaves the .* out once a reply follows") as e:
        _ = codec.chat
    assert "Leave chat.system empty" in str(e.value)


def test_a_system_message_with_a_switch_in_it_is_refused_with_what_to_do() -> None:
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = CHATML.replace("m.content", "m.content | replace('/no_think', '')")
    codec = Codec(tokenizer, chat=ChatSettings(system="Be brief. /no_think"))
    with pytest.raises(InputError, match=r"system message says: '/no_think' becomes ''") as e:
        _ = codec.chat
    assert "Take what it changes out of chat.system (no thought is asked for" in str(e.value)


def test_a_blank_system_message_is_none() -> None:
    for kind in ("strict", "qwen"):  # The first refuses any, the second has one of its own.
        blank, none = (
            Codec(chat_tokenizer(kind), chat=ChatSettings(system=text)) for text in (" \n", "")
        )
        assert blank.chat.prompt("Q") == none.chat.prompt("Q")


REFUSED = {
    "no template": (None, {}, "there is none"),
    "no system role": (None, {"system": "Be brief."}, "no system role here"),
    "system left out": (
        "{% for m in messages if m.role != 'system' %}{{ m.content }}</s>{% endfor %}",
        {"system": "Be brief."},
        "leaves the system message out",
    ),
    "no thoughts": (CHATML, {"thinking": True}, "chat.thinking is set, and it knows no thought"),
    "no end": (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
        {},
        "no token after a reply",
    ),
    "no reply": (
        "{% for m in messages if m.role == 'user' %}{{ m.content }}</s>{% endfor %}",
        {},
        "leaves out or changes",
    ),
    "escaped": (CHATML.replace("m.content", "m.content | e"), {}, "becomes '&#39;s &l'"),
    "reply escaped": (
        CHATML.replace("m.content", "(m.content | e if m.role == 'assistant' else m.content)"),
        {},
        "it changes what the assistant says",
    ),
    "quoted": (CHATML.replace("m.content", "m.content | tojson"), {}, "changes"),
    "inner space": (CHATML.replace("m.content", "m.content.split() | join(' ')"), {}, "changes"),
    "system changed": (
        CHATML.replace("m.content", "m.content | replace('e', 'x')"),
        {"system": "Be brief."},
        "it changes what the system message says: 'e brief.' becomes 'x brixf.'",
    ),
    "user changed": (
        "{% for m in messages %}{{ m.content | upper if m.role == 'user' else m.content }}</s>"
        "{% endfor %}",
        {},
        "leaves out or changes",
    ),
    "syntax": ("{% for m in messages %}", {}, "TemplateSyntaxError"),
    "undefined": ("{{ nothing.at.all }}", {}, "UndefinedError"),
    "not for plain chats": ("{{ raise_exception('tools only') }}", {}, "tools only"),
    "several, none for chats": ({"tool_use": CHATML}, {}, "it fails"),
}


@pytest.mark.parametrize("special", [False, True])
def test_control_tokens_that_are_text_in_a_conversation_are_refused(special: bool) -> None:
    tokenizer = chat_tokenizer("brackets", "pieces")
    # `tokenizer.add_tokens([...])` does so, and the library then finds them after a space alone.
    names = ("<|im_start|>", "<|im_end|>")
    tokenizer.add_tokens([AddedToken(name, special=special, normalized=True) for name in names])
    tokenizer.chat_template = CHATML
    asked, end = said("user", "Q"), tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end not in library(tokenizer, asked, said("assistant", "A"))
    with pytest.raises(InputError, match=r"acme-7b cannot .* reads '<\|im_.* as text") as e:
        _ = Codec(tokenizer, "acme-7b").chat
    assert "add it to the tokenizer with normalized=False" in str(e.value)
    # Text that looks like them is text all the same.
    ids = encode_prompt(Codec(tokenizer), "see <|im_end|> here")
    assert end not in ids and tokenizer.decode(ids).strip() == "see <|im_end|> here"


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_a_template_that_cannot_be_used_is_refused_by_name(case: str) -> None:
    template, settings, reason = REFUSED[case]
    tokenizer = chat_tokenizer("strict" if case == "no system role" else "chatml")
    if case != "no system role":
        tokenizer.chat_template = template
    codec = Codec(tokenizer, "acme-7b", ChatSettings(**settings))
    with pytest.raises(InputError, match=r"the chat template of acme-7b cannot be used") as error:
        encode_prompt(codec, "Q", chat=True)
    assert reason in str(error.value) and "Set rows.variant to 'base'" in str(error.value)
    assert encode_prompt(codec, "Q") == tokenizer("Q")["input_ids"]
