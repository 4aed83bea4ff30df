"""What is given to `save`, made into numbers and plain values a checkpoint can hold."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Mapping
from typing import SupportsIndex

from holdfast.codec import is_text
from holdfast.errors import ConfigError, UnsavableError
from holdfast.policy import Measurement
from holdfast.state import copied

# Every reader of JSON agrees on whole numbers up to here.
_COUNT_MAX = 1 << 53


def numeric_metrics(metrics: Mapping[str, object] | None) -> dict[str, float]:
    """Every metric that is one number, as a float: Python and NumPy scalars, one-element tensors.

    Text and structures are left out here; they are kept in the checkpoint as given.
    Raises UnsavableError if a name is not a string.
    """
    result: dict[str, float] = {}
    for name, value in (metrics or {}).items():
        if not isinstance(name, str):
            raise UnsavableError(
                f"The name of a metric must be a string, found {name!r}",
                where="metrics",
                fix="name it, for example metrics={'val_loss': 1.5}",
            )
        if not is_text(name):
            raise UnsavableError(
                f"The name of a metric must be text, {name!a} holds half of a surrogate pair",
                where="metrics",
                fix="decode it as what it is before it becomes a name",
            )
        number = as_number(value)
        if number is not None:
            result[name] = number
    return result


def plain_metrics(metrics: Mapping[str, object] | None) -> dict[str, object]:
    """A copy of the metrics, with tensors and NumPy scalars of one element made plain numbers.

    They go into this checkpoint's history and that of all later ones: one value that cannot be
    saved must be refused here, or no later save could succeed; and what the caller changes
    afterwards must not change the past. Raises UnsavableError naming the metric.
    """
    return copied(
        "metrics",
        {
            name: value
            if isinstance(value, (bool, int, float)) or (number := as_number(value)) is None
            else number
            for name, value in (metrics or {}).items()
        },
    )


def split_by_step(
    metrics: Mapping[str, object] | None, step: int
) -> tuple[dict[str, object], dict[str, Measurement]]:
    """Metrics of the weights of `step`, and those measured on other weights.

    A value given as `Measurement(value, step)` says itself what it was measured on; any other was
    measured just now.
    """
    now: dict[str, object] = {}
    older: dict[str, Measurement] = {}
    for name, value in (metrics or {}).items():
        if not isinstance(value, Measurement):
            now[name] = value
        elif value.step == step:
            now[name] = value.value
        else:
            older[name] = value
    return now, older


def as_number(value: object) -> float | None:
    """The value as a float if it is one number that a float can hold, None otherwise."""
    if isinstance(value, (str, bytes)):
        return None
    found = value if isinstance(value, numbers.Real) else _only_item(value)
    try:
        return float(found) if isinstance(found, numbers.Real) else None
    except OverflowError:
        return None


def _only_item(value: object) -> object:
    """The element of a tensor or NumPy value that has just one, None of others."""
    item, size = getattr(value, "item", None), getattr(value, "numel", None)
    if not callable(item) or (callable(size) and size() != 1):
        return None
    if getattr(value, "size", 1) != 1 and not callable(size):
        return None
    found: object = item()
    return found


def whole_number(name: str, value: SupportsIndex) -> int:
    """An epoch or step as a plain int: Python, NumPy and one-element tensor integers will do.

    Raises ConfigError for anything else, and for what is negative or beyond 2**53.
    """
    try:
        number = operator.index(value)
    except TypeError as error:
        raise ConfigError(
            f"The {name} is {value!r}, a {type(value).__name__}",
            fix=f"pass a whole number, for example {name}={int(value)}"
            if isinstance(value, float) and value.is_integer()
            else "pass a whole number",
        ) from error
    if not 0 <= number <= _COUNT_MAX:
        raise ConfigError(
            f"The {name} is {str(number)[:40]}", fix="count from 0 at the beginning of the run"
        )
    return number
