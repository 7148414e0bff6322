"""Prefect of the tests: quiet, without analytics, its state in a folder that goes away.

Caches go there too, and an S3 server runs for the tests that ask for one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest

from tests.s3_server import S3Server, s3_server

_home = tempfile.mkdtemp(prefix="seal-test-prefect-")
atexit.register(shutil.rmtree, _home, ignore_errors=True)
for _name in ("PREFECT_API_URL", "PREFECT_PROFILE", "SEAL_STORE"):
    os.environ.pop(_name, None)
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    os.environ.pop(_name)
os.environ |= {
    "PREFECT_HOME": _home,
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "SEAL_CACHE": f"{_home}/cache",
    "TOKENIZERS_PARALLELISM": "false",
}
if "PYTEST_XDIST_WORKER" in os.environ:
    # Two pools of threads on the same cores wait for each other at every product.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# In the background a shell has it ignored, and so would every command that a test sends it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3Server]:
    """One S3 server for all tests."""
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(s3_process: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, to which the environment points."""
    for name, value in s3_process.environment.items():
        monkeypatch.setenv(name, value)
    return s3_process


@pytest.fixture
def s3_root(s3: S3Server) -> str:
    """URL below which a new store may be made."""
    return f"s3://{s3.new_bucket()}/team/store"
