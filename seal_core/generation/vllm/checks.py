"""Asks running vLLM servers, before any work, whether they can serve a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx

from seal_core.errors import InputError
from seal_core.generation.vllm.options import KEY_VARIABLE, VllmOptions, find_vllm, served_rank

_SECONDS = 10.0


def check_vllm(options: VllmOptions) -> str:
    """Checks that vLLM is there: its interpreter, or each of the running servers.

    Returns:
        Its version; several, if the servers differ.

    Raises:
        InputError: naming what is missing, and the fix.
    """
    served_rank(options.max_rank)
    if not options.servers:
        return find_vllm(options.python).build
    urls = [url.rstrip("/") for url in options.servers]
    for url in urls:
        check_server(url, (options.model_name, options.model_path))
    return ", ".join(sorted({server_version(url) for url in urls}))


def server_version(url: str) -> str:
    """The version of vLLM that a running server has; `unknown` if it does not say.

    Raises:
        InputError: it cannot be reached.
    """
    try:
        with _client(url) as http:
            answer = http.get("/version")
            return str(answer.raise_for_status().json()["version"])
    except httpx.TransportError as error:
        raise InputError(f"vLLM server {url} cannot be reached: {error}: start it") from error
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError):
        return "unknown"


def check_server(url: str, models: tuple[str, ...] = ()) -> str:
    """Checks one running server.

    Args:
        models: Names under which it may serve the model; none for any model.

    Returns:
        The name of the model that it serves.

    Raises:
        InputError: It cannot be reached, serves another model, or loads no adapters.
    """
    try:
        with _client(url) as http:
            answer = http.get("/v1/models")
            # Without a name nothing is loaded, but the server shows whether it could.
            loading = http.post("/v1/load_lora_adapter", json={})
    except httpx.TransportError as error:
        raise InputError(f"vLLM server {url} cannot be reached: {error}: start it") from error
    if answer.status_code in (401, 403):
        raise InputError(f"vLLM server {url} refuses the API key: set {KEY_VARIABLE} to its key")
    card = _base_card(url, answer)
    served = {card["id"], card.get("root") or card["id"]}
    wanted = {name for name in models if name}
    if wanted and not _names(served) & _names(wanted):
        raise InputError(
            f"vLLM server {url} serves {card['id']}, and model.path is {models[0]}: start it with "
            f"that model, or with --served-model-name {models[0]} if it is the same"
        )
    if loading.status_code in (404, 405):
        raise InputError(
            f"vLLM server {url} loads no adapters: start it with --enable-lora and "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
        )
    return card["id"]


def _client(url: str) -> httpx.Client:
    key = os.environ.get(KEY_VARIABLE, "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.Client(base_url=url, headers=headers, timeout=_SECONDS)


def _base_card(url: str, answer: httpx.Response) -> dict[str, Any]:
    try:
        answer.raise_for_status()
        return next(card for card in answer.json()["data"] if not card.get("parent"))
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise InputError(f"{url}/v1/models does not answer as a vLLM server: {error!r}") from error


def _names(names: set[str]) -> set[str]:
    """Each name, and its last part: the same model lies in other folders elsewhere."""
    return names | {Path(name).name for name in names}
