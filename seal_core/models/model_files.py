"""Checks and digests a model's files without importing torch.

The digest is the model's part of every stage's identity, so it covers what changes answers
(weights, config, tokenizer) and nothing else (a README, the folder's place on the disk).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from seal_core.errors import InputError
from seal_core.fingerprint import digest
from seal_core.models.reading import json_object
from seal_core.places import user_path

_TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"),
    *("sentencepiece.bpe.model", "spm.model", "source.spm", "dict.txt", "bpe.codes", "tekken.json"),
)
_SMALL_JSON = (
    *("generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "chat_template.json"),
)
"""Files that the library skips without a word, or trips over, where they are no JSON object."""
_IDENTITY_FILES = frozenset(
    (
        *_TOKENIZER_FILES,
        "config.json",
        "generation_config.json",
        "model.safetensors.index.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "merges.txt",
        "chat_template.jinja",
        "chat_template.json",
    )
)
_WEIGHTS_INDEX = "model.safetensors.index.json"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CHUNK = 1 << 22


def check_model_folder(path: str) -> None:
    """Checks cheaply that a model's files can be loaded, before anything expensive starts.

    Args:
        path: A local folder, or a hub id, about which nothing is known before it is loaded.

    Raises:
        InputError: The folder lacks its config, tokenizer or safetensors weights, or the weights
            are quantized; or the path is neither a folder nor shaped like a hub id.
    """
    folder = user_path(path)
    if folder.suffix == ".gguf" or (
        not (folder / "config.json").exists() and any(folder.glob("*.gguf"))
    ):
        raise InputError(
            f"{path} is a GGUF: make a model folder of it with `seal model convert {path} FOLDER`"
        )
    if not folder.is_dir():
        if folder.exists() or not is_hub_id(path):
            raise InputError(f"{path} is no model folder and no hub id: give one of the two")
        return
    has_config = (folder / "config.json").is_file()
    if (folder / "adapter_config.json").exists():
        if not has_config:
            raise InputError(
                f"{path} is an adapter without a model: merge it into its base with PEFT's "
                "merge_and_unload, save that with its tokenizer, and give the new folder"
            )
        raise InputError(
            f"model folder {path} has an adapter_config.json, whose adapter would be applied to "
            "the base without a word: merge it first, or move it elsewhere"
        )
    if not has_config:
        raise InputError(f"model folder {path} has no config.json: save the model there first")
    _check_config(folder, path)
    for name in _SMALL_JSON:
        if (folder / name).is_file():
            json_object(folder / name)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise InputError(
            f"model folder {path} has no tokenizer (for example tokenizer.json): "
            f"save it there with tokenizer.save_pretrained({path!r})"
        )
    _check_weights(folder, path)


def model_place(path: str) -> str:
    """A folder's absolute path, which nobody can take for an option or for a user's home; or the
    hub id as it is.

    Raises:
        InputError: the path is not UTF-8.
    """
    folder = user_path(path)
    return str(folder.absolute()) if folder.is_dir() else path


def refuse_quantized(config: Mapping[str, Any], path: str) -> None:
    """Passes if a model's config says nothing of quantized weights (GPTQ, AWQ, bitsandbytes, …).

    Raises:
        InputError: It does.
    """
    text = config.get("text_config")
    for part in (config, text if isinstance(text, Mapping) else {}):
        for key in ("quantization_config", "compression_config"):
            if found := part.get(key):
                method = found.get("quant_method") if isinstance(found, Mapping) else None
                raise InputError(
                    f"model {path} is quantized ({method or key}): LoRA on quantized weights is "
                    "not supported; use the full-precision checkpoint, or `seal model convert` "
                    "for a GGUF"
                )


def is_hub_id(path: str) -> bool:
    """Whether the text could name a model on the hub: `name` or `organisation/name`."""
    return _HUB_ID.fullmatch(path) is not None and not path.startswith(".")


def model_digest(
    path: str,
    revision: str | None = None,
    cache_path: Path | None = None,
    rehash: bool = False,
) -> str:
    """What the model's answers depend on, as one text that is stable between machines.

    Args:
        path: A local folder or a hub id.
        revision: Branch, tag or commit of a hub id; None for `main`.
        cache_path: JSON file that remembers file digests by path, size, times of modification and
            change, and inode, so that 15 GB of weights are hashed once; None to hash every time.
        rehash: Hash them whatever is remembered, and remember what is found.

    Returns:
        A SHA-256 over names and contents of the folder's weights, config and tokenizer, or the
        hub commit that the local cache holds.

    Raises:
        InputError: The model is incomplete, or a hub id is not in the local cache.
    """
    check_model_folder(path)
    folder = user_path(path)
    if not folder.is_dir():
        commit = _hub_commit(path, revision)
        snapshot = _hub_repo(path) / "snapshots" / commit
        if (snapshot / "config.json").is_file():
            _check_config(snapshot, path)
        return commit
    names = sorted(
        name
        for name in os.listdir(folder)
        if name in _IDENTITY_FILES or name.endswith(".safetensors")
    )
    known = _read_cache(cache_path)
    before = dict(known)
    if rehash:
        for name in names:
            known.pop(str((folder / name).resolve()), None)
    hashes = {name: _file_digest(folder / name, known) for name in names}
    if cache_path is not None and known != before:
        with suppress(OSError):  # It may be read-only: then the files are hashed the next time.
            _write_cache(cache_path, known)
    return digest(hashes)


def _check_config(folder: Path, path: str) -> None:
    refuse_quantized(json_object(folder / "config.json"), path)


def _check_weights(folder: Path, path: str) -> None:
    index = folder / _WEIGHTS_INDEX
    if index.is_file():
        plain = json_object(index)
        shards, about = plain.get("weight_map"), plain.get("metadata", None)
        names = list(shards.values()) if isinstance(shards, dict) else []
        if not names or not all(isinstance(name, str) for name in names) or about is None:
            raise InputError(
                f"{index} is not a weights index, which has metadata, and a weight_map that names "
                "the file of each tensor: copy it again"
            )
        if missing := sorted({name for name in names if not (folder / name).is_file()}):
            raise InputError(
                f"model folder {path} lacks the weights {', '.join(missing)}, which its "
                f"{_WEIGHTS_INDEX} names: copy them too"
            )
    elif not (folder / "model.safetensors").is_file():
        if found := sorted(folder.glob("*.safetensors")):
            raise InputError(
                f"model folder {path} has {found[0].name}, but neither a {_WEIGHTS_INDEX}, which "
                "says what is in which file, nor a model.safetensors: copy it too"
            )
        raise InputError(
            f"model folder {path} has no model.safetensors: only safetensors weights are "
            "loaded, since other formats can run code; convert them with save_pretrained"
        )


def weight_files(folder: Path) -> list[Path]:
    """The files of weights that the library loads from a folder, which may hold others beside them.

    Raises:
        InputError: Their index cannot be read.
    """
    if (whole := folder / "model.safetensors").is_file():
        return [whole]
    names = json_object(folder / _WEIGHTS_INDEX)["weight_map"].values()
    return sorted({folder / name for name in names})


def model_folder(path: str, revision: str | None = None) -> Path:
    """Where a model's files lie on this machine.

    Raises:
        InputError: A hub id is not in the local cache.
    """
    folder = user_path(path)
    if folder.is_dir():
        return folder
    return _hub_repo(path) / "snapshots" / _hub_commit(path, revision)


def _hub_repo(path: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"models--{path.replace('/', '--')}"


def _hub_commit(path: str, revision: str | None) -> str:
    repo = _hub_repo(path)
    wanted = revision or "main"
    ref = repo / "refs" / wanted
    commit = ref.read_text().strip() if ref.is_file() else wanted
    if _COMMIT.fullmatch(commit) and (repo / "snapshots" / commit).is_dir():
        return commit
    raise InputError(
        f"there is no folder {path}, and the hub model {path} at {wanted} is not in the local "
        f"cache {constants.HF_HUB_CACHE}: check the path, or run `hf download {path}`"
    )


def _file_digest(file: Path, known: dict[str, list[object]]) -> str:
    key = str(file.resolve())
    stamp = _stamp(file)
    entry = known.get(key)
    if isinstance(entry, list) and entry[:-1] == stamp:
        return str(entry[-1])
    hasher = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            hasher.update(chunk)
    if _stamp(file) == stamp:  # Else it was being written: hash it again the next time.
        known[key] = [*stamp, hasher.hexdigest()]
    return hasher.hexdigest()


def _stamp(file: Path) -> list[object]:
    """What differs when a file's contents may: copies can keep size and modification time."""
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read_cache(cache_path: Path | None) -> dict[str, list[object]]:
    if cache_path is None or not cache_path.is_file():
        return {}
    try:
        known = json.loads(cache_path.read_text())
    except ValueError:
        return {}  # A damaged cache costs one hashing, never a run.
    return known if isinstance(known, dict) else {}


def _write_cache(cache_path: Path, known: dict[str, list[object]]) -> None:
    cache_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache_path.with_name(f".{cache_path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(known, sort_keys=True))
    os.replace(temporary, cache_path)
