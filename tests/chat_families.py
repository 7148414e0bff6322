"""Chat templates in the form that families of models give theirs, written for the tests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """A template, its special and other added tokens besides the ends of text, and what ends a
    turn."""

    template: str
    special: tuple[str, ...]
    added: tuple[str, ...]
    end: str


# A default system message, and a branch for tools.
QWEN = (
    "{% if tools %}<|im_start|>system\n<tools>{{ tools | tojson }}</tools><|im_end|>\n"
    "{% elif messages[0].role == 'system' %}"
    "<|im_start|>system\n{{ messages[0].content }}<|im_end|>\n"
    "{% else %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages if not (m.role == 'system' and loop.first) %}"
    "{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>{{ m.content }}</tool_response>"
    "<|im_end|>\n{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# The system message stands in the last question; the order of roles is checked.
MISTRAL = (
    "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}"
    "{% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}"
    "{{ bos_token }}{% for m in loop_messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{% if tools %}[AVAILABLE_TOOLS]{{ tools }}{% endif %}"
    "{{ '[INST] ' }}{% if loop.last and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)

LLAMA3 = (
    "{% set loop_messages = messages %}{% for m in loop_messages %}"
    "{% set content = '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
    "m['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
    "{{ content }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)

# Control tokens are put together from roles, and are no special tokens.
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + '\n' + m['content'] + '<|e' + 'nd|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|' + 'assistant' + '|>\n' }}"
    "{% else %}{{ eos_token }}{% endif %}"
)

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

# Roles are plain text, and the end of text ends each turn.
ZEPHYR = (
    "{% for m in messages %}\n{% if m['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + m['content'] + eos_token }}\n{% elif m['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + m['content'] + eos_token }}\n{% elif m['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + m['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
    "{% endfor %}"
)

# The next turn is all that ends a reply, whose line break the model writes itself.
GLM4 = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

# The same where the generation prompt is written always.
ALWAYS = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{% endfor %}"
    "<|assistant|>\n"
)

GRANITE = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set loop_messages = messages[1:] %}{% else %}"
    "{% set system = \"Today's Date: \" + strftime_now('%B %d, %Y') + '.\nYou are Granite.' %}"
    "{% if tools and documents %}{% set system = system + ' Use the tools.' %}{% endif %}"
    "{% if thinking %}{% set system = system + ' Write your thoughts.' %}{% endif %}"
    "{% set loop_messages = messages %}{% endif %}"
    "{{ '<|start_of_role|>system<|end_of_role|>' + system + '<|end_of_text|>\n' }}"
    "{% for m in loop_messages %}"
    "{{ '<|start_of_role|>' + m['role'] + '<|end_of_role|>' + m['content'] + '<|end_of_text|>\n' }}"
    "{% if loop.last and add_generation_prompt %}"
    "{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}{% endfor %}"
)

# Tags for masks of targets, which write nothing.
GENERATION = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n"
    "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

PIECES = (
    "{% for m in messages %}{{ '<|im' + '_start|>' + m.role + '\n' + m.content }}"
    "{{ ['<|im', '_end|>'] | join }}\n{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im' ~ '_start|>assistant\n' }}{% endif %}"
)

# The generation prompt has an empty thought, which no reply has later.
CLOSED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)

# A line break of the generation prompt stands before no reply.
BREAK = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

_ML = ("<|im_start|>", "<|im_end|>")
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>")

FAMILIES = {
    "qwen": Family(QWEN, _ML, ("<tool_response>", "</tool_response>"), "<|im_end|>"),
    "mistral": Family(MISTRAL, ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]"), (), "</s>"),
    "llama3": Family(
        LLAMA3, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), (), "<|eot_id|>"
    ),
    "phi3": Family(PHI3, (), (*_ROLES, "<|end|>"), "<|end|>"),
    "gemma": Family(GEMMA, ("<start_of_turn>", "<end_of_turn>"), ("<table>",), "<end_of_turn>"),
    "zephyr": Family(ZEPHYR, (), (), "</s>"),
    "glm4": Family(GLM4, ("[gMASK]", "<sop>", *_ROLES), (), "<|user|>"),
    "always": Family(ALWAYS, ("[gMASK]", "<sop>", *_ROLES), (), "<|user|>"),
    "granite": Family(
        GRANITE, ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"), (), "<|end_of_text|>"
    ),
    "generation": Family(GENERATION, _ML, (), "<|im_end|>"),
    "pieces": Family(PIECES, (), _ML, "<|im_end|>"),
    "closed": Family(CLOSED, _ML, ("<think>", "</think>"), "<|im_end|>"),
    "break": Family(BREAK, _ROLES, (), "</s>"),
}
