"""Settings that Prefect reads at import: where its state lives, and how much it says."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from storage.files.roots import local_state_root

_SERVERS = {"PREFECT_API_URL", "PREFECT_PROFILE"}
_PLACES = _SERVERS | {
    "PREFECT_HOME",
    "PREFECT_API_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
}


def prepare_prefect(store: str) -> Path:
    """Sets Prefect up for a run from the command line; environment variables of
    the user win.

    Without a server of the user's (`PREFECT_API_URL`), Prefect's database stands in the store's
    folder, or for a store in object storage in the cache folder of this machine. Has to run before
    Prefect is imported.

    Args:
        store: Folder or URL.

    Returns:
        The folder of Prefect's database.
    """
    home = local_state_root(store).resolve() / "_prefect"
    home.mkdir(parents=True, exist_ok=True)
    defaults = {
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_SERVER_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "CRITICAL",
        "PREFECT_CLIENT_MAX_RETRIES": "4",  # Half a minute: a server is started again by then.
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "DO_NOT_TRACK": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not _PLACES & os.environ.keys():
        # As an escaped URI: of a plain path, `?` would be the end, and `:memory:` no file at all.
        database = f"sqlite+aiosqlite:///file:{quote(str(home / 'prefect.db'))}?uri=true"
        defaults["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    if not _SERVERS & os.environ.keys():
        defaults["PREFECT_HOME"] = str(home)
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    return home
