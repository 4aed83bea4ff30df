"""Which candidate to deploy, and why, in words that claim no more than the test set shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from holdfast.selection.costs import Cost
from holdfast.stats import BestOf, Standing, SufficientStatistics, best_of

Use: TypeAlias = Literal["quality", "latency-critical"]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A candidate for a use. tied_with: others among those considered that may be as good.

    evidence: whether the test set separates it from all others considered.
    """

    use: Use
    candidate: str
    reason: str
    tied_with: tuple[str, ...]
    evidence: bool


def recommend(
    statistics: Mapping[str, SufficientStatistics],
    costs: Mapping[str, Cost],
    overall: BestOf,
    *,
    resamples: int,
) -> tuple[Recommendation, Recommendation]:
    """For quality: the best score. Latency-critical: the best score among the cheapest to serve.

    A tie is never broken by luck alone without saying so; of candidates tied with the best the
    score is still the best guess.
    """
    quality = _for_quality(overall, costs)
    cheapest = min(cost.forward_passes for cost in costs.values())
    small = {
        name: found for name, found in statistics.items() if costs[name].forward_passes == cheapest
    }
    among = best_of(small, level=overall.level, resamples=resamples, seed=overall.seed)
    return quality, _for_latency(among, overall, costs)


def _for_quality(overall: BestOf, costs: Mapping[str, Cost]) -> Recommendation:
    winner = overall.best
    tied = tuple(name for name in overall.tie_set if name != winner)
    reason = _scored(overall)
    cheaper = [n for n in tied if costs[n].forward_passes < costs[winner].forward_passes]
    if cheaper:
        reason += (
            f"; {cheaper[0]} may be as good for {costs[cheaper[0]].forward_passes} forward pass "
            f"instead of {costs[winner].forward_passes}"
        )
    return Recommendation("quality", winner, reason, tied, not tied)


def _for_latency(among: BestOf, overall: BestOf, costs: Mapping[str, Cost]) -> Recommendation:
    winner = among.best
    tied = tuple(name for name in among.tie_set if name != winner)
    passes = costs[winner].forward_passes
    latency = costs[winner].latency
    timed = "" if latency is None else f", {latency.median_ms:.3g} ms a request"
    cost = f"{passes} forward pass{'es' if passes > 1 else ''}{timed}"
    if winner == overall.best:
        reason = f"{_scored(overall)}, and nothing is cheaper ({cost})"
    else:
        reason = f"{_scored(among)} of those with {cost}; {_given_up(winner, overall, costs)}"
    return Recommendation("latency-critical", winner, reason, tied, not tied)


def _scored(found: BestOf) -> str:
    """What may be said of the winner."""
    if len(found.standings) == 1:
        return "the only candidate"
    tied = [name for name in found.tie_set if name != found.best]
    if not tied:
        return f"better than all others at the {found.level:g} level"
    return f"the best score, but no evidence of a difference from {_listed(tied)}"


def _given_up(winner: str, overall: BestOf, costs: Mapping[str, Cost]) -> str:
    standing = _standing(winner, overall)
    best = overall.best
    slower = ""
    mine, other = costs[winner].latency, costs[best].latency
    if mine is not None and other is not None and mine.median_ms > 0:
        slower = f", which takes {other.median_ms / mine.median_ms:.1f} times as long"
    if standing.tied:
        return f"no evidence that {best} is better{slower}"
    return f"it gives up {abs(standing.delta_to_best):.2g} points against {best}{slower}"


def _standing(name: str, overall: BestOf) -> Standing:
    return next(standing for standing in overall.standings if standing.name == name)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]
