"""Correction for having made several comparisons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from holdfast.errors import ConfigError


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j <= i, at most 1.
    Rejecting those at or below a level keeps the chance of any false rejection below it, whatever
    the dependence between the tests (Holm 1979, Scandinavian Journal of Statistics 6).

    Raises ConfigError if one of them is not a number from 0 to 1.
    """
    values = np.array(list(p_values), dtype=np.float64)
    valid = (values >= 0.0) & (values <= 1.0)
    if not valid.all():
        place = int(np.argmin(valid))
        raise ConfigError(
            f"p-value number {place} is {values[place]}",
            fix="Pass numbers from 0 to 1; leave out tests that gave no p-value.",
        )
    order = np.argsort(values, kind="stable")
    factors = np.arange(values.size, 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return [float(value) for value in adjusted]
