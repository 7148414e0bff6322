"""The error model and its small hierarchy.

Three things can go wrong, and each has one place to go:

1. The user asked for something impossible (a missing file, K = 0, a used run name). That is
   an `InputError`: raised before work starts, shown as one line, exit code 2, nothing written.
2. One unit of work failed (a self-edit that could not be sampled, an adapter whose loss became
   NaN, a question the engine could not answer). That is data: the unit's row carries `error` and no
   verdict. It is never scored as a wrong answer.
3. The machinery failed (a dead engine, a full disk, too many failed units). That is a
   `StageError`, an `EngineError` or a `StoreConnectionError`: the shard is retried, then the run
   stops; what is done stays done, and the same command resumes.

Messages say what, which id, and what to do next.
"""

from __future__ import annotations

import errno

_LONGEST = 400


class SealError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(SealError):
    """Wrong input by the user; the message names the thing and the fix."""


class Busy(InputError):
    """Another process has what the user asked for."""


class EngineError(SealError):
    """A generator or trainer died, hung, or could not start; retried, never scored."""


class StageError(SealError):
    """A stage could not finish, for example because too many of its units failed."""


class Ended(SystemExit):
    """The process was told to end, by a signal; no fault of what it was doing."""


class StoreError(SealError):
    """A stored part or adapter is missing or damaged."""


class StoreConnectionError(SealError):
    """Object storage does not answer, which says nothing of what is in it."""


def in_one_line(error: BaseException) -> str:
    """A library's words without their line ends, and not more than fits a screen."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def what_next(error: BaseException) -> str:
    """What to do about an error of the operating system, as the end of a message; or nothing."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "; finished shards are kept: free some space, then go on with the same command"
    return ""
