"""Ends a deployed run's process when the worker that started it is gone.

Prefect's process worker leaves its children behind when it is killed: they would work on with
nobody to cancel them, while the next run finds the store's lock taken.
"""

from __future__ import annotations

import contextvars
import os
import signal
import threading
import time

from prefect.logging import get_run_logger

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 30.0


def watch_worker() -> None:
    """Starts the watch, if a worker started this process; call it inside the flow run.

    The flow gets SIGTERM, on which Prefect marks its run as Crashed, and is killed if it has not
    ended half a minute later. Engines end with their parent.
    """
    if "PREFECT__WORKER_NAME" in os.environ:
        context = contextvars.copy_context()
        arguments = (_watch, os.getppid())
        threading.Thread(target=context.run, args=arguments, name="worker", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    get_run_logger().error("the worker of this run is gone, so it ends; the next run goes on here")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
