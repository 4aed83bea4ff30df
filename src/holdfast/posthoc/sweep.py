"""Which EMA length is best: reconstruct a range from one finished run and evaluate each."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.posthoc.recipe import Recipe, read_recipes
from holdfast.posthoc.reconstruct import ema_recipe
from holdfast.posthoc.snapshots import find_snapshots, open_run
from holdfast.stats import BestOf, SufficientStatistics, best_of

Evaluate: TypeAlias = "Callable[[dict[str, Tensor]], SufficientStatistics | float]"

DEFAULT_LENGTHS = (0.02, 0.03, 0.05, 0.075, 0.10, 0.15, 0.20, 0.25)


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One length. score: of its evaluation. low, high: its confidence interval, None if unknown.

    best: it has the best score. tied: it may be the truly best one; only the best, if unknown.
    """

    sigma_rel: float
    recipe: Recipe
    score: float
    low: float | None
    high: float | None
    best: bool
    tied: bool


@dataclass(frozen=True, slots=True)
class Sweep:
    """Points by length, and the comparison behind the intervals where there was one."""

    points: tuple[SweepPoint, ...]
    comparison: BestOf | None
    higher_is_better: bool

    @property
    def best(self) -> SweepPoint:
        """The length with the best score."""
        return next(point for point in self.points if point.best)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: a row per length, and the comparison."""
        rows = [
            {
                "sigma_rel": point.sigma_rel,
                "score": point.score,
                "low": point.low,
                "high": point.high,
                "best": point.best,
                "tied": point.tied,
                "predicted_error": point.recipe.error,
                "coefficient_sum": point.recipe.coefficient_sum,
            }
            for point in self.points
        ]
        comparison = None if self.comparison is None else self.comparison.to_dict()
        return {
            "higher_is_better": self.higher_is_better,
            "points": rows,
            "comparison": comparison,
        }

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def plot_data(self) -> dict[str, list[float | None]]:
        """Columns to plot: x is the relative width, y the score, low and high its interval."""
        return {
            "x": [point.sigma_rel for point in self.points],
            "y": [point.score for point in self.points],
            "low": [point.low for point in self.points],
            "high": [point.high for point in self.points],
        }

    def __str__(self) -> str:
        lines = ["sigma_rel     score  interval               profile error"]
        for point in self.points:
            interval = "" if point.low is None else f"{point.low:.5g} to {point.high:.5g}"
            mark = "  best" if point.best else "  tied with the best" if point.tied else ""
            lines.append(
                f"{point.sigma_rel:9g} {point.score:9.5g}  {interval:<22} "
                f"{point.recipe.error:.1e}{mark}"
            )
        return "\n".join(lines)


def sweep_ema(
    run: str | os.PathLike[str],
    evaluate: Evaluate,
    lengths: Sequence[float] = DEFAULT_LENGTHS,
    *,
    until: str | None = None,
    component: str = "ema",
    max_error: float = 0.1,
    higher_is_better: bool = True,
    level: float = 0.05,
    seed: int = 0,
    together: int = 1,
) -> Sweep:
    """Reconstruct EMAs of several relative widths from one run, evaluate each, and compare.

    evaluate: gets a state dict and returns statistics per test example (`holdfast.stats`), from
    which intervals and the tie set come, or a plain score. lengths whose predicted profile error
    exceeds `max_error` are refused before anything is read. higher_is_better: for plain scores.
    level: of the tie set. together: how many state dicts to hold at once; each pass over the run
    reads the snapshots once and makes that many.
    Raises ConfigError for lengths that cannot be reconstructed, or scores that are NaN.
    """
    opened = open_run(run)
    snapshots = find_snapshots(opened, until=until, component=component)
    widths = sorted(set(lengths))
    recipes = {width: ema_recipe(opened, snapshots, width) for width in widths}
    _refuse_inexact(recipes, max_error)
    if together < 1:
        raise ConfigError(f"together is {together}, which is below 1")
    results: dict[float, SufficientStatistics | float] = {}
    for begin in range(0, len(widths), together):
        chunk = widths[begin : begin + together]
        states = read_recipes([recipes[width] for width in chunk])
        for width in chunk:
            results[width] = evaluate(states.pop(0))
    detailed = {w: r for w, r in results.items() if isinstance(r, SufficientStatistics)}
    if len(detailed) == len(results):
        return _compared(recipes, detailed, level, seed)
    if detailed:
        raise ConfigError(
            "evaluate returned statistics for some lengths and plain scores for others"
        )
    scores = {w: float(r) for w, r in results.items() if not isinstance(r, SufficientStatistics)}
    return _plain(recipes, scores, higher_is_better)


def _refuse_inexact(recipes: dict[float, Recipe], max_error: float) -> None:
    if not recipes:
        raise ConfigError("There are no lengths to sweep")
    bad = [recipe for recipe in recipes.values() if recipe.error > max_error]
    if bad:
        raise ConfigError(
            f"{len(bad)} of {len(recipes)} lengths cannot be reconstructed well enough: "
            + "; ".join(map(str, bad)),
            fix="leave them out, keep more snapshots (plan_snapshots says how many), or raise "
            "max_error",
        )


def _compared(
    recipes: dict[float, Recipe],
    statistics: dict[float, SufficientStatistics],
    level: float,
    seed: int,
) -> Sweep:
    found = best_of(
        {f"{width:g}": one for width, one in statistics.items()}, level=level, seed=seed
    )
    standings = {standing.name: standing for standing in found.standings}
    points = []
    for width, recipe in recipes.items():
        standing = standings[f"{width:g}"]
        points.append(
            SweepPoint(
                width,
                recipe,
                standing.score,
                standing.interval.low,
                standing.interval.high,
                best=standing.name == found.best,
                tied=standing.tied,
            )
        )
    return Sweep(tuple(points), found, found.higher_is_better)


def _plain(
    recipes: dict[float, Recipe], scores: dict[float, float], higher_is_better: bool
) -> Sweep:
    unusable = [width for width, score in scores.items() if math.isnan(score)]
    if unusable:
        raise ConfigError(f"The score of length {unusable[0]:g} is NaN", fix="mend the evaluation")
    choose = max if higher_is_better else min
    winner = choose(scores, key=scores.__getitem__)
    points = tuple(
        SweepPoint(width, recipe, scores[width], None, None, width == winner, width == winner)
        for width, recipe in recipes.items()
    )
    return Sweep(points, None, higher_is_better)
