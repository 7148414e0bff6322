"""Takes a run's models out of the store: as an adapter, or merged into the base's weights."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from flows.run_models.model_card import Exported, Form, model_card
from flows.views.recorded import RecordedModel, read_recorded, recorded_model
from seal_core.config import EMBEDDED
from seal_core.errors import InputError, StageError
from seal_core.places import user_path
from storage.runs.chosen_models import ChosenModel, choose_models
from storage.sql.catalog import Catalog
from storage.store import Store


def export(
    store: Store,
    run: str,
    out: Path,
    policies: Sequence[str] = (),
    edits: Sequence[str] = (),
    form: Form = "peft",
) -> Exported:
    """Writes one model of a run to a new folder, with a model card.

    A self-edit's adapter is written together with that of the policy on which it was trained.
    Several self-edits of one policy are added up.

    Raises:
        InputError: something that is named is not there, they do not go together, or `out` is
            there already.
    """
    if out.exists():
        raise InputError(f"{out} exists: name a new folder")
    if store.holds(out):
        raise InputError(f"{out} is inside the store, where only runs write: name another folder")
    chosen = choose_models(store, run, policies=policies, edits=dict.fromkeys(edits))
    uris = _together(chosen)
    if not uris:
        raise InputError(
            f"{chosen[0].name} is the base model itself, without any adapter: name a policy of a "
            f"later round or a self-edit; `seal policy list {run}` has the policies"
        )
    importlib.import_module("transformers.utils.logging").disable_progress_bar()
    with Catalog(store) as catalog:
        model = recorded_model(store, run, read_recorded(catalog, run))
        paths = [str(store.adapter_folder(uri)) for uri in uris]
        done = _merged(model, paths, out) if form == "merged" else _adapter(model, paths, out)
        made = Exported(
            run=run,
            models=tuple(item.name for item in chosen),
            form=form,
            path=str(out),
            base=base_name(model),
            adapters=uris,
            **done,
        )
        try:
            (out / "README.md").write_text(model_card(catalog, made, model), encoding="utf-8")
        except BaseException:
            shutil.rmtree(out)  # An export has its card, or is not there.
            raise
    return made


def base_name(model: RecordedModel) -> str:
    """The base model as the user gave it: a hub id, or a folder, never its last part alone."""
    given = model.config.model.path
    if given == EMBEDDED or user_path(given).is_dir():
        return model.path
    return given


def _together(chosen: Sequence[ChosenModel]) -> tuple[str, ...]:
    """Adapters of models that can be added up: each policy's once, then the self-edits'."""
    policies = {item.policy_id for item in chosen}
    if len(policies) > 1:
        raise InputError(
            f"{', '.join(item.name for item in chosen)} stand on different policies "
            f"({', '.join(sorted(filter(None, policies)))}), so that they cannot be added up: "
            "export them one by one"
        )
    return tuple(dict.fromkeys(uri for item in chosen for uri in item.uris))


def _adapter(model: RecordedModel, paths: Sequence[str], out: Path) -> dict[str, Any]:
    # They import torch, which no other command of this kind needs.
    join = importlib.import_module("seal_core.models.files.joined_adapter").join
    files = importlib.import_module("seal_core.models.files.adapter_files")
    weights = join(tuple(paths))
    rank = next(iter(weights.values()))[0].shape[0]
    place = (base_name(model), sorted(weights), model.config.model.revision)
    try:
        files.write_adapter(out, weights, float(rank), 0.0, *place)
    except (SafetensorError, OSError) as error:
        raise StageError(f"cannot write the weights to {out}: {error}") from error
    return {"rank": rank, "lost": None}


def _merged(model: RecordedModel, paths: Sequence[str], out: Path) -> dict[str, Any]:
    write = importlib.import_module("seal_core.generation.merged_model").write_merged
    return {"rank": None, "lost": write(Path(model.path), paths, model.precision, out)}
