"""Traffic to monitor: items with features like those of sentences."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from holdfast.monitor import SEQUENCE_FEATURES, Profile

NAMES = tuple(feature.name for feature in SEQUENCE_FEATURES)


def traffic(
    dice: np.random.Generator, count: int, *, length: float = 12.0, unknown: float = 0.03
) -> NDArray[np.float64]:
    """Items [count, 4]: lengths with ties, shares mostly zero, outputs that follow inputs."""
    inputs = 1 + dice.poisson(length, count)
    unknowns = dice.binomial(inputs, unknown) / inputs
    outputs = np.maximum(0, inputs + dice.integers(-3, 4, count))
    confidence = dice.beta(8, 2, count) * (1 - unknowns)
    return np.stack([inputs, unknowns, outputs, confidence], axis=1)


def profile_of(items: NDArray[np.float64]) -> Profile:
    """Their profile."""
    return Profile.capture(NAMES, items.tolist())
