"""Checks a model's folder without importing torch, and tells which of its files are read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from seal_core.config import EMBEDDED
from seal_core.errors import InputError
from seal_core.minilm import weights_path
from seal_core.models.files.reading import json_object
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
UNREAD = (
    *(".*", "*.md", "LICENSE*", "*.pdf", "*.png", "*.jpg", "*.py"),
    # Weights that are not loaded, since they can run code or are for other libraries.
    *("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.ot", "*.onnx", "*.gguf"),
)
"""Patterns of names in a model's folder that no library reads; any other file may be read."""
_REDIRECTS = {
    "config.json": (
        ("transformers_weights", "configuration_files"),
        "model.safetensors and config.json",
    ),
    "tokenizer_config.json": (
        ("fast_tokenizer_files", "gguf_file", "init_inputs", "vocab", "merges"),
        "tokenizer.json",
    ),
    "special_tokens_map.json": (
        ("tokenizer_file", "gguf_file", "vocab_file", "merges_file", "vocab", "merges"),
        "tokenizer.json",
    ),
}
"""Settings by which the library reads other files than usual, and the usual names."""
TEMPLATES = "additional_chat_templates/*.jinja"
WEIGHTS = "model.safetensors"
_WEIGHTS_INDEX = "model.safetensors.index.json"
_SNAPSHOT = re.compile(r".*/models--([^/]+)/snapshots/[^/]+")


def check_model_folder(path: str) -> None:
    """Checks cheaply that a model's files can be loaded, before anything expensive starts.

    Raises:
        InputError: The folder is none, or lacks its config, tokenizer or safetensors weights, or
            the weights are quantized, or a setting has the library read other files.
    """
    folder = user_path(path)
    if folder.suffix == ".gguf" or (
        not (folder / "config.json").exists() and any(folder.glob("*.gguf"))
    ):
        raise InputError(
            f"{path} is a GGUF: make a model folder of it with `seal model convert {path} FOLDER`"
        )
    if not folder.is_dir():
        raise InputError(f"{path} is no model folder: check the path")
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
    check_config(folder, path)
    for name in _SMALL_JSON:
        if (folder / name).is_file():
            json_object(folder / name)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise InputError(
            f"model folder {path} has no tokenizer (for example tokenizer.json): "
            f"save it there with tokenizer.save_pretrained({path!r})"
        )
    _check_weights(folder, path)


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


def model_name(path: str) -> str:
    """`minilm`, a folder's name or a cached snapshot's hub id, without any machine's path."""
    if Path(path) == weights_path():
        return EMBEDDED
    snapshot = _SNAPSHOT.fullmatch(path)
    return snapshot[1].replace("--", "/") if snapshot else Path(path).name


def adapter_base(path: str) -> str:
    """What adapters name as their base: as `model_name`, but of a folder nothing like a hub id.

    Without any machine's path, since what a policy's adapter holds is part of the policy's id.
    """
    name = model_name(path)
    return name if name == EMBEDDED or _SNAPSHOT.fullmatch(path) else f"./{name}"


def read_names(folder: Path) -> list[str]:
    """Files that the libraries may read, by their path in the folder, in order.

    Tokenizers look for files of many names, so every file counts that may be one.

    Raises:
        InputError: The weights index is none.
    """
    weights = weight_names(folder)
    unread = [*UNREAD, "*.safetensors", *([_WEIGHTS_INDEX] if weights == [WEIGHTS] else [])]
    own = (
        name
        for name in os.listdir(folder)
        if (folder / name).is_file() and not any(fnmatchcase(name, bad) for bad in unread)
    )
    templates = (str(file.relative_to(folder)) for file in folder.glob(TEMPLATES))
    return sorted({*own, *templates, *(name for name in weights if (folder / name).is_file())})


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers loads, in order.

    Raises:
        InputError: The weights index is none.
    """
    return [folder / name for name in weight_names(folder)]


def weight_names(folder: Path) -> list[str]:
    """As `weight_files`, by their path in the folder; nothing where there are none.

    Whole weights come first: the index beside them may be left from weights before them.

    Raises:
        InputError: The weights index is none.
    """
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    index = folder / _WEIGHTS_INDEX
    if not index.is_file():
        return []
    plain = json_object(index)
    shards, about = plain.get("weight_map"), plain.get("metadata")
    names = list(shards.values()) if isinstance(shards, dict) else []
    if not names or not all(isinstance(name, str) for name in names) or about is None:
        raise InputError(
            f"{index} is not a weights index, which has metadata, and a weight_map that names "
            "the file of each tensor: copy it again"
        )
    return sorted({os.path.normpath(name) for name in names})


def check_config(folder: Path, path: str) -> None:
    """Passes if a folder's config is of weights that are not quantized, and no setting there has
    the library read other files, which would be in no digest.

    Raises:
        InputError: It is not, or one has; or a config is no JSON object.
    """
    refuse_quantized(json_object(folder / "config.json"), path)
    for name in _REDIRECTS:
        if (folder / name).is_file():
            _refuse_redirects(folder / name, path)


def _refuse_redirects(file: Path, path: str) -> None:
    keys, usual = _REDIRECTS[file.name]
    plain = json_object(file)
    parts = [plain, *(part for part in plain.values() if isinstance(part, Mapping))]
    for key, value in ((key, part.get(key)) for part in parts for key in keys):
        if value and not isinstance(value, Mapping):
            raise InputError(
                f"model {path} has {key} = {value!r:.80} in its {file.name}, which names other "
                f"files to read: give them their usual names ({usual}), and take the setting out"
            )


def _check_weights(folder: Path, path: str) -> None:
    names = weight_names(folder)
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise InputError(
            f"model folder {path} lacks the weights {', '.join(missing)}, which its "
            f"{_WEIGHTS_INDEX} names: copy them too"
        )
    if not names:
        if found := sorted(folder.glob("*.safetensors")):
            raise InputError(
                f"model folder {path} has {found[0].name}, but neither a {_WEIGHTS_INDEX}, which "
                "says what is in which file, nor a model.safetensors: copy it too"
            )
        raise InputError(
            f"model folder {path} has no model.safetensors: only safetensors weights are "
            "loaded, since other formats can run code; convert them with save_pretrained"
        )
