"""Turns requests into token rows and finished rows into results, for every local Generator."""

from __future__ import annotations

import math

from seal_core.engines import GenerateRequest, Generation, Scored, ScoreRequest
from seal_core.errors import InputError
from seal_core.generation.decoding import DecodeRow
from seal_core.generation.requests import check_request, failed_generation
from seal_core.generation.stopping import StopFinder
from seal_core.models.loading import LoadedModel, check_known
from seal_core.models.text.tokens import encode_completion, encode_prompt


def decode_row(loaded: LoadedModel, index: int, request: GenerateRequest) -> DecodeRow:
    """The request's tokens, ready to be continued.

    Raises:
        InputError: Its settings or its prompt cannot be answered.
    """
    check_request(request)
    prompt = encode_prompt(loaded.codec, request.prompt, request.chat)
    check_known(loaded, prompt)
    context = loaded.context
    if context is not None and len(prompt) >= context:
        raise InputError(
            f"the prompt has {len(prompt)} tokens and the model's context is {context}"
        )
    room = request.max_tokens if context is None else context - len(prompt)
    ends = loaded.codec.ends(loaded.stop_ids, request.chat)
    return DecodeRow(index, request, prompt, min(request.max_tokens, room), ends)


def generation(loaded: LoadedModel, row: DecodeRow, finder: StopFinder) -> Generation:
    """The result of a row that has ended."""
    request = row.request
    if not math.isfinite(row.logprob):
        error = "the model's answer is not finite: the adapter holds NaN or inf"
        return failed_generation(request, error)
    try:
        text = loaded.codec.answer_text(
            request.prompt, request.chat, row.ids, row.ends, finder.decode
        )
    except InputError as error:
        return failed_generation(request, str(error))
    return Generation(
        request_id=request.request_id,
        text=finder.cut(text, request.stop),
        n_prompt_tokens=len(row.prompt),
        n_tokens=len(row.ids),
        logprob=row.logprob,
        finish_reason=row.finish_reason,
    )


def score_text(loaded: LoadedModel, request: ScoreRequest) -> tuple[list[int], int]:
    """All ids of the text, and how many of them, at its end, are scored.

    Raises:
        InputError: There is nothing to score, or more than the model can read.
    """
    prompt = encode_prompt(loaded.codec, request.prompt, request.chat)
    completion = encode_completion(loaded.codec, request.completion)
    if not completion:
        raise InputError("the completion has no tokens")
    check_known(loaded, [*prompt, *completion])
    length, context = len(prompt) + len(completion), loaded.context
    if context is not None and length > context:
        raise InputError(f"the text has {length} tokens and the model's context is {context}")
    return prompt + completion, len(completion)


def scored(request_id: str, logprob: float, n_tokens: int) -> Scored:
    """The result of a completion whose tokens were scored."""
    if not math.isfinite(logprob):
        return Scored(request_id, None, n_tokens, "the log-probability is not finite")
    return Scored(request_id, logprob, n_tokens)
