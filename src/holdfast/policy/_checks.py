"""Refusals shared by all policies: one wording for the same mistake."""

from __future__ import annotations

import math
from collections.abc import Sequence

from holdfast.errors import PolicyError


def whole_number(value: object, *, name: str, at_least: int) -> None:
    """Raise PolicyError unless `value` is an int (not a bool) of at least `at_least`."""
    if type(value) is not int or value < at_least:
        raise PolicyError(
            f"{name} must be a whole number of at least {at_least}, not {value!r}",
            fix=f"give {name} as an int, {at_least} or more",
        )


def finite_number(
    value: object, *, name: str, above: float | None = None, at_least: float | None = None
) -> None:
    """Raise PolicyError unless `value` is a finite int or float within the given bound."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value):  # type: ignore[arg-type]
        raise PolicyError(f"{name} must be a finite number, not {value!r}")
    if above is not None and not value > above:  # type: ignore[operator]
        raise PolicyError(f"{name} must be greater than {above:g}, not {value!r}")
    if at_least is not None and not value >= at_least:  # type: ignore[operator]
        raise PolicyError(f"{name} must be at least {at_least:g}, not {value!r}")


def listed(value: object, *, name: str) -> None:
    """Raise PolicyError unless `value` is a list (or another sequence, no string) with elements."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or not value:
        raise PolicyError(
            f"{name} must be a list of at least one number, not {value!r}",
            fix="put a single number into a list: [2.0]",
        )


def metric_name(value: object) -> None:
    """Raise PolicyError unless `value` can name a metric: a string that is not empty."""
    if not isinstance(value, str) or not value:
        raise PolicyError(
            f"A metric is named by a string that is not empty, not by {value!r}",
            fix="use the key under which the metric is given to save(), for example 'val_loss'",
        )
