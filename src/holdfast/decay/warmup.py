"""Bounds on a constant decay while the run is young, so that the initial weights are forgotten."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from holdfast.errors import ConfigError


class Warmup(ABC):
    """A bound on the decay that rises towards 1."""

    __slots__ = ()

    @abstractmethod
    def bound(self, age: int) -> float:
        """The most the decay may be. age: steps counted before this one, 0 for the first."""


@dataclass(frozen=True, slots=True)
class InverseGamma(Warmup):
    """1 - (1 + age / gamma) ** -power: 0 at the first step, so that it takes over the weights.

    power 2/3 reaches 0.999 after 31.6 thousand steps and 0.9999 after a million; 3/4 after 10 and
    215 thousand.
    """

    gamma: float = 1.0
    power: float = 2 / 3

    def __post_init__(self) -> None:
        if not (self.gamma > 0 and self.power > 0):
            raise ConfigError("gamma and power of a warm-up must be above zero")

    def bound(self, age: int) -> float:
        """See `Warmup`."""
        return 1.0 - float((1.0 + age / self.gamma) ** -self.power)


@dataclass(frozen=True, slots=True)
class CountRatio(Warmup):
    """(1 + age) / (10 + age): 0.1 at the first step, 0.9 after eighty."""

    offset: int = 10

    def __post_init__(self) -> None:
        if self.offset < 1:
            raise ConfigError("offset of a warm-up must be at least 1")

    def bound(self, age: int) -> float:
        """See `Warmup`."""
        return (1 + age) / (self.offset + age)
