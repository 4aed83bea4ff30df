"""How many snapshots a wanted accuracy needs, and what they cost on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.decay.combine import combine_profiles
from holdfast.decay.power import Profile, gamma_of_sigma
from holdfast.errors import ConfigError

_COUNT_MAX = 512


@dataclass(frozen=True, slots=True)
class SnapshotPlan:
    """count: snapshots, evenly spaced, the last at the end of the run. every: steps between them.

    tracked: widths of the averages kept while training. errors: predicted relative profile error by
    wanted width, at the end of the run. coefficient_sum: the largest among them. bytes: of the
    averages alone, all snapshots together.
    """

    count: int
    every: float
    tracked: tuple[float, ...]
    errors: dict[float, float]
    coefficient_sum: float
    bytes: int

    def __str__(self) -> str:
        worst = max(self.errors, key=self.errors.__getitem__)
        widths = ", ".join(f"{sigma:g}" for sigma in self.tracked)
        return (
            f"{self.count} snapshots x {len(self.tracked)} profiles (sigma_rel {widths}), one "
            f"every {self.every:g} steps, {self.bytes / 1e9:.3g} GB: error at most "
            f"{self.errors[worst]:.2g} (at sigma_rel {worst:g}), rounding multiplied by at most "
            f"{self.coefficient_sum:.3g}"
        )


def plan_snapshots(
    sigmas: Sequence[float] = (0.05, 0.10, 0.15, 0.20),
    *,
    max_error: float = 0.01,
    steps: int,
    parameters: int,
    tracked: Sequence[float] = (0.05, 0.10),
) -> SnapshotPlan:
    """The fewest evenly spaced snapshots from which every wanted width comes out well enough.

    sigmas: relative widths that may be wanted at the end of the run. max_error: relative error of
    the profile, 0.01 for one per cent. steps: length of the run. parameters: of the model; averages
    are stored as 4-byte floats. tracked: widths averaged while training.
    Raises ConfigError if 512 snapshots are not enough.
    """
    if not sigmas or steps < 1 or parameters < 0:
        raise ConfigError("A plan needs at least one width, a number of steps and of parameters")
    low, high = 0, 1
    while not _is_enough(high, sigmas, tracked, max_error):
        low, high = high, 2 * high
        if high > _COUNT_MAX:
            errors = snapshot_errors(_COUNT_MAX, sigmas, tracked)
            worst = max(errors, key=lambda sigma: errors[sigma][0])
            raise ConfigError(
                f"{_COUNT_MAX} snapshots leave an error of {errors[worst][0]:.2g} at width {worst}",
                fix="allow a larger max_error, or track a width nearer to those wanted",
            )
    while high - low > 1:
        middle = (low + high) // 2
        if _is_enough(middle, sigmas, tracked, max_error):
            high = middle
        else:
            low = middle
    found = snapshot_errors(high, sigmas, tracked)
    return SnapshotPlan(
        count=high,
        every=steps / high,
        tracked=tuple(tracked),
        errors={sigma: error for sigma, (error, _) in found.items()},
        coefficient_sum=max(total for _, total in found.values()),
        bytes=high * len(tracked) * parameters * 4,
    )


def snapshot_errors(
    count: int, sigmas: Sequence[float], tracked: Sequence[float] = (0.05, 0.10)
) -> dict[float, tuple[float, float]]:
    """Predicted profile error and sum of absolute coefficients by wanted width, at the end of a run
    with `count` evenly spaced snapshots of each tracked width. The length of the run drops out.
    """
    stored = [
        Profile(float(place), gamma_of_sigma(sigma))
        for sigma in tracked
        for place in range(1, count + 1)
    ]
    found = {}
    for sigma in sigmas:
        best = combine_profiles(stored, Profile(float(count), gamma_of_sigma(sigma)))
        found[sigma] = (best.error, best.coefficient_sum)
    return found


def _is_enough(
    count: int, sigmas: Sequence[float], tracked: Sequence[float], max_error: float
) -> bool:
    return all(error <= max_error for error, _ in snapshot_errors(count, sigmas, tracked).values())
