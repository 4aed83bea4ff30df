"""Which combination of stored averages comes nearest to a wanted one, and how near."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.decay.power import FloatArray, Profile, overlap
from holdfast.errors import ConfigError

_CONDITION_MAX = 1e13


@dataclass(frozen=True, slots=True)
class Combination:
    """coefficients: one per stored average, in the order given; they sum to 1.

    error: distance of the combined profile from the wanted one, relative to the latter (L2).
    coefficient_sum: of absolute values; what rounding in the stored averages is multiplied by.
    """

    coefficients: tuple[float, ...]
    error: float
    coefficient_sum: float


def combine_profiles(stored: Sequence[Profile], wanted: Profile) -> Combination:
    """Least-squares combination of stored power-function profiles (arXiv 2312.02696, app. C).

    Only averages of times up to the wanted one take part, the others get coefficient 0: a snapshot
    from beyond would bring in weights that the wanted average has never seen. The normal equations
    are scaled to a unit diagonal, directions below 1e-13 of the largest are dropped, and the sum of
    the coefficients is held at 1, so that a weight that never changed is reconstructed exactly.
    Raises ConfigError if no stored average is old enough.
    """
    usable = [place for place, profile in enumerate(stored) if profile.time <= wanted.time]
    if not usable:
        raise ConfigError(
            f"No stored average is from time {wanted.time:g} or before",
            fix="ask for a later time, or store averages earlier in the run",
        )
    for place in usable:
        if stored[place] == wanted:
            exact = tuple(float(index == place) for index in range(len(stored)))
            return Combination(exact, 0.0, 1.0)
    chosen = [stored[place] for place in usable]
    solution, error = _solve(chosen, wanted)
    coefficients = np.zeros(len(stored))
    coefficients[usable] = solution
    return Combination(tuple(map(float, coefficients)), error, float(np.abs(coefficients).sum()))


def _solve(chosen: list[Profile], wanted: Profile) -> tuple[FloatArray, float]:
    gram, target = overlap(chosen, chosen), overlap(chosen, [wanted])[:, 0]
    norm = float(overlap([wanted], [wanted])[0, 0])
    scale = np.sqrt(np.diag(gram))
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    kept = values > values[-1] / _CONDITION_MAX

    def inverse(right: FloatArray) -> FloatArray:
        inner = vectors[:, kept].T @ (right / scale)
        return np.asarray((vectors[:, kept] @ (inner / values[kept])) / scale, dtype=np.float64)

    free, ones = inverse(target), inverse(np.ones_like(target))
    solution = free + ones * (1.0 - free.sum()) / ones.sum()
    squared = (solution @ gram @ solution - 2.0 * solution @ target + norm) / norm
    return solution, float(np.sqrt(max(0.0, squared)))
