"""What an average does with a tensor, by what kind of values it holds.

average   floating values: the weighted mean
newest    counters (integers with one element, such as `num_batches_tracked`): of the newest
equal     flags, masks, index tables: there is no mean of them; all members must agree
refuse    quantised or packed values: their mean is not the mean of what they stand for
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from math import prod
from typing import Literal, TypeAlias

import torch

from holdfast.errors import ConfigError
from holdfast.weights.decode import real_dtype

Rule: TypeAlias = Literal["average", "newest", "equal", "refuse"]
CHOOSABLE: tuple[str, ...] = ("average", "newest", "equal")


def rule_for(dtype: torch.dtype, shape: tuple[int, ...]) -> Rule:
    """The rule that the kind of a tensor asks for."""
    if real_dtype(dtype) is not None:
        return "average"
    if dtype.is_floating_point or dtype.is_complex:
        return "refuse"
    if dtype != torch.bool and prod(shape) == 1:
        return "newest"
    return "equal"


def chosen_rule(
    name: str, dtype: torch.dtype, shape: tuple[int, ...], overrides: Mapping[str, str]
) -> Rule:
    """The rule for one tensor; the last of `overrides` (shell pattern -> rule) that fits wins.

    Raises ConfigError if a tensor that is not of floats is to be averaged.
    """
    rule = rule_for(dtype, shape)
    for pattern, override in overrides.items():
        if fnmatch.fnmatchcase(name, pattern):
            if override == "average" and rule != "average":
                raise ConfigError(
                    f"{name} is of {dtype}, which cannot be averaged",
                    fix=f'choose "newest" or "equal" for {pattern!r}',
                )
            rule = override  # type: ignore[assignment]
    return rule


def check_rules(overrides: Mapping[str, str]) -> None:
    """Raises ConfigError for a rule that nobody may choose."""
    for pattern, rule in overrides.items():
        if rule not in CHOOSABLE:
            raise ConfigError(
                f"The rule for {pattern!r} is {rule!r}", fix=f"use one of {', '.join(CHOOSABLE)}"
            )
