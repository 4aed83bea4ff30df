"""How long a decoded sequence may become."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LengthRule:
    """Most tokens of a sequence, with end mark: factor x source tokens + extra, at most longest.

    Raises ConfigError if that leaves no token.
    """

    longest: int
    factor: float = 1.5
    extra: int = 8

    def __post_init__(self) -> None:
        if self.longest < 1 or self.factor < 0 or self.extra < 0:
            raise ConfigError(f"{self} lets no sequence be decoded")

    def limits(self, source: NDArray[np.int64], pad: int) -> NDArray[np.int64]:
        """For each row of source ids [rows, source], padding not counted: int64 (rows,)."""
        lengths = np.count_nonzero(source != pad, axis=1)
        wanted = np.floor(self.factor * lengths).astype(np.int64) + self.extra
        return np.asarray(np.minimum(wanted, self.longest))
