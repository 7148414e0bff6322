"""Checks all that a run needs before its first write, and tells what the run stands for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from seal_core.config import Config
from seal_core.domains.base import Domain, ProblemSet
from seal_core.errors import InputError
from seal_core.fingerprint import digest
from seal_core.kinds.chosen import (
    check_trainer,
    load_problems,
    make_domain,
    make_outer_loop,
    make_reward,
    make_selection,
    prove_rules,
)
from seal_core.models.files.model_digest import ModelFiles, digest_model
from seal_core.models.files.model_place import find_model
from seal_core.models.precision import used_precision
from seal_core.types import Advice
from storage.store import Store
from storage.tables.paths import check_run
from tasks.opening.fitting import check_fit
from tasks.opening.serving import check_serving
from tasks.opening.setup_advice import advice_before


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
        advice: What looks like a mistake in the config.
        files: The model's files; None until they are digested, see `digested`.
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
    files: ModelFiles | None = None
    advice: tuple[Advice, ...] = ()

    @property
    def model_digest(self) -> str:
        """Of the base model as it is used: its files, and the precision."""
        return digest([self.base_digest, self.precision])

    @property
    def base_digest(self) -> str:
        """Of the base model's files."""
        return self._files.digest

    @property
    def _files(self) -> ModelFiles:
        if self.files is None:
            raise ValueError("the model's files are not digested yet")
        return self.files

    def digested(self, store: Store) -> Preflight:
        """The same with the model's files, from the store's memory of them unless `rehash`.

        Raises:
            InputError: A file cannot be read.
        """
        known = model_memory(store)
        return replace(self, files=digest_model(self.model_path, known, self.rehash))

    def identity(self) -> dict[str, Any]:
        """What the name of the run stands for."""
        contents = {
            "model": self.model_digest,
            "model_files": self._files.digests,
            "train": digest([problem.problem_id for problem in self.problems.train]),
            "heldout": digest([problem.problem_id for problem in self.problems.heldout]),
        }
        if self.config.model.dtype == "auto":
            contents["precision"] = self.precision
        identity = {**self.config.identity(), "contents": contents}
        if self.evaluates is not None:
            identity["evaluates"] = asdict(self.evaluates)
        return identity


def preflight(config: Config, name: str | None, rehash: bool = False) -> Preflight:
    """Checks all that a run needs, from its name to its chat template; writes nothing.

    Raises:
        InputError: naming the thing and the fix.
    """
    run = config.run.name if name is None else check_run(name)
    if not run:
        raise InputError("the run has no name: pass --name, or set run.name in the config")
    domain = make_domain(config)
    for make in (make_reward, make_selection, make_outer_loop, check_trainer):
        make(config)  # What cannot be had at all is told before anything slow begins.
    check_run(run)
    model, device = config.model, config.execution.device
    path = find_model(model.path, model.revision)
    precision = used_precision(path, model.dtype, device)
    engine_version = check_serving(config, path, precision)
    problems = load_problems(config, domain)
    prove_rules(config, domain, problems)
    check_fit(config, path, domain, problems)
    return Preflight(
        run,
        config,
        path,
        domain,
        problems,
        precision,
        engine_version,
        rehash=rehash,
        advice=advice_before(config, path, problems),
    )


def model_memory(store: Store) -> Path:
    """Where a store remembers digests of models' files."""
    return store.state_root / "_state" / "models.json"
