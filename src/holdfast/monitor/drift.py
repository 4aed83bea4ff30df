"""Whether a window of requests still looks like the reference profile.

For each feature the two-sample Kolmogorov-Smirnov test: the largest distance between the two
empirical distribution functions, and its p-value from Kolmogorov's limit distribution at the
effective size nm/(n+m) (Smirnov, Annals of Mathematical Statistics 19, 1948). With ties, as among
lengths, the test errs on the safe side: true p-values are smaller. Over the features Holm's
correction, so that the chance of any alarm in a window without drift is at most the rate asked for,
however the features depend on one another.

The rate holds for a window of independent requests like those of the profile, on average over
profiles; one profile of n values is itself off by chance, which is little while n is several
windows. Requests that come in runs (one long document after another) are not independent: take
larger windows then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from holdfast.jsontext import Json
from holdfast.monitor.profile import Profile, Values
from holdfast.stats import holm

_TERMS = np.arange(1, 101)


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature in one window.

    distance: between the distribution functions, 0 to 1. p_value: corrected for the number of
    features. drifted: p_value at or below the false alarm rate. medians: of profile and window.
    """

    name: str
    distance: float
    p_value: float
    drifted: bool
    median_reference: float
    median: float


@dataclass(frozen=True, slots=True)
class DriftReport:
    """All features of one window. size: items in it. false_alarm_rate: per window, at most."""

    size: int
    false_alarm_rate: float
    features: tuple[FeatureDrift, ...]

    @property
    def drifted(self) -> bool:
        """Whether any feature drifted."""
        return any(one.drifted for one in self.features)

    def __str__(self) -> str:
        found = [
            f"{one.name} (median {one.median:.4g}, was {one.median_reference:.4g}; distance "
            f"{one.distance:.2f}, p {one.p_value:.1e})"
            for one in self.features
            if one.drifted
        ]
        head = f"window of {self.size}"
        return f"{head}: drift in {', '.join(found)}" if found else f"{head}: no drift"

    def to_dict(self) -> dict[str, Json]:
        """As plain values."""
        return {
            "size": self.size,
            "false_alarm_rate": self.false_alarm_rate,
            "drifted": self.drifted,
            "features": {
                one.name: {
                    "distance": one.distance,
                    "p_value": one.p_value,
                    "drifted": one.drifted,
                    "median_reference": one.median_reference,
                    "median": one.median,
                }
                for one in self.features
            },
        }


def compare_windows(
    profile: Profile, window: Mapping[str, Sequence[float] | Values], false_alarm_rate: float
) -> DriftReport:
    """Test the features that profile and window share; a feature without values is left out."""
    found = []
    for name, reference in profile.samples.items():
        values = np.asarray(window.get(name, ()), dtype=np.float32)
        values = np.sort(values[np.isfinite(values)])
        if len(values):
            distance = distribution_distance(reference, values)
            p_value = kolmogorov_p_value(distance, len(reference), len(values))
            medians = float(np.median(reference)), float(np.median(values))
            found.append((name, distance, p_value, *medians))
    adjusted = holm([p_value for _, _, p_value, _, _ in found]) if found else []
    features = tuple(
        FeatureDrift(name, distance, p_value, p_value <= false_alarm_rate, before, now)
        for (name, distance, _, before, now), p_value in zip(found, adjusted, strict=True)
    )
    size = max((len(values) for values in window.values()), default=0)
    return DriftReport(size, false_alarm_rate, features)


def distribution_distance(first: Values, second: Values) -> float:
    """The largest difference between the distribution functions of two sorted samples."""
    points = np.concatenate([first, second])
    below_first = np.searchsorted(first, points, side="right") / len(first)
    below_second = np.searchsorted(second, points, side="right") / len(second)
    return float(np.abs(below_first - below_second).max())


def kolmogorov_p_value(distance: float, first: int, second: int) -> float:
    """The chance of such a distance or a larger one between samples of one distribution."""
    scaled = distance * np.sqrt(first * second / (first + second))
    if scaled < 0.2:  # the series converges slowly where its sum is 1 to ten digits
        return 1.0
    series = 2.0 * np.sum((-1.0) ** (_TERMS - 1) * np.exp(-2.0 * _TERMS**2 * scaled**2))
    return float(min(max(series, 0.0), 1.0))
