"""Makes a model's default config tiny, by what the names of its fields mean.

The rules know words such as "heads" or "window", and no model: a type that a new release of
transformers brings is shrunk by the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.zoo.vocabulary import BOS, EOS, PAD, SIZE

HIDDEN, HEADS, HEAD_DIM, INNER, POSITIONS, WINDOW, SHORT = 32, 4, 8, 48, 256, 8, 16

_Rule = tuple[re.Pattern[str], Callable[[int], int]]


def _rule(pattern: str, value: int | Callable[[int], int]) -> _Rule:
    return re.compile(pattern), value if callable(value) else lambda _: value


def _rules(kv_heads: int) -> list[_Rule]:
    """What becomes of an integer field; the first pattern found in the field's name counts."""
    return [
        _rule(r"(^|_)pad_token_id$|^pad_index$", PAD),
        _rule(r"(^|_)eos_token_id$|^eos_index$|^eod_token_id$", EOS),
        _rule(r"(^|_)(bos|start)_token_id$|^bos_index$", BOS),
        _rule(r"_token_(id|index)$|^unk_index$|^mask_index$", lambda v: min(v, SIZE - 1)),
        _rule(r"vocab|^codebook_size$|pronunciation_vocab|shape_vocab", SIZE),
        _rule(r"multiple_(of|size)", lambda v: min(v, 8)),
        _rule(
            r"max_.*position|n_positions|max_seq_len|^n_ctx|context_length|model_max_len", POSITIONS
        ),
        # Lengths that the product lets no row reach.
        _rule(r"^floor_scale$|^keep_window_size$", lambda v: min(v, POSITIONS)),
        _rule(
            r"(?<!max_)window(?!_layers)|attention_chunk_size|chunk_length|^local_attention$",
            WINDOW,
        ),
        _rule(r"chunk_?size|block_size|rel_extent|index_topk$", lambda v: min(v, WINDOW)),
        _rule(r"index_topk_blocks", lambda v: min(v, 2)),
        _rule(r"kv_shared_layers", lambda v: min(v, 2)),
        _rule(
            r"(period|interval|every_n|step|frequency|pattern)(_layers|_layer)?$",
            lambda v: min(v, 2),
        ),
        _rule(r"offset|first_k_dense|num_dense_layers|layer_start_index", lambda v: min(v, 1)),
        _rule(r"expert.*(period)", lambda v: min(v, 2)),
        _rule(r"per_tok(en)?$|top_?k$|moe_k$|topk_(?!group)", lambda v: min(v, 2)),
        _rule(r"topk_group", 1),
        _rule(r"shared_experts|num_mem_blocks|expert_group", lambda v: min(v, 1)),
        _rule(r"zero_expert", lambda v: min(v, 2)),
        _rule(r"(expert|moe|shared).*(intermediate|ffn|hidden)|(intermediate|ffn).*expert", INNER),
        _rule(r"experts$|expert_num$|zero_expert", lambda v: min(v, 4)),
        _rule(r"n_group$", lambda v: min(v, 2)),
        _rule(r"n_?groups$|o_groups", lambda v: min(v, 2)),
        _rule(r"rotary_dim", HEAD_DIM // 2),
        _rule(r"head_?(dim|size)$|d_head$|dim_head|kv_channels", HEAD_DIM),
        _rule(r"(kv|key_value).*heads|linear_num_key_heads", lambda v: min(v, kv_heads)),
        # A key that no head of an indexer likes scores 0, as do others: which of them is left
        # out hangs on the row's padding. With many heads there is no such key.
        _rule(r"^index.*_heads$", lambda v: min(v, 4 * HEADS)),
        _rule(r"heads?$|query_groups", lambda v: min(v, HEADS)),
        _rule(r"expand$", 1),
        _rule(r"d_state|state_size", lambda v: min(v, 8)),
        _rule(r"(step|dt)_rank", HEADS),
        _rule(r"rank|pre_attn_scalar|d_rel$", lambda v: min(v, HEAD_DIM)),
        _rule(r"kernel|conv|_cache$|hc_", lambda v: min(v, 4)),
        _rule(r"intermediate|ffn|dff|dim_ff|mlp_dim|feed_forward|n_inner", INNER),
        _rule(r"hidden_size|d_model|n_embd|emb.*dim|embed.*size|lru_width|d_inner|d_ssm", HIDDEN),
        _rule(r"seed|factor|theta|max_distance|suppress", lambda v: v),
    ]


@dataclass(frozen=True, slots=True)
class Shrinker:
    """Shrinks single values.

    Attributes:
        kv_heads: Heads of keys and values; fewer than `HEADS` for grouped queries.
    """

    kv_heads: int

    def value(self, name: str, value: Any) -> Any:
        """The value that a field of this name gets in the tiny config."""
        if isinstance(value, bool) or value is None:
            return True if name == "is_decoder" else value
        if isinstance(value, int):
            rules = _rules(self.kv_heads)
            known = (new(value) for pattern, new in rules if pattern.search(name))
            # What no rule names: new fields of new types, towers for pictures and sound.
            return next(known, value if value <= 2 * HIDDEN else HIDDEN)
        if isinstance(value, float) and name == "partial_rotary_factor":
            return max(value, 0.25)  # At least one pair of the tiny head turns.
        if isinstance(value, float) and re.search(r"logit.*multiplier", name):
            return 1.0  # It is made for large models; a tiny one's logits would be flat.
        if isinstance(value, Mapping) and name.startswith("rope"):
            return {key: self.rope(key, one) for key, one in value.items()}
        if isinstance(value, Mapping) and name.endswith("_rates"):
            return {key: min(one, 4) for key, one in value.items()}
        return value

    def size(self, name: str) -> int | None:
        """A number for a size that the default leaves empty; None for what no rule names."""
        rules = _rules(self.kv_heads)
        return next((new(1 << 20) for pattern, new in rules if pattern.search(name)), None)

    def rope(self, name: str, value: Any) -> Any:
        """The same inside a description of rotary positions, which may be one per layer kind."""
        if isinstance(value, Mapping):
            return {key: self.rope(key, one) for key, one in value.items()}
        if name == "original_max_position_embeddings":
            return SHORT  # The rows of the tests are longer.
        return self.value(name, value)
