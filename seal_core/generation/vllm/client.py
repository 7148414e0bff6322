"""Sends one server's requests over HTTP, and tells a bad request from a bad server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses between the attempts at a request that a server did not answer."""
_TRANSIENT = frozenset((408, 425, 429))
_KEY_REFUSED = frozenset((401, 403))
_CONNECT_SECONDS = 10.0
_HANGS = 2
"""Attempts that may each wait for the whole time-out: a server that hangs must be found out."""
_CONNECTIONS = 512
_IDLE_SECONDS = 2.0
"""Well below the 5 s after which the server closes an idle connection."""


class RequestRefused(Exception):
    """The server works, but not for this request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ServerGone(Exception):
    """The server died, hangs, or cannot be reached; nothing is known about the request."""


class VllmClient:
    """Asynchronous HTTP with retries.

    Args:
        timeout: Seconds for one attempt.
        running: Says whether the server can still answer at all; without it a retry is vain.
        is_local: The server is on this machine: no proxy of the environment may see the key.
    """

    def __init__(
        self,
        url: str,
        key: str,
        timeout: float,
        running: Callable[[], bool] = lambda: True,
        is_local: bool = False,
    ) -> None:
        self.url = url
        self._running = running
        self._http = httpx.AsyncClient(
            base_url=url,
            trust_env=not is_local,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS), pool=None),
            limits=httpx.Limits(
                max_connections=_CONNECTIONS,
                max_keepalive_connections=_CONNECTIONS,
                keepalive_expiry=_IDLE_SECONDS,
            ),
        )

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to one request: JSON, or text where it is none.

        Raises:
            RequestRefused: The request is at fault: a 4xx, or a 500 that stays on a healthy
                server.
            ServerGone: All attempts failed.
        """
        return await self._send("POST", path, body)

    async def get(self, path: str) -> Any:
        """As `post`."""
        return await self._send("GET", path, None)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        status, reason, hangs = 0, "", 0
        for pause in (*RETRY_SECONDS, None):
            try:
                response = await self._http.request(method, path, json=body)
            except (httpx.TransportError, httpx.DecodingError) as error:
                status, reason = 0, f"{type(error).__name__} {error}".strip()
                hangs += isinstance(error, httpx.ReadTimeout)
            else:
                status = response.status_code
                content = _content(response) if response.is_success else None
                if content is not None:
                    return content
                reason = f"HTTP {status}: {_message(response)}"
                if status in _KEY_REFUSED:
                    raise ServerGone(f"{self.url}{path}: {reason}")
                if 400 <= status < 500 and status not in _TRANSIENT:
                    raise RequestRefused(status, reason)
            if pause is None or hangs == _HANGS or not self._running():
                break
            await asyncio.sleep(pause)
        if status == httpx.codes.INTERNAL_SERVER_ERROR and await self._healthy():
            raise RequestRefused(status, reason)
        raise ServerGone(f"{self.url}{path}: {reason}")

    async def _healthy(self) -> bool:
        try:
            return (await self._http.get("/health")).is_success
        except httpx.TransportError:
            return False


def _content(response: httpx.Response) -> Any:
    """The answer's content; None if it is cut off."""
    if response.headers.get("content-type", "").startswith("application/json"):
        try:
            return response.json()
        except ValueError:
            return None
    return response.text


def _message(response: httpx.Response) -> str:
    """The server's own words, which vLLM puts into an `error` object."""
    try:
        error = response.json()["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return response.text[:500]
