"""Saves that failed and did not stop the run: counted, told at once, and told again at the end."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from holdfast.errors import SaveError

_LOG = logging.getLogger("holdfast")


@dataclass
class Failures:
    """How many saves were tried and failed, and the last failure."""

    place: str
    tried: int = 0
    failed: int = 0
    last_step: int = 0
    last_error: SaveError | None = None
    last_saved_step: int | None = None

    def note_success(self, step: int) -> None:
        """A save went well."""
        self.tried += 1
        self.last_saved_step = step

    def note(self, step: int, error: SaveError) -> str:
        """A save failed; returns the sentence to warn with."""
        self.tried, self.failed = self.tried + 1, self.failed + 1
        self.last_step, self.last_error = step, error
        return (
            f"The save at step {step} failed and training goes on (failure {self.failed} of "
            f"{self.tried} saves): {error}"
        )

    def report(self) -> None:
        """Say once, in the log and so by default on standard error, how many saves failed."""
        if not self.failed:
            return
        newest = (
            "no checkpoint was saved at all"
            if self.last_saved_step is None
            else f"the last one saved is of step {self.last_saved_step}"
        )
        _LOG.error(
            "%s: %d of %d saves FAILED, the last at step %d; %s. The last reason: %s",
            self.place,
            self.failed,
            self.tried,
            self.last_step,
            newest,
            self.last_error,
        )
        self.failed = 0
