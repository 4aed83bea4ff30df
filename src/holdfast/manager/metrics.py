"""Metrics as given to `save`, made into numbers the manifest can hold."""

from __future__ import annotations

import numbers
from collections.abc import Mapping

from holdfast.errors import UnsavableError
from holdfast.policy import Measurement


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
        number = as_number(value)
        if number is not None:
            result[name] = number
    return result


def plain_metrics(metrics: Mapping[str, object] | None) -> dict[str, object]:
    """The metrics as given, with tensors and NumPy scalars of one element made plain numbers."""
    return {
        name: value
        if isinstance(value, (bool, int, float)) or (number := as_number(value)) is None
        else number
        for name, value in (metrics or {}).items()
    }


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
    """The value as a float if it is one number, None otherwise."""
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, (str, bytes)):
        return None
    item, size = getattr(value, "item", None), getattr(value, "numel", None)
    if not callable(item) or (callable(size) and size() != 1):
        return None
    if getattr(value, "size", 1) != 1 and not callable(size):
        return None
    found = item()
    return float(found) if isinstance(found, numbers.Real) else None
