"""The form of the component "run", checked before anything that follows from it is restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.errors import FormatError
from holdfast.session.objects import RUN

# Larger ones are no float, and cannot be written as decimal text either.
_INT_BITS_MAX = 1023


def checked_run_record(value: object) -> Mapping[str, Any]:
    """The record itself. Raises FormatError if it or its metrics history has another form."""
    if not isinstance(value, dict):
        raise FormatError("The record of the run is no dict", where=RUN)
    history = value.get("metrics_history", [])
    if not isinstance(history, (list, tuple)) or not all(map(_is_entry, history)):
        raise FormatError(
            "The metrics history is no list of records with metrics by name",
            where=f"{RUN}.metrics_history",
        )
    return value


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, Mapping):
        return False
    metrics = entry.get("metrics", {})
    if not isinstance(metrics, Mapping):
        return False
    values = (*entry.values(), *metrics.values())
    return not any(isinstance(v, int) and v.bit_length() > _INT_BITS_MAX for v in values)
