"""Where the `seal` command starts: ctrl-C ends it in good order while it is still being read."""

from __future__ import annotations

import sys


def main() -> None:
    """See `flows.cli.main`."""
    try:
        # Reading it takes a fifth of a second, in which users do press ctrl-C.
        from flows.cli import main as run  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(130)
    run()
