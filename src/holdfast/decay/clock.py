"""What the age of an average is measured in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["steps", "samples"]


@dataclass(frozen=True, slots=True)
class Clock:
    """How far training has come. steps: optimizer steps that were carried out; skipped ones do not
    count. samples: training examples seen by those steps, 0 where nobody counted them.
    """

    steps: int = 0
    samples: int = 0

    def read(self, unit: Unit) -> int:
        """The time in one of the two units."""
        return self.steps if unit == "steps" else self.samples
