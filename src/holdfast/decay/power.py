"""Power-function profiles: width to exponent and back, and how much two profiles overlap.

The profile of an average at time t is p(tau) = (gamma + 1) tau**gamma / t**(gamma + 1) for
0 <= tau <= t: what share of the average the weights of time tau have. Karras et al., arXiv
2312.02696, section 3 and appendix C.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from holdfast.errors import ConfigError

FloatArray: TypeAlias = npt.NDArray[np.float64]

SIGMA_MAX = 12.0**-0.5


@dataclass(frozen=True, slots=True)
class Profile:
    """A power-function average at one moment. time: in any unit, the same for all compared."""

    time: float
    gamma: float


def sigma_of_gamma(gamma: float) -> float:
    """Relative width: sqrt((gamma + 1) / ((gamma + 2)**2 (gamma + 3)))."""
    return math.sqrt((gamma + 1.0) / ((gamma + 2.0) ** 2 * (gamma + 3.0)))


def gamma_of_sigma(sigma_rel: float) -> float:
    """The exponent >= 0 whose profile has this relative width.

    The largest real root of gamma**3 + 7 gamma**2 + (16 - s) gamma + (12 - s), s = sigma_rel**-2.
    Raises ConfigError unless 0 < sigma_rel <= 12**-0.5, the width of the plain mean.
    """
    if not 0.0 < sigma_rel <= SIGMA_MAX * (1 + 1e-12):
        raise ConfigError(
            f"No average has the relative width {sigma_rel!r}",
            fix=f"give one above 0 and at most {SIGMA_MAX:.4f}, which is the plain mean of the run",
        )
    square = sigma_rel**-2.0
    roots = np.roots([1.0, 7.0, 16.0 - square, 12.0 - square])
    root = float(max(roots.real[np.abs(roots.imag) < 1e-6 * (1.0 + np.abs(roots.real))]))
    for _ in range(4):
        value = ((root + 7.0) * root + 16.0 - square) * root + 12.0 - square
        root -= value / ((3.0 * root + 14.0) * root + 16.0 - square)
    return max(0.0, root)


def overlap(left: list[Profile], right: list[Profile]) -> FloatArray:
    """Inner products of profiles, float64 [left, right]."""
    t_a = np.array([profile.time for profile in left])[:, None]
    g_a = np.array([profile.gamma for profile in left])[:, None]
    t_b = np.array([profile.time for profile in right])[None, :]
    g_b = np.array([profile.gamma for profile in right])[None, :]
    exponent = np.where(t_a < t_b, g_b, -g_a)
    scale = (g_a + 1.0) * (g_b + 1.0) / ((g_a + g_b + 1.0) * np.maximum(t_a, t_b))
    return np.asarray(scale * (t_a / t_b) ** exponent, dtype=np.float64)
