"""Scores given texts in batches: the log-probabilities of their last tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seal_core.generation.lora_bank import LoraBank
from seal_core.generation.prefill import length_chunks, pad_left, positions_of
from seal_core.models.loading import LoadedModel


@torch.inference_mode()
def text_logprobs(
    loaded: LoadedModel, bank: LoraBank, texts: Sequence[tuple[list[int], int]]
) -> list[float]:
    """Sums of the log-probabilities of each text's last `n` tokens, nats.

    Args:
        bank: Holds the texts' adapters already.
        texts: Ids of a whole text, and `n`.
    """
    if not texts:
        return []
    sums = torch.empty(len(texts), dtype=torch.float64, device=loaded.device)
    chunks = length_chunks([len(text) for text, _ in texts], loaded.device)
    for chunk in map(bank.order, chunks):
        bank.point(chunk)
        rows = torch.tensor(chunk, device=sums.device)
        sums[rows] = _chunk_logprobs(loaded, [texts[row] for row in chunk])
    return sums.tolist()


def _chunk_logprobs(loaded: LoadedModel, texts: Sequence[tuple[list[int], int]]) -> torch.Tensor:
    ids, mask = pad_left([text for text, _ in texts], loaded)
    longest = max(n for _, n in texts)
    output = loaded.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_of(mask),
        use_cache=False,
        logits_to_keep=longest + 1,
    )
    # Counted from the end, for models that give all places whatever they are asked for.
    logits = output.logits[:, -longest - 1 : -1]
    logits = logits if logits.dtype == torch.float64 else logits.float()
    targets = ids[:, -longest:]
    picked = logits.gather(2, targets[:, :, None])[:, :, 0] - logits.logsumexp(dim=-1)
    counts = torch.tensor([n for _, n in texts], device=ids.device)
    place = torch.arange(longest, 0, -1, device=ids.device)
    return picked.masked_fill(place > counts[:, None], 0.0).double().sum(dim=1)
