"""Makes what a config chose: domain, reward, selection and outer loop; and tries foreign kinds."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from seal_core.config import Config
from seal_core.domains.base import Domain, ProblemSet
from seal_core.domains.knowledge import KnowledgeDomain
from seal_core.errors import InputError, in_one_line
from seal_core.kinds.entry_points import load_kind, package_of
from seal_core.kinds.guarded import Guarded, before_work
from seal_core.kinds.proofs import prove_outer_loop, prove_problems, prove_reward, prove_selection
from seal_core.kinds.sections import (
    AccuracySection,
    BestOfKSection,
    Foreign,
    KnowledgeSection,
    LikelihoodSection,
    RestemSection,
    valid_options,
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
    return _foreign(section, any_version)


def make_reward(config: Config) -> Reward:
    """The reward that the configuration names; raises as `make_domain`."""
    section = config.reward
    if isinstance(section, AccuracySection):
        return Accuracy()
    if isinstance(section, LikelihoodSection):
        return Likelihood()
    return _foreign(section)


def make_selection(config: Config) -> SelectionRule:
    """The selection that the configuration names; raises as `make_domain`."""
    section = config.selection
    return BestOfK(section) if isinstance(section, BestOfKSection) else _foreign(section)


def make_outer_loop(config: Config) -> OuterLoop:
    """The outer loop that the configuration names; raises as `make_domain`."""
    section = config.outer_loop
    return Restem(section) if isinstance(section, RestemSection) else _foreign(section)


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


def version_note(section: BaseModel) -> str | None:
    """That a kind's package is another version here than it was in the run; None if it is not."""
    if not isinstance(section, Foreign):
        return None
    here = package_of(section.point, section.kind)
    return None if here == section.package else f"{section.title} is {here} here"


def _foreign(section: Foreign, any_version: bool = False) -> Any:
    """A kind of another package, from nothing but its options, which bear identity."""
    target = load_kind(section.point, section.kind)
    note = version_note(section)
    if note and not any_version:
        raise InputError(f"{note}: install the version that the run was made with")
    try:
        options = valid_options(section.point, section.kind, section.options)
    except ValueError as error:
        raise InputError(f"{error}: {section.title} has other options than were recorded") from None
    if not any_version and options.model_dump().keys() != section.options.keys():
        raise InputError(f"{section.title}: its options are incomplete: give them beside the kind")
    try:
        return Guarded(target(options), section.title)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{section.title} cannot be made ({type(error).__name__}: {in_one_line(error)})"
        ) from error
