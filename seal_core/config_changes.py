"""What a run's name stands for: compares a config with the one that a run was registered with.

Configs are plain JSON data here, `Config.identity()` or a whole dump.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from seal_core.config import EXECUTION
from seal_core.errors import InputError
from seal_core.fingerprint import canonical_json
from seal_core.models.files.model_digest import differences

_MISSING = object()
_DTYPE = "model.dtype"
_PRECISION = "contents.precision"
_MODEL = "contents.model"


def config_identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that may change a result; neither `EXECUTION` nor the name counts."""
    plain = {key: value for key, value in config.items() if key not in EXECUTION}
    if isinstance(plain.get("run"), Mapping):
        plain["run"] = {key: value for key, value in plain["run"].items() if key != "name"}
    if isinstance(plain.get("contents"), Mapping):
        # They only tell which file made the difference in the digest of the model.
        plain["contents"] = {k: v for k, v in plain["contents"].items() if k != "model_files"}
    return plain


def config_changes(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Settings in which a config differs from a run's, as `key: old -> new`; or files."""
    old = _leaves(config_identity(recorded))
    new = _leaves(json.loads(canonical_json(config_identity(config))))
    if _precision(old) == _precision(new):  # Whoever chose it.
        old = {key: old[key] for key in old if key not in (_DTYPE, _PRECISION)}
        new = {key: new[key] for key in new if key not in (_DTYPE, _PRECISION)}
    keys = [
        k for k in sorted(old.keys() | new.keys()) if old.get(k, _MISSING) != new.get(k, _MISSING)
    ]
    # Other problems, if another setting is the reason, are not worth a word; the digest of the
    # model as it is used changes with its precision.
    settings = [key for key in keys if not key.startswith("contents.")]
    settings = settings or [key for key in keys if key == _PRECISION]
    files = differences(_model_files(recorded), _model_files(config))
    return [
        f"files of the model: {files}"
        if key == _MODEL and files and _model_files(recorded)
        else f"{key}: {_show(old.get(key, _MISSING))} -> {_show(new.get(key, _MISSING))}"
        for key in settings or keys
    ]


def check_unchanged(run: str, recorded: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Passes if a run's name stands for this config.

    Raises:
        InputError: it stands for another one; says which settings differ, and what to do.
    """
    if changes := config_changes(recorded, config):
        raise InputError(_refusal(run, recorded, changes))


def _model_files(config: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the model's files; empty in a record of a version that did not keep them."""
    return config.get("contents", {}).get("model_files", {})


def _precision(leaves: Mapping[str, Any]) -> Any:
    """What the model is used in; `auto` where that was not recorded."""
    return leaves.get(_PRECISION, leaves.get(_DTYPE))


def _refusal(run: str, recorded: Mapping[str, Any], changes: list[str]) -> str:
    if "import" in recorded:
        return f"run {run!r} was imported from a file: choose another --name"
    if changes[0].startswith(_PRECISION):
        return _other_precision(run, _leaves(recorded).get(_PRECISION))
    return (
        f"run {run!r} exists with another config ({'; '.join(changes)}): "
        f"undo the change, give this one another --name, or fork it with --name NEW "
        f"--fork {run}, which repeats only what the change concerns"
    )


def _other_precision(run: str, recorded: str | None) -> str:
    """`model.dtype` is `auto` as it was, and stands for something else here."""
    if recorded is None:
        return (
            f"run {run!r} is of a version of seal that did not record in which precision "
            "model.dtype = 'auto' used the model, so going on could mix two: start anew with "
            "another --name"
        )
    return (
        f"run {run!r} uses its model in {recorded}, and model.dtype = 'auto' is another "
        "precision here (float32 on a CPU, the checkpoint's own on a GPU): go on with --name NEW "
        f"--fork {run} --set model.dtype={recorded}"
    )


def _leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found.update(_leaves(item, f"{prefix}.{key}" if prefix else key))
    return found


def _show(value: Any) -> str:
    return "(not set)" if value is _MISSING else json.dumps(value)
