"""Clients of trackers, imported when first used."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

from holdfast.errors import ConfigError

PREFIX = "holdfast/"


def client(module: str, package: str) -> Any:
    """Import a tracker's client. Raises ConfigError naming what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"Mirroring to it needs {package}, which is not installed",
            fix=f"pip install {package}",
        ) from error


def finite(metrics: Mapping[str, Any], prefix: str = PREFIX) -> dict[str, float]:
    """Numbers that every tracker can plot, named `holdfast/...`."""
    return {
        f"{prefix}{name}": float(value)
        for name, value in metrics.items()
        if isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(float(value))
    }


def cost_numbers(cost: Mapping[str, Any]) -> dict[str, float]:
    """What a save cost, as `holdfast/save/...`."""
    return finite(cost, f"{PREFIX}save/")


def chosen_text(selection: Mapping[str, Any]) -> str:
    """Who was chosen, and why."""
    recommendation = selection.get("recommendation")
    if not isinstance(recommendation, Mapping):
        return ""
    return f"{recommendation.get('name', '')}: {recommendation.get('reason', '')}"


def scores(selection: Mapping[str, Any]) -> dict[str, float]:
    """Score by candidate."""
    rows = selection.get("candidates")
    found = rows if isinstance(rows, list) else []
    return finite(
        {str(row.get("name")): row.get("score") for row in found if isinstance(row, Mapping)}, ""
    )
