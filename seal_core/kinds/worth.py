"""What is wrong with single values that kinds of other packages give: they could not be stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from seal_core.domains.base import Grading
from seal_core.rewards.reward import Judgement


def is_text(value: Any) -> bool:
    """Whether a value is text that can be stored; a lone surrogate cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, Real) and math.isfinite(value)


def grading_fault(found: Any) -> str | None:
    """What is wrong with what a domain says of an answer."""
    if not isinstance(found, Grading):
        return f"grades an answer as {found!r}: use a Grading"
    if not is_text(found.text):
        return f"says that the answer is {found.text!r}: use Unicode text"
    if not isinstance(found.correct, bool):
        return f"grades an answer as {found.correct!r}: correct is True or False"
    if not isinstance(found.grades, Mapping) or not all(map(is_text, found.grades)):
        return f"gives {found.grades!r} for grades: use numbers by name"
    for name, value in found.grades.items():
        if not (is_number(value) and 0 <= value <= 1):
            return f"gives the grade {name} = {value!r}: use a number in [0, 1]"
    return None


def judgement_fault(found: Any) -> str | None:
    """What is wrong with what a reward says of answers."""
    if not isinstance(found, Judgement):
        return f"{found!r}, which is no Judgement"
    if not (found.reward is None or is_number(found.reward)):
        return f"{found.reward!r}, which is no finite number"
    if not (found.uncertainty is None or is_number(found.uncertainty)):
        return f"the uncertainty {found.uncertainty!r}, which is no finite number"
    if not isinstance(found.components, Mapping) or not all(map(is_text, found.components)):
        return f"the components {found.components!r}, which are no numbers by name"
    for name, value in found.components.items():
        if not is_number(value):
            return f"the component {name} = {value!r}, which is no finite number"
    return None
