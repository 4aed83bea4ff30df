"""Weights of an average as whole numbers, so that nothing is lost in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from holdfast.errors import ConfigError

_DIGITS_MAX = 40


def proportions(weights: Sequence[int | float | str | Fraction]) -> list[int]:
    """The smallest whole numbers in the proportion of `weights`.

    A float means the decimal number it prints as: 0.1 is a tenth. A string may be a fraction, as in
    "1/3". Raises ConfigError unless every weight is a finite number above zero.
    """
    exact = [_fraction(weight, index) for index, weight in enumerate(weights)]
    scale = math.lcm(*(weight.denominator for weight in exact)) if exact else 1
    whole = [int(weight * scale) for weight in exact]
    common = math.gcd(*whole) if whole else 1
    whole = [weight // common for weight in whole]
    if whole and len(str(max(whole))) > _DIGITS_MAX:
        raise ConfigError(
            f"The weights are in proportions of over {_DIGITS_MAX} digits",
            fix="give weights with fewer decimals",
        )
    return whole


def _fraction(weight: int | float | str | Fraction, index: int) -> Fraction:
    try:
        exact = Fraction(repr(weight)) if isinstance(weight, float) else Fraction(weight)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise ConfigError(
            f"The weight at position {index} is {weight!r}, which is no finite number",
            fix="give one number above zero for each checkpoint",
        ) from error
    if exact <= 0:
        raise ConfigError(
            f"The weight at position {index} is {weight!r}; weights are above zero",
            fix="leave a checkpoint out instead of giving it the weight 0",
        )
    return exact
