"""Asks running vLLM servers, before any work, whether they can serve a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx

from seal_core.errors import InputError
from seal_core.generation.vllm.options import KEY_VARIABLE, VllmOptions, find_vllm, served_rank

_SECONDS = 10.0


def check_vllm(options: VllmOptions) -> None:
    """Checks that vLLM is there: its interpreter, or each of the running servers.

    Raises:
        InputError: naming what is missing, and the fix.
    """
    served_rank(options.max_rank)
    if not options.servers:
        find_vllm(options.python)
    for url in options.servers:
        check_server(url.rstrip("/"), (options.model_name, options.model_path))


def check_server(url: str, models: tuple[str, ...] = ()) -> str:
    """Checks one running server.

    Args:
        models: Names under which it may serve the model; none for any model.

    Returns:
        The name of the model that it serves.

    Raises:
        InputError: It cannot be reached, serves another model, or loads no adapters.
    """
    key = os.environ.get(KEY_VARIABLE, "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=_SECONDS) as http:
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


def _base_card(url: str, answer: httpx.Response) -> dict[str, Any]:
    try:
        answer.raise_for_status()
        return next(card for card in answer.json()["data"] if not card.get("parent"))
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise InputError(f"{url}/v1/models does not answer as a vLLM server: {error!r}") from error


def _names(names: set[str]) -> set[str]:
    """Each name, and its last part: the same model lies in other folders elsewhere."""
    return names | {Path(name).name for name in names}
