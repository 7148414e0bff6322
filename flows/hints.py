"""Commands that messages suggest, as the user would have to type them."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence

_OF_RUNS = "run|plan|estimate|report|results|status|compare|sql|show|ask|export"
_OF_STORES = "compact|verify|import|policy"
_COMMAND = re.compile(rf"`(seal (?:{_OF_RUNS}|{_OF_STORES})(?: [^`]*)?)`")


def complete(message: str, arguments: Sequence[str] | None = None) -> str:
    """A message whose suggested commands name the store that the user's own command names.

    Args:
        arguments: Of the command line; None for this process's.
    """
    store = _named_store(sys.argv[1:] if arguments is None else arguments)
    if store is None:
        return message

    def with_store(found: re.Match[str]) -> str:
        text = found[1]
        return f"`{text}`" if "--store" in text else f"`{text} --store {shlex.quote(store)}`"

    return _COMMAND.sub(with_store, message)


def _named_store(arguments: Sequence[str]) -> str | None:
    """The store that `--store` names; one of a variable is found by the next command too."""
    for i, argument in enumerate(arguments):
        if argument == "--store":
            return arguments[i + 1] if i + 1 < len(arguments) else None
        if argument.startswith("--store="):
            return argument.removeprefix("--store=")
    return None
