"""Choosing the model: rankings, averages, soups.

    rank_checkpoints, pareto_set, last_k, top_k, spaced   from manifests alone
    average, average_state, verify_recipe, rebuild        streamed, exact, with a recipe
    greedy_soup, uniform_soup                             members that earn their place

Names are resolved when first used: ranking needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.selection.averaging import Averaged, Recalibration, average, average_state
    from holdfast.selection.choosing import last_k, spaced, top_k
    from holdfast.selection.evidence import EvaluationError
    from holdfast.selection.ranking import (
        Constraint,
        ParetoSet,
        Ranked,
        Ranking,
        pareto_set,
        rank_checkpoints,
        smoothed,
    )
    from holdfast.selection.rebuilding import RecipeCheck, read_recipe, rebuild, verify_recipe
    from holdfast.selection.record import MemberRecord, Recipe
    from holdfast.selection.selector import ModelSelector
    from holdfast.selection.soup import greedy_soup, uniform_soup
    from holdfast.selection.tasting import Soup, Trial

_HOMES = {
    "Averaged": "averaging",
    "Constraint": "ranking",
    "EvaluationError": "evidence",
    "MemberRecord": "record",
    "ModelSelector": "selector",
    "ParetoSet": "ranking",
    "Ranked": "ranking",
    "Ranking": "ranking",
    "Recalibration": "averaging",
    "Recipe": "record",
    "RecipeCheck": "rebuilding",
    "Soup": "tasting",
    "Trial": "tasting",
    "average": "averaging",
    "average_state": "averaging",
    "greedy_soup": "soup",
    "last_k": "choosing",
    "pareto_set": "ranking",
    "rank_checkpoints": "ranking",
    "read_recipe": "rebuilding",
    "rebuild": "rebuilding",
    "smoothed": "ranking",
    "spaced": "choosing",
    "top_k": "choosing",
    "uniform_soup": "soup",
    "verify_recipe": "rebuilding",
}

__all__ = [
    "Averaged",
    "Constraint",
    "EvaluationError",
    "MemberRecord",
    "ModelSelector",
    "ParetoSet",
    "Ranked",
    "Ranking",
    "Recalibration",
    "Recipe",
    "RecipeCheck",
    "Soup",
    "Trial",
    "average",
    "average_state",
    "greedy_soup",
    "last_k",
    "pareto_set",
    "rank_checkpoints",
    "read_recipe",
    "rebuild",
    "smoothed",
    "spaced",
    "top_k",
    "uniform_soup",
    "verify_recipe",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
