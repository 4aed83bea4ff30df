"""Choosing the model: rankings, averages, soups.

    rank_checkpoints, pareto_set, last_k, top_k, spaced   from manifests alone
    average, average_state, verify_recipe, rebuild        streamed, exact, with a recipe
    greedy_soup, uniform_soup                             members that earn their place
    select_model, write_chosen                            all ways compared on the test set

Names are resolved when first used: ranking needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.selection.averaging import Averaged, Recalibration, average, average_state
    from holdfast.selection.candidates import Candidate
    from holdfast.selection.choosing import last_k, spaced, top_k
    from holdfast.selection.chosen import (
        EnsembleMember,
        build_candidate,
        build_chosen,
        read_ensemble,
        write_chosen,
    )
    from holdfast.selection.evaluation import Evaluation
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
    from holdfast.selection.recommending import Recommendation
    from holdfast.selection.record import MemberRecord, Recipe
    from holdfast.selection.selected import Row, Selection, read_selections
    from holdfast.selection.selecting import select_model
    from holdfast.selection.selector import ModelSelector
    from holdfast.selection.soup import greedy_soup, uniform_soup
    from holdfast.selection.tasting import Soup, Trial

_HOMES = {
    "Averaged": "averaging",
    "Candidate": "candidates",
    "Constraint": "ranking",
    "EnsembleMember": "chosen",
    "Evaluation": "evaluation",
    "EvaluationError": "evidence",
    "MemberRecord": "record",
    "ModelSelector": "selector",
    "ParetoSet": "ranking",
    "Ranked": "ranking",
    "Ranking": "ranking",
    "Recalibration": "averaging",
    "Recipe": "record",
    "RecipeCheck": "rebuilding",
    "Recommendation": "recommending",
    "Row": "selected",
    "Selection": "selected",
    "Soup": "tasting",
    "Trial": "tasting",
    "average": "averaging",
    "average_state": "averaging",
    "build_candidate": "chosen",
    "build_chosen": "chosen",
    "greedy_soup": "soup",
    "last_k": "choosing",
    "pareto_set": "ranking",
    "rank_checkpoints": "ranking",
    "read_ensemble": "chosen",
    "read_recipe": "rebuilding",
    "read_selections": "selected",
    "rebuild": "rebuilding",
    "select_model": "selecting",
    "smoothed": "ranking",
    "spaced": "choosing",
    "top_k": "choosing",
    "uniform_soup": "soup",
    "verify_recipe": "rebuilding",
    "write_chosen": "chosen",
}

__all__ = [
    "Averaged",
    "Candidate",
    "Constraint",
    "EnsembleMember",
    "Evaluation",
    "EvaluationError",
    "MemberRecord",
    "ModelSelector",
    "ParetoSet",
    "Ranked",
    "Ranking",
    "Recalibration",
    "Recipe",
    "RecipeCheck",
    "Recommendation",
    "Row",
    "Selection",
    "Soup",
    "Trial",
    "average",
    "average_state",
    "build_candidate",
    "build_chosen",
    "greedy_soup",
    "last_k",
    "pareto_set",
    "rank_checkpoints",
    "read_ensemble",
    "read_recipe",
    "read_selections",
    "rebuild",
    "select_model",
    "smoothed",
    "spaced",
    "top_k",
    "uniform_soup",
    "verify_recipe",
    "write_chosen",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
