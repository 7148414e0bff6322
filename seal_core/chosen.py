"""Makes what a config chose: domain, reward, selection and outer loop; each proves itself first."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from seal_core.config import Config
from seal_core.domains.base import Domain
from seal_core.domains.knowledge import KnowledgeDomain
from seal_core.errors import InputError, in_one_line
from seal_core.kinds import (
    AccuracySection,
    BestOfKSection,
    Foreign,
    KnowledgeSection,
    LikelihoodSection,
    RestemSection,
    options_model,
)
from seal_core.outer_loops import OuterLoop, Restem
from seal_core.plugins import load_kind
from seal_core.proofs import prove_domain, prove_outer_loop, prove_reward, prove_selection
from seal_core.rewards.reward import Accuracy, Likelihood, Reward
from seal_core.rewards.selection import BestOfK, SelectionRule


def make_domain(config: Config) -> Domain:
    """The domain that a run's configuration describes.

    Raises:
        InputError: A setting of it is wrong.
    """
    section = config.domain
    if isinstance(section, KnowledgeSection):
        return KnowledgeDomain.from_config(config)
    domain = _foreign(section, config)
    prove_domain(section.kind, domain)
    return domain


def make_reward(config: Config) -> Reward:
    """The reward that the configuration names.

    Raises:
        InputError: It is another package's and does not work.
    """
    section = config.reward
    if isinstance(section, AccuracySection):
        return Accuracy()
    if isinstance(section, LikelihoodSection):
        return Likelihood()
    reward = _foreign(section, config)
    prove_reward(section.kind, reward)
    return reward


def make_selection(config: Config) -> SelectionRule:
    """The selection that the configuration names; raises as `make_reward`."""
    section = config.selection
    if isinstance(section, BestOfKSection):
        return BestOfK(section)
    rule = _foreign(section, config)
    prove_selection(section.kind, rule)
    return rule


def make_outer_loop(config: Config) -> OuterLoop:
    """The outer loop that the configuration names; raises as `make_reward`."""
    section = config.outer_loop
    if isinstance(section, RestemSection):
        return Restem(section)
    loop = _foreign(section, config)
    prove_outer_loop(section.kind, loop)
    return loop


def _foreign(section: Foreign, config: Config) -> Any:
    target = load_kind(section.point, section.kind)
    options: BaseModel = options_model(target).model_validate(section.options)
    try:
        return target(options, config)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{section.point}.kind = {section.kind!r} of {section.package} cannot be made "
            f"({type(error).__name__}: {in_one_line(error)})"
        ) from error
