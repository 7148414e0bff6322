"""What a deployed run needs beyond one from the command line: a name by date, and an end.

Prefect's process worker leaves its children behind when it is killed: they would work on with
nobody to cancel them, while the next run finds the store's lock taken.
"""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import time
from pathlib import Path

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 30.0


def dated(name: str | None) -> str | None:
    """The name, with the day that the flow run is scheduled for (UTC) in place of `{date}`."""
    if name is None or "{date}" not in name:
        return name
    return name.replace("{date}", flow_run.scheduled_start_time.date().isoformat())


def watch_worker() -> None:
    """Ends this process when the worker that started it, if one did, is gone.

    Call it inside the flow run. The flow gets SIGTERM, on which Prefect marks its run as Crashed,
    and is killed if it has not ended half a minute later. Engines end with their parent.
    """
    if "PREFECT__WORKER_NAME" in os.environ:
        context = contextvars.copy_context()
        arguments = (_watch, os.getppid())
        threading.Thread(target=context.run, args=arguments, name="worker", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent and _may_be_worker(parent):
        time.sleep(_POLL_SECONDS)
    _drop_output()
    get_run_logger().error("the worker of this run is gone, so it ends; the next run goes on here")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _may_be_worker(pid: int) -> bool:
    """False for a reaper of orphans, which no Python process is, if the worker was gone before."""
    try:
        return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return True  # This system does not tell.


def _drop_output() -> None:
    """Output went to the worker; on a broken pipe, Prefect's console would exit in mid-sentence."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
