"""The numbers recorded for each item that is served."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.decoding import Hypothesis
from holdfast.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0)
_SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_PROBABILITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True, slots=True)
class Feature:
    """One number of each item, by a name that metrics may have ([a-z0-9_]).

    bounds: upper ends of the buckets it is counted in, ascending. Raises ConfigError otherwise.
    """

    name: str
    help: str
    bounds: tuple[float, ...]

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ConfigError(
                f"{self.name[:80]!r} cannot be the name of a feature",
                fix="use small letters, digits and underscores",
            )
        if not self.bounds or sorted(set(self.bounds)) != list(self.bounds):
            raise ConfigError(f"The bounds of {self.name} are not ascending: {self.bounds}")


SEQUENCE_FEATURES = (
    Feature("input_tokens", "Tokens of the input", _LENGTHS),
    Feature("unknown_rate", "Share of the input's words that the vocabulary lacks", _SHARES),
    Feature("output_tokens", "Tokens of the output", _LENGTHS),
    Feature("confidence", "Geometric mean probability of the output's tokens", _PROBABILITIES),
)


def sequence_features(
    source: Sequence[int], hypothesis: Hypothesis, unknown_rate: float
) -> tuple[float, ...]:
    """The values of `SEQUENCE_FEATURES` of one decoded sequence."""
    return (
        float(len(source)),
        unknown_rate,
        float(len(hypothesis.tokens)),
        hypothesis.confidence,
    )
