"""Finds the one folder that all engines load a model from: the user's, or a snapshot of the hub."""

from __future__ import annotations

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants

from seal_core.config import EMBEDDED
from seal_core.errors import InputError, in_one_line
from seal_core.minilm import weights_path
from seal_core.models.files.model_files import (
    TEMPLATES,
    UNREAD,
    WEIGHTS,
    check_config,
    check_model_folder,
    weight_files,
    weight_names,
)
from seal_core.places import user_path

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_SECONDS = 10.0


def find_model(path: str, revision: str | None = None) -> str:
    """The absolute path of a model's folder, which passes `check_model_folder`.

    A hub id is resolved here and nowhere else, so that what is digested is what is loaded, by every
    engine. The local cache comes first: a run stays with the commit that it was begun with.

    Args:
        path: `minilm`; or a folder, which nobody can take for an option or for a user's home in
            what is returned; or a hub id, which is fetched if the cache does not hold it.
        revision: Branch, tag or commit of a hub id; None for `main`.

    Raises:
        InputError: There is no such model, or it cannot be used; with the fix.
    """
    if not path:
        raise InputError("the model has no name: give minilm, a folder or a hub id as model.path")
    folder = weights_path() if path == EMBEDDED else user_path(path)
    if folder.is_dir() or folder.suffix == ".gguf":
        if revision is not None:
            raise InputError(f"{path} is a folder, which has no model.revision: leave that out")
        found = folder.absolute() if folder.is_dir() else path
    elif folder.exists() or not _HUB_ID.fullmatch(path):
        raise InputError(
            f"{path} is no model folder and no hub id (NAME or ORGANISATION/NAME): check the path"
        )
    else:
        wanted = revision or constants.DEFAULT_REVISION
        found = _cached(path, wanted) or _fetch(path, wanted)
    check_model_folder(str(found))
    return str(found)


def _cached(path: str, revision: str) -> Path | None:
    """The snapshot in the local cache, if it is whole as far as that is known."""
    try:
        snapshot = _download(path, revision, local=True)
    except (OSError, ValueError):
        return None
    weights = weight_files(snapshot)
    is_whole = all(file.is_file() for file in (snapshot / "config.json", *weights))
    return snapshot if weights and is_whole else None


def _fetch(path: str, revision: str) -> Path:
    try:
        # Unlike what comes after it, this fails at the first error of the network.
        huggingface_hub.HfApi().model_info(path, revision=revision, timeout=_SECONDS)
        return _download(path, revision, local=False)
    except InputError:
        raise
    except Exception as error:  # Of several libraries, which differ between versions.
        raise InputError(
            f"there is no folder {path}, and the hub model {path} at {revision} is neither whole "
            f"in the local cache {constants.HF_HUB_CACHE} nor can it be fetched "
            f"({in_one_line(error)}): check the path, or run `hf download {path} "
            f"--revision {revision}` where the hub can be reached"
        ) from error


def _download(path: str, revision: str, local: bool) -> Path:
    """The snapshot of a revision, with the files that are read and no others.

    Raises:
        InputError: The config is of a model that cannot be used, whose weights are left out.
    """
    snapshot = Path(
        huggingface_hub.snapshot_download(
            path,
            revision=revision,
            ignore_patterns=[*UNREAD, "*/*", "*.safetensors"],
            local_files_only=local,
        )
    )
    if (snapshot / "config.json").is_file():
        check_config(snapshot, path)
    patterns = [WEIGHTS, TEMPLATES]
    while patterns:
        huggingface_hub.snapshot_download(
            path, revision=snapshot.name, allow_patterns=patterns, local_files_only=local
        )
        # Of shards, only those are read that stand for whole weights.
        patterns = [name for name in weight_names(snapshot) if name not in patterns]
    return snapshot
