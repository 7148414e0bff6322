"""A signal ends the work once, whatever comes after it and however blocks are nested."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.opening.signals import ended_once

ROOT = Path(__file__).parents[3]
PROGRAM = """
import os, signal, sys
from tasks.opening.signals import ended_once

number, seen = int(sys.argv[1]), []

def handler(number, frame):
    seen.append(number)
    raise KeyboardInterrupt

def send():
    for other in (number, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), other)

signal.signal(number, handler)
try:
    with ended_once():
        outer = signal.getsignal(number)
        try:
            with ended_once(inside=True):
                try:
                    send()
                finally:
                    send()
        finally:
            send()
            signal.signal(number, outer)  # As Prefect does at the end of a flow.
            send()
finally:
    send()
    print(len(seen))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_only_the_first_signal_is_heard(number: signal.Signals) -> None:
    command = [sys.executable, "-c", PROGRAM, str(int(number))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout == "1\n", done.stderr
    assert done.stderr.count("KeyboardInterrupt") == 1


def test_a_workers_flow_run_keeps_prefects_handler() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ended_once(inside=True):
        assert signal.getsignal(signal.SIGTERM) is before
    with ended_once():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
