"""Tokenizers with chat templates of each kind that model families have, written for the tests."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from tests.chat_families import FAMILIES

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# An extra system message, trimmed texts, and today's date.
DATED = (
    "{{ bos_token }}{% set system = messages[0].role == 'system' %}"
    "<|head|>system<|/head|>\n\nToday: {{ strftime_now('%d %b %Y') }}\n"
    "{% if date_string is defined %}Again: {{ date_string }}\n{% endif %}"
    "{% if system %}{{ messages[0].content | trim }}{% endif %}<|eot|>"
    "{% for m in messages %}{% if m.role != 'system' %}"
    "<|head|>{{ m.role }}<|/head|>\n\n{{ m.content | trim }}<|eot|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)

# No system role, strictly alternating, another name for the assistant.
STRICT = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('no system role here') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}</turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
)

# No generation prompt, a space before the reply, no tokens of its own but the ends of text.
BRACKETS = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)

# A thinking switch: without it, an empty thought opens each reply.
SWITCH = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content.split('</think>')[-1].lstrip('\\n') if m.role == 'assistant' else m.content }}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
    "{% endif %}"
)

# Every reply begins with a thought, and the generation prompt opens it.
THINKER = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' %}<|User|>{{ m.content }}"
    "{% else %}<|Assistant|>{{ m.content.split('</think>')[-1] }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}"
)

# A reply has a channel, which the model writes itself, and its last turn another end.
CHANNELS = (
    "<|start|>system<|message|>Date: {{ strftime_now('%Y-%m-%d') }}<|end|>"
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}"
    "{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)

# The next user's turn is all that ends a reply.
OPEN_END = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

CONTROL = {
    "chatml": (CHATML, ("<|im_start|>", "<|im_end|>"), ()),
    "dated": (DATED, ("<|head|>", "<|/head|>", "<|eot|>"), ()),
    "strict": (STRICT, ("<turn>", "</turn>"), ("<table>",)),
    "brackets": (BRACKETS, (), ()),
    "switch": (SWITCH, ("<|im_start|>", "<|im_end|>"), ("<think>", "</think>")),
    "thinker": (THINKER, ("<|User|>", "<|Assistant|>"), ("<think>", "</think>")),
    "channels": (
        CHANNELS,
        ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|return|>"),
        (),
    ),
    "open_end": (OPEN_END, ("<|user|>", "<|assistant|>"), ()),
    **{kind: (one.template, one.special, one.added) for kind, one in FAMILIES.items()},
}
"""Template, special tokens and other added tokens of each kind, besides the ends of text."""

END = {
    "chatml": "<|im_end|>",
    "dated": "<|eot|>",
    "strict": "</turn>",
    "brackets": "</s>",
    "switch": "<|im_end|>",
    "thinker": "</s>",
    "channels": "<|return|>",
    "open_end": "<|user|>",
    **{kind: one.end for kind, one in FAMILIES.items()},
}


def byte_backend() -> Tokenizer:
    """One token per byte, but for a few that merge, as at the edge of prompt and text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ċ", "Ċ"), ("Ġ", "a"), ("i", "n"), ("<", "|")]
    vocabulary = {char: i for i, char in enumerate(alphabet)}
    for pair in merges:
        vocabulary["".join(pair)] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def piece_backend() -> Tokenizer:
    """As a sentence-piece model converted: a space begins each text, unknown bytes are tokens."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    pieces += [char for char in map(chr, range(33, 127))]
    merges = [("▁", "a"), ("i", "n"), ("▁", "▁"), ("<", "/"), ("</", "s"), ("</s", ">")]
    vocabulary: dict[str, int] = {}
    for piece in [*pieces, *("".join(pair) for pair in merges[:-1])]:
        vocabulary.setdefault(piece, len(vocabulary))
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges[:-1], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def unigram_backend() -> Tokenizer:
    """Its vocabulary holds its special tokens as pieces, which text must not become."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁", -2.0), ("in", -2.5)]
    pieces += [(chr(code), -4.0) for code in range(10, 127) if chr(code) != " "]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


BACKENDS = {"bytes": byte_backend, "pieces": piece_backend, "unigram": unigram_backend}


def chat_tokenizer(kind: str, backend: str = "bytes") -> PreTrainedTokenizerFast:
    """A tokenizer of one of `BACKENDS` with one of the templates of `CONTROL`."""
    template, special, added = CONTROL[kind]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=BACKENDS[backend](), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokens = [AddedToken(name, special=True, normalized=False) for name in special]
    fast.add_tokens([*tokens, *(AddedToken(name, normalized=False) for name in added)])
    fast.chat_template = template
    return fast


def save_chat_model(folder: Path, kind: str, backend: str = "bytes", spare: int = 3) -> str:
    """A random model with such a tokenizer, whose text ends and turns end at other tokens.

    Args:
        spare: Tokens of the model beyond the tokenizer's; below 0, tokens that it lacks.
    """
    tokenizer = chat_tokenizer(kind, backend)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + spare,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        initializer_range=0.3,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
