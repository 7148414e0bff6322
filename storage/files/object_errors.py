"""Turns what s3fs and botocore raise into one line that says what, and what to do next.

The libraries' own messages are not passed on: they name the endpoint, which may be private.
"""

from __future__ import annotations

import errno

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)

from seal_core.errors import InputError, SealError, StoreConnectionError, StoreError, what_next
from storage.files.roots import cache_root

FAILURES = (OSError, ValueError, BotoCoreError, ClientError)
"""What an operation of s3fs may raise for a reason outside of this program."""

_VARIABLES = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN"
_KEYS = {
    "AuthFailure", "ExpiredToken", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidToken",
    "SignatureDoesNotMatch", "TokenRefreshRequired",
}  # fmt: skip
_REGION = {
    "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException",
    "PermanentRedirect",
}  # fmt: skip
_DENIED = {"403", "AccessDenied", "AllAccessDisabled", "Forbidden"}
_OF_THIS_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS}
_MISSING = {"404", "NoSuchKey"}
REFUSED = {"412", "PreconditionFailed", "NoSuchKey"}
"""The condition of a write does not hold."""
CONFLICT = {"409", "ConditionalRequestConflict"}
"""Another conditional write of the same object was going on: try again."""


def error_code(error: BaseException) -> str | None:
    """S3's error code, if the server answered with one; HEAD requests have the status only."""
    answer = _answer(error)
    return None if answer is None else str(answer.response.get("Error", {}).get("Code", ""))


def explain(error: BaseException, root: str) -> SealError | FileNotFoundError:
    """The exception to raise instead.

    Returns:
        FileNotFoundError for a missing object, InputError for what the user can mend,
        StoreConnectionError for a server that does not answer or answers with a fault of its own.
    """
    code, answer = error_code(error), _answer(error)
    if isinstance(error, OSError) and code is None and error.errno in _OF_THIS_MACHINE:
        return StoreError(f"{cache_root()}: {error.strerror}{what_next(error)}")
    if code in _MISSING or (code is None and isinstance(error, FileNotFoundError)):
        return FileNotFoundError(f"{root}: no such object")
    if answer is None:
        return _without_answer(error, root)
    operation = answer.operation_name
    if code == "NoSuchBucket":
        return InputError(f"store {root}: there is no such bucket: create it, or correct the URL")
    if code in _KEYS:
        return InputError(f"store {root}: the credentials are refused ({code}): check {_VARIABLES}")
    if code in _REGION:
        return InputError(f"store {root}: the bucket is in another region: set AWS_DEFAULT_REGION")
    if code in _DENIED:
        return InputError(
            f"store {root}: the credentials do not allow {operation}: a run needs to list, "
            "read, write and delete there; reading commands need to list and read"
        )
    return StoreConnectionError(f"store {root}: the server refused {operation} ({code})")


def _without_answer(error: BaseException, root: str) -> SealError:
    kind = type(error).__name__
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return InputError(
            f"store {root}: there are no credentials: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if isinstance(error, ProfileNotFound):
        return InputError(f"store {root}: AWS_PROFILE names a profile that does not exist")
    if isinstance(error, ValueError) and "endpoint" in str(error):
        return InputError(f"store {root}: AWS_ENDPOINT_URL is not a URL such as http://host:9000")
    return StoreConnectionError(
        f"store {root}: the endpoint does not answer ({kind}): check AWS_ENDPOINT_URL and the "
        "network, then give the same command again"
    )


def _answer(error: BaseException) -> ClientError | None:
    items = (error, error.__cause__)
    return next((item for item in items if isinstance(item, ClientError)), None)
