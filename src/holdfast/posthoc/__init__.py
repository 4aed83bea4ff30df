"""Averages made after training from those that checkpoints hold.

`plan_ema` and `plan_window` say from what an average would be made and how exact it would be;
`Recipe.read` makes it, tensor by tensor; `sweep_ema` evaluates a range of EMA lengths.
"""

from holdfast.posthoc.recipe import Recipe, read_recipes, stream_recipes
from holdfast.posthoc.reconstruct import plan_ema, plan_window
from holdfast.posthoc.snapshots import Snapshot, find_snapshots, lineage, open_run
from holdfast.posthoc.sweep import Sweep, SweepPoint, sweep_ema
from holdfast.posthoc.writing import write_recipe

__all__ = [
    "Recipe",
    "Snapshot",
    "Sweep",
    "SweepPoint",
    "find_snapshots",
    "lineage",
    "open_run",
    "plan_ema",
    "plan_window",
    "read_recipes",
    "stream_recipes",
    "sweep_ema",
    "write_recipe",
]
