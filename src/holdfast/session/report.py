"""What a load or resume did, for programs and for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from holdfast.session.checklist import Line, render
from holdfast.values import CheckpointInfo


@dataclass(frozen=True)
class Loaded:
    """One checkpoint restored. values: the dict `load` returns; read: a component by name.

    run_state: all of the component "run", what only the manager understands included.
    """

    info: CheckpointInfo | None
    values: Mapping[str, Any]
    lines: tuple[Line, ...]
    components: tuple[str, ...]
    read: Callable[[str], Any]
    run_state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ResumeReport:
    """What `resume` did. False in a condition if it was a fresh start.

    info: the checkpoint resumed from, None on a fresh start. values: what `load` would return.
    passed_over: the newer checkpoints that could not be used, with the reason for each.
    quarantined: damaged ones that were renamed, old name -> new name. lines: the checklist.
    """

    place: str
    info: CheckpointInfo | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[Line, ...] = ()
    passed_over: tuple[str, ...] = ()
    quarantined: Mapping[str, str] = field(default_factory=dict)
    run_state: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return not self.fresh

    @property
    def fresh(self) -> bool:
        """Whether there was nothing to resume from."""
        return not self.values

    @property
    def epoch(self) -> int:
        """Epoch of the checkpoint, 0 on a fresh start."""
        return int(self.values.get("epoch", 0))

    @property
    def global_step(self) -> int:
        """Global step of the checkpoint, 0 on a fresh start."""
        return int(self.values.get("global_step", 0))

    @property
    def extra_state(self) -> Any:
        """The `extra_state` given to `save`, None if there was none."""
        return self.values.get("extra_state")

    @property
    def metrics_history(self) -> list[dict[str, Any]]:
        """Every metrics record up to the checkpoint, oldest first."""
        return list(self.values.get("metrics_history", []))

    @property
    def checklist(self) -> str:
        """The checklist as text."""
        if self.fresh:
            heading = f"Fresh start: {self.place} holds no {'usable' if self.passed_over else ''}"
            return render(f"{heading.rstrip()} checkpoint yet.", (), self.passed_over)
        source = self.info.name if self.info is not None else self.place
        heading = f"Resumed from {source} (epoch {self.epoch}, global step {self.global_step})"
        return render(heading, self.lines, self.passed_over)

    def print(self, stream: TextIO | None = None) -> None:
        """Write the checklist to `stream`, standard output by default."""
        (stream or sys.stdout).write(self.checklist + "\n")
