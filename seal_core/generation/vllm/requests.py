"""Writes requests as vLLM's completion API takes them, and reads its answers.

Texts become token ids and ids become texts here, with the model's own tokenizer, so that they
are the same as in the engines of this package.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any

from seal_core.engines import (
    PLAIN_CHAT,
    ChatSettings,
    GenerateRequest,
    Generation,
    Scored,
    ScoreRequest,
)
from seal_core.errors import InputError
from seal_core.generation.requests import check_request, failed_generation
from seal_core.generation.stopping import StopFinder
from seal_core.models.text.tokenizers import load_codec, saved_end_tokens, vocabulary_size
from seal_core.models.text.tokens import encode_completion, encode_prompt

_FINISHED = ("stop", "length")
_MINUS_INFINITY = -9999.0
"""What vLLM writes for a log-probability of minus infinity."""


class BadAnswer(Exception):
    """A server's answer that is none: it broke off, or is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Written:
    """A request as a server takes it, but for the model's name.

    Attributes:
        body: Its JSON; `prompt` holds token ids.
        n_scored: Tokens at the prompt's end whose log-probabilities are asked for.
    """

    body: dict[str, Any]
    n_scored: int = 0


class Texts:
    """A served model's tokenizer and end tokens; may be used by several threads.

    Raises:
        InputError: The tokenizer cannot be loaded.
    """

    def __init__(self, model_path: str, chat: ChatSettings = PLAIN_CHAT) -> None:
        self._codec = load_codec(model_path, chat=chat)
        _, self._stop_ids = saved_end_tokens(self._codec.tokenizer, model_path)
        self._n_tokens = vocabulary_size(model_path)
        self._finder = StopFinder(self._codec.tokenizer)
        self._lock = threading.Lock()  # a fast tokenizer serves one thread at a time

    def completion(self, request: GenerateRequest, context: int) -> Written:
        """Writes a request.

        Args:
            context: Longest sequence that the server takes, in tokens.

        Raises:
            InputError: The request is impossible.
        """
        check_request(request)
        with self._lock:
            prompt = encode_prompt(self._codec, request.prompt, request.chat)
            ends = self._codec.ends(self._stop_ids, request.chat)
        self._codec.check_known(prompt, self._n_tokens)
        if len(prompt) >= context:
            raise InputError(
                f"the prompt has {len(prompt)} tokens and the model's context is {context}"
            )
        body = {
            **_PLAIN_SAMPLING,
            "prompt": prompt,
            "max_tokens": min(request.max_tokens, context - len(prompt)),
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            "stop": list(request.stop),
            "stop_token_ids": list(ends),
            "logprobs": 0,
            "return_token_ids": True,
        }
        return Written(body)

    def generation(self, request: GenerateRequest, written: Written, answer: Any) -> Generation:
        """The result of a request from the server's answer.

        Raises:
            BadAnswer: The answer is not whole.
        """
        choice = _choice(answer)
        try:
            ids = list(choice["token_ids"])
            logprobs = [float(value) for value in choice["logprobs"]["token_logprobs"]]
        except (KeyError, TypeError, ValueError) as error:
            raise BadAnswer(f"no token ids and log-probabilities: {error!r}") from error
        if len(ids) != len(logprobs) or not ids:
            raise BadAnswer(f"{len(ids)} tokens with {len(logprobs)} log-probabilities")
        if not _all_finite(logprobs):
            return failed_generation(request, "the model's answer is not finite")
        try:
            with self._lock:
                text = self._codec.answer_text(
                    request.prompt,
                    request.chat,
                    ids,
                    written.body["stop_token_ids"],
                    self._finder.decode,
                )
        except InputError as error:
            return failed_generation(request, str(error))
        return Generation(
            request_id=request.request_id,
            text=self._finder.cut(text, request.stop),
            n_prompt_tokens=len(written.body["prompt"]),
            n_tokens=len(ids),
            logprob=sum(logprobs),
            finish_reason=choice["finish_reason"],
        )

    def scoring(self, request: ScoreRequest, context: int) -> Written:
        """Writes a request whose completion is a part of the prompt.

        Raises:
            InputError: The text is empty, or too long.
        """
        with self._lock:
            prompt = encode_prompt(self._codec, request.prompt, request.chat)
            completion = encode_completion(self._codec, request.completion)
        if not completion:
            raise InputError("the completion has no tokens")
        ids = [*prompt, *completion]
        self._codec.check_known(ids, self._n_tokens)
        # The server always generates a token more.
        if len(ids) >= context:
            raise InputError(f"the text has {len(ids)} tokens and the server scores {context - 1}")
        body = {**_PLAIN_SAMPLING, "prompt": ids, "max_tokens": 1, "temperature": 0.0}
        return Written({**body, "prompt_logprobs": 0}, len(completion))

    def scored(self, request: ScoreRequest, written: Written, answer: Any) -> Scored:
        """The result of a request from the server's answer.

        Raises:
            BadAnswer: The answer is not whole.
        """
        n_tokens = written.n_scored
        ids = written.body["prompt"][-n_tokens:]
        try:
            entries = _choice(answer)["prompt_logprobs"][-n_tokens:]
            pairs = zip(entries, ids, strict=True)
            logprobs = [float(entry[str(token)]["logprob"]) for entry, token in pairs]
        except (KeyError, TypeError, ValueError) as error:
            raise BadAnswer(f"no log-probabilities of the prompt: {error!r}") from error
        if not _all_finite(logprobs):
            return Scored(request.request_id, None, n_tokens, "the log-probability is not finite")
        return Scored(request.request_id, sum(logprobs), n_tokens)


_PLAIN_SAMPLING: dict[str, Any] = {
    # Said outright: a server's defaults may come from the model's generation_config.json.
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


def _choice(answer: Any) -> dict[str, Any]:
    try:
        choice = answer["choices"][0]
        reason = choice["finish_reason"]
    except (KeyError, IndexError, TypeError) as error:
        raise BadAnswer(f"no completion: {str(answer)[:200]}") from error
    if reason not in _FINISHED:
        raise BadAnswer(f"the completion broke off: {reason}")
    return choice


def _all_finite(logprobs: list[float]) -> bool:
    return all(math.isfinite(value) and value > _MINUS_INFINITY for value in logprobs)
