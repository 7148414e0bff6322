"""Reads a run's TOML file, applies `--set` overrides, and explains what is wrong in one line."""

from __future__ import annotations

import copy
import difflib
import json
import os
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from seal_core.config import Config
from seal_core.errors import InputError
from seal_core.kinds.entry_points import BUILT_IN
from seal_core.kinds.sections import FOREIGN, Foreign
from seal_core.places import user_path

_MAX_SHOWN = 200
_OTHER_NAMES = {
    **dict.fromkeys(("learning_rate", "alpha_lr"), "lr"),
    **dict.fromkeys(("r", "lora_r", "lora_rank"), "rank"),
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    **dict.fromkeys(("target_modules", "modules"), "targets"),
    **dict.fromkeys(("num_epochs", "num_train_epochs", "n_epochs"), "epochs"),
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size"), "batch_size"),
    **dict.fromkeys(("max_seq_length", "max_seq_len"), "max_length"),
    **dict.fromkeys(("max_grad_norm", "grad_clip"), "clip"),
    **dict.fromkeys(("lr_scheduler_type", "scheduler"), "schedule"),
    **dict.fromkeys(("max_new_tokens", "max_output_tokens"), "max_tokens"),
    **dict.fromkeys(("k", "n", "num_samples", "n_samples"), "edits_per_problem"),
    **dict.fromkeys(("name_or_path", "model_name", "model_name_or_path"), "path"),
    "torch_dtype": "dtype",
}
"""What the libraries, and the papers, call settings."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The validated configuration of a TOML file with overrides applied.

    Raises:
        InputError: naming the file, the key and the fix.
    """
    plain = _read_toml(user_path(path))
    of_file = copy.deepcopy(plain)
    for override in overrides:
        _apply(plain, override)
    try:
        return valid_config(plain, str(path))
    except InputError as error:
        try:
            valid_config(of_file, str(path))
        except InputError as own:
            if str(own) in str(error):  # The file's mistake, whatever was set besides.
                raise
    return valid_config(plain, "--set")


def valid_config(plain: Mapping[str, Any], source: str) -> Config:
    """The configuration of plain values.

    Args:
        source: Where they were given, for messages.

    Raises:
        InputError: naming the source, the key and the fix.
    """
    try:
        return Config.model_validate(plain)
    except ValidationError as error:
        raise InputError(f"{source}: {_explain(error)}") from error


def with_store(overrides: Sequence[str]) -> list[str]:
    """The overrides after that of the variable `SEAL_STORE`, if it is set: they win over it."""
    store = os.environ.get("SEAL_STORE")
    return [store_setting(store), *overrides] if store else list(overrides)


def store_setting(store: str) -> str:
    """A store's folder or URL as a setting for `load_config`."""
    # A TOML string: which has no surrogates, and wants delete escaped, both unlike JSON.
    text = json.dumps(store, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"execution.store={text}"


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such config file; `configs/` has examples")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:  # Also of numbers with thousands of digits.
        raise InputError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): check its rights") from error


def _apply(plain: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    section, dot, name = key.strip().partition(".")
    if not sign or not dot or not section or not name:
        raise InputError(f"--set {override!r}: write it as section.key=value")
    plain.setdefault(section, {})
    if not isinstance(plain[section], dict):
        raise InputError(f"--set {override!r}: {section!r} is not a section")
    plain[section][name] = _value(text.strip())


def _value(text: str) -> Any:
    """A TOML value, or plain text where it is none (paths and names need no quotes)."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _explain(error: ValidationError) -> str:
    return "; ".join(_explain_one(item) for item in error.errors())


def _explain_one(item: Any) -> str:
    where = ".".join(str(part) for part in _without_tags(item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"unknown key {where!r}{_suggestion(where)}"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if item["type"] == "tuple_type":
        return f'{where} = {_shown(item["input"])}: write it as a list, like ["a", "b"]'
    return f"{where} = {_shown(item['input'])}: {item['msg'][0].lower()}{item['msg'][1:]}"


def _without_tags(place: tuple[Any, ...]) -> tuple[Any, ...]:
    """A place without the kind that pydantic puts behind the section that chooses it."""
    tags = (*BUILT_IN.get(place[0], ()), FOREIGN) if place else ()
    return (place[0], *place[2:]) if len(place) > 1 and place[1] in tags else place


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # A hexadecimal number may have more digits than Python writes.
        text = "a number of thousands of digits"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _suggestion(where: str) -> str:
    known = list(_known_keys())
    section, _, name = where.rpartition(".")
    other = f"{section}.{_OTHER_NAMES.get(name, '')}"
    close = [other] if other in known else []
    close = close or [key for key in known if section and key.startswith(f"{section}.{name}")]
    close = close[:1] or [key for key in known if key.endswith(f".{name}")]
    if not close:
        # By its own name alone: a section that is right makes any key look like its neighbours.
        start = f"{section}." if section else ""
        names = [key.removeprefix(start) for key in known if key.startswith(start)]
        found = difflib.get_close_matches(name, [n for n in names if "." not in n], n=1)
        close = [start + key for key in found]
    if not close:
        return ": see docs/configuration.md"
    return f": did you mean {' or '.join(repr(key) for key in close)}?"


def _known_keys() -> Iterator[str]:
    for section, field in Config.model_fields.items():
        yield section
        for model in _models(field.annotation):
            yield from (f"{section}.{name}" for name in model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that stand in an annotation, each kind's among them."""
    if isinstance(annotation, type):
        if issubclass(annotation, BaseModel) and not issubclass(annotation, Foreign):
            yield annotation
        return
    for part in typing.get_args(annotation):
        yield from _models(part)
