"""Small chat templates, one of each kind that models come with, for a tokenizer of bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.models import byte_tokenizer, save_qwen2

SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>", "<|eot|>", "<turn>", "</turn>"),
    *("[INST]", "[/INST]", "<|channel|>", "<|message|>", "<|return|>", "<s>"),
)
MARKS = ("<|You|>", "<|I|>")

_TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

TEMPLATES = {
    # The end of a turn is another token than the end of a text, and a system turn comes by itself.
    "turns": "<|im_start|>system\nBe helpful.<|im_end|>\n" + _TURNS + _OPEN,
    # Today's date in a system turn; contents are trimmed.
    "date": (
        "<s><|head|>system<|/head|>\n\nToday: {{ strftime_now('%d %b %Y') }}<|eot|>"
        "{% for m in messages %}<|head|>{{ m.role }}<|/head|>\n\n{{ m.content | trim }}<|eot|>"
        "{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
    ),
    # No system role, and the roles must take turns.
    "alternating": (
        "<s>{% for m in messages %}{% if m.role == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}</turn>\n"
        "{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
    ),
    # Nothing opens a reply.
    "instructions": (
        "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}<|end|>{% endif %}{% endfor %}"
    ),
    # A thought stands before each reply, an empty one where thinking is off.
    "thinking": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}" + _OPEN + "{% if add_generation_prompt and not "
        "(enable_thinking is defined and enable_thinking) %}<think>\n\n</think>\n\n{% endif %}"
    ),
    # A reply that is asked for begins with a thought; one that is there has none.
    "always thinks": _TURNS + _OPEN + "{% if add_generation_prompt %}<think>\n{% endif %}",
    # Turns are marked with tokens that the tokenizer does not call special.
    "marks": (
        "{% for m in messages %}{{ '<|You|>' if m.role == 'user' else '<|I|>' }}{{ m.content }}"
        "{{ '' if m.role == 'user' else '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|I|>{% endif %}"
    ),
    # A reply stands in a channel, which a model that is asked chooses itself.
    "channels": (
        "{% for m in messages %}<|im_start|>{{ m.role }}"
        "{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m.content }}"
        "{{ '<|return|>' if m.role == 'assistant' else '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
    ),
}

UNUSABLE = {
    "no template": (None, "has no chat template"),
    "no end": (
        "{% for m in messages %}# {{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}# assistant: {% endif %}",
        "no special token ends its replies",
    ),
    "system needed": (
        "{% if messages[0].role != 'system' %}{{ raise_exception('say who you are') }}{% endif %}",
        "say who you are",
    ),
    "syntax": ("{% for m in messages %}{{ m.content }}", "cannot be used"),
    "no question": ("<|im_start|>assistant\n", "writes the question 0 times"),
    "twice": (
        "{% for m in messages %}{{ m.content }} {{ m.content }}<|im_end|>{% endfor %}",
        "writes the question 2 times",
    ),
    "no reply": (
        "{% for m in messages if m.role == 'user' %}{{ m.content }}<|im_end|>{% endfor %}",
        "writes the reply 0 times",
    ),
    "another opening": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|head|>bot{% endif %}",
        "begins a reply that is asked for otherwise",
    ),
}


def chat_tokenizer(template: str | None) -> Any:
    """A token per byte, the special tokens of all templates, and one of them."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    tokenizer.add_tokens(list(MARKS))
    tokenizer.chat_template = template
    return tokenizer


def save_chat_model(folder: Path, template: str | None) -> Path:
    """A random model that has an embedding for each of the tokens."""
    save_qwen2(folder, vocabulary=257 + len(SPECIAL + MARKS))
    chat_tokenizer(template).save_pretrained(folder)
    return folder
