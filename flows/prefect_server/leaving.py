"""Ends the process although Prefect still waits for a server that is gone."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import NoReturn

from flows.prefect_server.server import answers

_PATIENCE_SECONDS = 5.0
_POLL_SECONDS = 1.0


def leave(code: int) -> NoReturn:
    """Ends the process with this exit code, in good order if that can be.

    At its end Prefect sends what it has yet to tell its server, and tries each item for seconds:
    with a server that is gone that takes minutes. All rows and files are written by then.
    """
    if "prefect" in sys.modules and "PREFECT_API_URL" in os.environ:
        threading.Thread(target=_leave_without_server, args=[code], daemon=True).start()
    sys.exit(code)


def _leave_without_server(code: int) -> None:
    url = os.environ["PREFECT_API_URL"]
    answered = time.monotonic()
    while time.monotonic() - answered < _PATIENCE_SECONDS:
        time.sleep(_POLL_SECONDS)
        if answers(url):
            answered = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
