"""How much of an average is kept at each step: constant decay, half-life, power function, mean.

A schedule is a frozen value. It knows nothing of tensors: it maps two readings of the clock to the
share of the old average that is kept between them, and the rest is the weight of the new weights.
Shares multiply, so an average that is updated every k steps uses the product of k of them and has
exactly the decay that was asked for.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from holdfast.decay.clock import Clock, Unit
from holdfast.decay.power import gamma_of_sigma, sigma_of_gamma
from holdfast.decay.warmup import Warmup
from holdfast.errors import ConfigError


class Schedule(ABC):
    """The share of an average that is kept."""

    __slots__ = ()

    @property
    def clock_unit(self) -> Unit:
        """The unit it measures time in."""
        return "steps"

    @abstractmethod
    def kept(self, before: Clock, after: Clock) -> float:
        """Share of the old average, 0 to 1, kept by the one step from `before` to `after`."""

    def fold(self, pending: float, updates: int) -> float:
        """The share to use in an update. pending: product of `kept` since the last one. updates:
        how many there have been.
        """
        return pending


@dataclass(frozen=True, slots=True)
class ConstantDecay(Schedule):
    """average <- decay * average + (1 - decay) * weights, at every step.

    warmup: a bound on the decay while the run is young. start: steps during which the average
    simply is the weights. Raises ConfigError unless decay is within 0 and 1.
    """

    decay: float = 0.9999
    warmup: Warmup | None = None
    start: int = 0

    def __post_init__(self) -> None:
        _number("decay", self.decay, low=0.0, high=1.0)
        if type(self.start) is not int or self.start < 0:
            raise ConfigError(f"start is {self.start!r}, not a number of steps")

    def kept(self, before: Clock, after: Clock) -> float:
        """See `Schedule`."""
        age = before.steps - self.start
        if age < 0:
            return 0.0
        return self.decay if self.warmup is None else min(self.decay, self.warmup.bound(age))


@dataclass(frozen=True, slots=True)
class HalfLife(Schedule):
    """Weights count half as much for every `half_life` steps or samples that have passed since.

    In samples it means the same whatever the batch size and the gradient accumulation. ramp_up: the
    half-life is at most this share of the run so far, so that the initial weights are forgotten
    early (Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models",
    arXiv 2312.02696, use 0.09 or 0.05); None leaves it out.
    """

    half_life: float
    unit: Unit = "samples"
    ramp_up: float | None = None

    def __post_init__(self) -> None:
        _number("half_life", self.half_life, above=0.0)
        if self.ramp_up is not None:
            _number("ramp_up", self.ramp_up, above=0.0)
        _check_unit(self.unit)

    @property
    def clock_unit(self) -> Unit:
        """See `Schedule`."""
        return self.unit

    def kept(self, before: Clock, after: Clock) -> float:
        """See `Schedule`."""
        now = after.read(self.unit)
        passed = now - before.read(self.unit)
        life = self.half_life
        if self.ramp_up is not None:
            life = min(life, self.ramp_up * now)
        return 0.0 if life == 0.0 else 2.0 ** (-passed / life)


@dataclass(frozen=True, slots=True, init=False)
class PowerFunction(Schedule):
    """Weights of time tau count at time t in proportion to tau ** gamma (arXiv 2312.02696, sec. 3).

    sigma_rel: width of that profile, its standard deviation relative to the length of the run; or
    give gamma. gamma=0 is the plain mean of the whole run. Averages of any other width can be
    reconstructed afterwards from stored averages of two: see `holdfast.posthoc`.
    Raises ConfigError for a width that no gamma >= 0 has (above 0.2887), or that is not above 0.
    """

    sigma_rel: float = field(compare=False)
    gamma: float
    unit: Unit

    def __init__(
        self, sigma_rel: float | None = None, unit: Unit = "steps", *, gamma: float | None = None
    ) -> None:
        if (sigma_rel is None) == (gamma is None):
            raise ConfigError("A power function is given by sigma_rel or by gamma, one of the two")
        if gamma is None:
            gamma = gamma_of_sigma(0.0 if sigma_rel is None else sigma_rel)
        _number("gamma", gamma, low=0.0)
        _check_unit(unit)
        object.__setattr__(self, "gamma", float(gamma))
        width = sigma_of_gamma(gamma) if sigma_rel is None else float(sigma_rel)
        object.__setattr__(self, "sigma_rel", width)
        object.__setattr__(self, "unit", unit)

    @property
    def clock_unit(self) -> Unit:
        """See `Schedule`."""
        return self.unit

    def kept(self, before: Clock, after: Clock) -> float:
        """See `Schedule`."""
        now, then = after.read(self.unit), before.read(self.unit)
        if then <= 0:
            return 0.0
        return math.exp((self.gamma + 1.0) * math.log1p((then - now) / now))


@dataclass(frozen=True, slots=True)
class SegmentMean(Schedule):
    """The plain mean of all updates since the previous checkpoint."""

    def kept(self, before: Clock, after: Clock) -> float:
        """See `Schedule`; the share depends on the number of updates only."""
        return 1.0

    def fold(self, pending: float, updates: int) -> float:
        """See `Schedule`."""
        return updates / (updates + 1)


def _number(
    name: str,
    value: object,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
) -> None:
    fine = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if fine and isinstance(value, (int, float)):
        fine = (
            (low is None or value >= low)
            and (high is None or value <= high)
            and (above is None or value > above)
        )
    if not fine:
        bounds = [
            *([] if low is None else [f"at least {low:g}"]),
            *([] if high is None else [f"at most {high:g}"]),
            *([] if above is None else [f"above {above:g}"]),
        ]
        raise ConfigError(f"{name} is {value!r}", fix=f"give a number {' and '.join(bounds)}")


def _check_unit(unit: object) -> None:
    if unit not in ("steps", "samples"):
        raise ConfigError(f"{unit!r} is no unit of time", fix='use "steps" or "samples"')
