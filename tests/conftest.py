"""Prefect of the tests: quiet, without analytics, its state in a folder that goes away."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_home = tempfile.mkdtemp(prefix="seal-test-prefect-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
for _name in ("PREFECT_API_URL", "PREFECT_PROFILE", "SEAL_STORE"):
    os.environ.pop(_name, None)
os.environ |= {
    "PREFECT_HOME": _home,
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
