"""Makes what a config chose at each plug point; and tries foreign kinds."""

from __future__ import annotations

from seal_core.config import Config
from seal_core.domains.base import Domain, ProblemSet
from seal_core.domains.knowledge import KnowledgeDomain
from seal_core.engine_section import EngineSection
from seal_core.engines import Engine
from seal_core.generation.vllm.engine import VllmEngine
from seal_core.kinds.foreign import make_foreign
from seal_core.kinds.foreign_engine import ForeignEngine
from seal_core.kinds.guarded import before_work
from seal_core.kinds.proofs import prove_outer_loop, prove_problems, prove_reward, prove_selection
from seal_core.kinds.sections import (
    AccuracySection,
    BestOfKSection,
    Foreign,
    KnowledgeSection,
    LikelihoodSection,
    RestemSection,
)
from seal_core.outer_loops import OuterLoop, Restem
from seal_core.rewards.reward import Accuracy, Likelihood, Reward
from seal_core.rewards.selection import BestOfK, SelectionRule


def make_domain(config: Config, any_version: bool = False) -> Domain:
    """The domain that a run's configuration describes.

    Args:
        any_version: Also of another version of its package than the run's, to show what there is.

    Raises:
        InputError: A setting of it is wrong, or its package is not the run's.
    """
    section = config.domain
    if isinstance(section, KnowledgeSection):
        return KnowledgeDomain.from_config(config)
    return make_foreign(section, any_version)


def make_reward(config: Config) -> Reward:
    """The reward that the configuration names; raises as `make_domain`."""
    section = config.reward
    if isinstance(section, AccuracySection):
        return Accuracy()
    if isinstance(section, LikelihoodSection):
        return Likelihood()
    return make_foreign(section)


def make_selection(config: Config) -> SelectionRule:
    """The selection that the configuration names; raises as `make_domain`."""
    section = config.selection
    return BestOfK(section) if isinstance(section, BestOfKSection) else make_foreign(section)


def make_outer_loop(config: Config) -> OuterLoop:
    """The outer loop that the configuration names; raises as `make_domain`."""
    section = config.outer_loop
    return Restem(section) if isinstance(section, RestemSection) else make_foreign(section)


def make_engine(config: Config) -> Engine | None:
    """The engine that answers; None if the trainers' processes do. Raises as `make_domain`."""
    section = config.engine
    if isinstance(section, EngineSection):
        return VllmEngine(section) if section.kind == "vllm" else None
    return ForeignEngine(make_foreign(section), section.title)


def check_trainer(config: Config) -> None:
    """Passes if the trainer that the configuration names can be made; raises as `make_domain`.

    An engine process makes it, and holds it to PEFT on the model.
    """
    if isinstance(section := config.trainer, Foreign):
        make_foreign(section)


def load_problems(config: Config, domain: Domain) -> ProblemSet:
    """The problems of a run, by whose questions a domain of another package is tried.

    Raises:
        InputError: They cannot be read, or something is wrong with them.
    """
    if not isinstance(section := config.domain, Foreign):
        return domain.load()
    with before_work(section.title):
        problems = domain.load()
        prove_problems(section.title, domain, problems)
    return problems


def prove_rules(config: Config, domain: Domain, problems: ProblemSet) -> None:
    """Tries reward, selection and outer loop, if they are another package's, without a model.

    Raises:
        InputError: One does not do what its protocol says, or fails.
    """
    if isinstance(section := config.reward, Foreign):
        prove_reward(section.title, make_reward(config), domain, problems.train[0])
    if isinstance(section := config.selection, Foreign):
        prove_selection(section.title, make_selection(config))
    if isinstance(section := config.outer_loop, Foreign):
        prove_outer_loop(section.title, make_outer_loop(config))
