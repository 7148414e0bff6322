"""Checks all that a run needs before its first write, and tells what the run stands for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seal_core.config import EMBEDDED, Config
from seal_core.domains.base import Domain, ProblemSet
from seal_core.domains.knowledge import KnowledgeDomain
from seal_core.errors import InputError
from seal_core.fingerprint import digest
from seal_core.minilm import weights_path
from seal_core.models.model_files import check_model_folder, is_hub_id, model_digest, model_place
from seal_core.models.precision import used_precision
from storage.naming import check_run
from storage.store import Store
from tasks.chatting import check_chat
from tasks.serving import check_serving


@dataclass(frozen=True)
class Measured:
    """A policy that is measured on held-out problems, as that of a round."""

    policy: str
    round: int


@dataclass(frozen=True)
class Preflight:
    """What is known of a run before its first write; every check on the input has passed.

    Attributes:
        precision: Of the model, in all that it does; never `auto`.
        engine_version: Of the library that answers.
        evaluates: What the run measures, if that is all it does.
        rehash: The model's files are hashed whatever is remembered of them.
    """

    name: str
    config: Config
    model_path: str
    domain: Domain
    problems: ProblemSet
    precision: str
    engine_version: str
    evaluates: Measured | None = None
    rehash: bool = False


def preflight(config: Config, name: str | None, rehash: bool = False) -> Preflight:
    """Checks all that a run needs, from its name to its chat template; writes nothing.

    Raises:
        InputError: naming the thing and the fix.
    """
    run = config.run.name if name is None else check_run(name)
    if not run:
        raise InputError("the run has no name: pass --name, or set run.name in the config")
    domain = KnowledgeDomain.from_config(config)
    check_run(run)
    embedded = config.model.path == EMBEDDED
    path = str(weights_path()) if embedded else model_place(config.model.path)
    check_model_folder(path)
    if is_hub_id(path) and not Path(path).exists():
        model_digest(path, config.model.revision)  # says how to download it if it is not there
    model, device = config.model, config.execution.device
    check_chat(config, path)
    precision = used_precision(path, model.revision, model.dtype, device)
    engine_version = check_serving(config, path, precision)
    problems = domain.load()
    return Preflight(run, config, path, domain, problems, precision, engine_version, rehash=rehash)


def run_identity(checked: Preflight, store: Store) -> tuple[dict[str, Any], str]:
    """What the name of a run stands for; and the digest of its model, as it is used."""
    config = checked.config
    used = digest([files_digest(checked, store, checked.rehash), checked.precision])
    contents = {
        "model": used,
        "train": digest([problem.problem_id for problem in checked.problems.train]),
        "heldout": digest([problem.problem_id for problem in checked.problems.heldout]),
    }
    if config.model.dtype == "auto":
        contents["precision"] = checked.precision
    identity = {**config.identity(), "contents": contents}
    if checked.evaluates is not None:
        identity["evaluates"] = asdict(checked.evaluates)
    return identity, used


def files_digest(checked: Preflight, store: Store, rehash: bool = False) -> str:
    """Of the model's files, from the store's memory of them unless `rehash`."""
    revision = checked.config.model.revision
    return model_digest(checked.model_path, revision, model_memory(store), rehash)


def model_memory(store: Store) -> Path:
    """Where a store remembers digests of models' files."""
    return store.state_root / "_state" / "models.json"
