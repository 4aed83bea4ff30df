"""Running the training process, killing it in the middle, and starting it again."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.demo.events import Event, Finished, Saved, Started, Stepped, read_event
from holdfast.demo.worker import start_worker
from holdfast.errors import HoldfastError

_STEPS_AFTER_SAVE = 3
_CHECKPOINTS_BEFORE_KILL = 2


@dataclass
class Losses:
    """The loss of every step by number, to compare a repeated step with its first time."""

    _seen: dict[int, float] = field(default_factory=dict)
    repeated: int = 0
    different: list[int] = field(default_factory=list)

    def add(self, step: int, loss: float) -> None:
        """Note a loss; one of a step seen before is compared bit for bit."""
        if step in self._seen:
            self.repeated += 1
            if struct.pack("<d", self._seen[step]) != struct.pack("<d", loss):
                self.different.append(step)
        self._seen[step] = loss

    @property
    def last_step(self) -> int:
        """The furthest step reached, 0 before the first."""
        return max(self._seen, default=0)


@dataclass
class KillMoment:
    """When to kill: past `after_seconds` of training, with two checkpoints, well after a save."""

    after_seconds: float
    save_every_seconds: float
    saves: int = 0
    _saved_step: int = 0
    _saved_seconds: float = 0.0
    _seconds: float = 0.0

    def reached(self, event: Event) -> bool:
        """Take in an event; whether this is the moment."""
        if isinstance(event, Saved):
            self.saves += 1
            self._saved_step, self._saved_seconds = event.step, self._seconds
        if not isinstance(event, Stepped):
            return False
        self._seconds = event.seconds
        return (
            event.seconds >= self.after_seconds
            and self.saves >= _CHECKPOINTS_BEFORE_KILL
            and event.step >= self._saved_step + _STEPS_AFTER_SAVE
            and event.seconds >= self._saved_seconds + 0.4 * self.save_every_seconds
        )


@dataclass
class Witness:
    """What was seen of the training processes, for the report.

    killed: the last step of the killed one, None if none was. resumed: where the next one stood.
    """

    losses: Losses = field(default_factory=Losses)
    saves: list[Saved] = field(default_factory=list)
    killed: Stepped | None = None
    resumed: Started | None = None
    finished: bool = False

    def see(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, Stepped):
            self.losses.add(event.step, event.loss)
        elif isinstance(event, Saved):
            self.saves.append(event)
        elif isinstance(event, Started) and not event.fresh:
            self.resumed = event
        elif isinstance(event, Finished):
            self.finished = True


def train_in_worker(
    plan_file: Path,
    threads: int,
    witness: Witness,
    show: Callable[[Event | str], None],
    *,
    kill: KillMoment | None = None,
) -> bool:
    """Run one training process to its end, or to the moment of the kill; True if it was killed.

    show: called with every event, and with every line that is none. Raises HoldfastError if the
    process ends otherwise than by finishing or by our kill; it never outlives this call.
    """
    process = start_worker(plan_file, threads)
    killed = False
    try:
        assert process.stdout is not None
        for line in process.stdout:
            event = read_event(line)
            if event is None:
                if not killed:
                    show(line.rstrip("\n"))
                continue
            witness.see(event)
            if not killed:
                show(event)
            if kill is not None and not killed and kill.reached(event):
                process.kill()
                killed = True
            if killed and isinstance(event, Stepped):
                witness.killed = event
        status = process.wait()
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if not killed and (status != 0 or not witness.finished):
        raise HoldfastError(
            f"The training process ended with status {status}",
            where=str(plan_file),
            fix="its own message stands above; `python -m holdfast.demo.worker` with this plan "
            "goes on from the last checkpoint",
        )
    return killed
