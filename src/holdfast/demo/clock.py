"""The time budget of training, which survives the process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class TrainingClock:
    """Counts the seconds spent training and nothing else.

    The count is part of every checkpoint, so a resumed run goes on with what was left of the budget
    at that checkpoint. step_seconds: what every tick counts, however long it took: then the run is
    the same on every machine. now: a monotonic clock in seconds.
    """

    def __init__(
        self,
        budget_seconds: float,
        *,
        step_seconds: float | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.budget_seconds = budget_seconds
        self._step_seconds = step_seconds
        self.seconds = 0.0
        self._now = now
        self._mark = now()

    @property
    def over(self) -> bool:
        """Whether the budget is used up."""
        return self.seconds >= self.budget_seconds

    def start(self) -> None:
        """Count from this moment on."""
        self._mark = self._now()

    def tick(self) -> float:
        """Count the time since the last tick, start or pause; returns it in seconds."""
        now = self._now()
        passed = now - self._mark if self._step_seconds is None else self._step_seconds
        self._mark = now
        self.seconds += passed
        return passed

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out the time spent inside."""
        try:
            yield
        finally:
            self.start()

    def passed(self, interval_seconds: float, since_seconds: float) -> bool:
        """Whether a whole multiple of the interval lies between `since_seconds` and now."""
        return int(self.seconds // interval_seconds) > int(since_seconds // interval_seconds)

    def state_dict(self) -> dict[str, Any]:
        """The seconds counted so far."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting from a stored count."""
        self.seconds = float(state["seconds"])
        self.start()
