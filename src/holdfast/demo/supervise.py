"""Running the training process, killing it in the middle, and starting it again."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.demo.events import Event, Finished, Saved, Stepped, read_event
from holdfast.errors import HoldfastError

_CHECKPOINTS_BEFORE_KILL = 2
_STEPS_AFTER_SAVE = 3
_SHARE_OF_INTERVAL = 0.4


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
    """When to kill: past `after_seconds` of training, with two checkpoints, well after a save.

    A machine too slow to make a few steps between two saves is killed after any step.
    """

    after_seconds: float
    save_every_seconds: float
    _saves: int = 0
    _saved_step: int = 0
    _saved_seconds: float = 0.0
    _seconds: float = 0.0

    def reached(self, event: Event) -> bool:
        """Take in an event; whether this is the moment."""
        if isinstance(event, Saved):
            self._saves += 1
            self._saved_step, self._saved_seconds = event.step, self._seconds
        if not isinstance(event, Stepped):
            return False
        self._seconds = event.seconds
        if event.seconds < self.after_seconds or self._saves < _CHECKPOINTS_BEFORE_KILL:
            return False
        return event.seconds >= self.after_seconds + 2 * self.save_every_seconds or (
            event.step >= self._saved_step + _STEPS_AFTER_SAVE
            and event.seconds >= self._saved_seconds + _SHARE_OF_INTERVAL * self.save_every_seconds
        )


@dataclass
class Witness:
    """What was seen of the training processes, for the report."""

    losses: Losses = field(default_factory=Losses)
    saves: list[Saved] = field(default_factory=list)
    finished: bool = False

    def see(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, Stepped):
            self.losses.add(event.step, event.loss)
        elif isinstance(event, Saved):
            self.saves.append(event)
        elif isinstance(event, Finished):
            self.finished = True


def start_worker(plan_file: Path, threads: int) -> subprocess.Popen[str]:
    """Start a worker with its standard output as a pipe of text lines.

    Passive waiting matters where cores are shared: threads that spin for work which others are
    computing have been seen to make a step ten times slower.
    """
    count = str(threads)
    environment = {
        **os.environ,
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "PYTHONIOENCODING": "utf-8",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "holdfast.demo.worker", str(plan_file)],
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        encoding="utf-8",
    )


def watch(
    process: subprocess.Popen[str],
    witness: Witness,
    show: Callable[[Event | str], None],
    *,
    kill: KillMoment | None = None,
) -> bool:
    """Follow a training process to its end, or to the moment of the kill; True if it was killed.

    show: called with every event, and with every line that is none. Raises HoldfastError if the
    process ends otherwise than by finishing or by our kill; it never outlives this call.
    """
    killed = False
    try:
        for line in process.stdout or ():
            event = read_event(line)
            if event is not None:
                witness.see(event)
            if killed:  # what the pipe still held: it happened, but it comes too late to show
                continue
            show(line.rstrip("\n") if event is None else event)
            if kill is not None and event is not None and kill.reached(event):
                process.kill()
                killed = True
        status = process.wait()
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if not killed and (status != 0 or not witness.finished):
        raise HoldfastError(
            f"The training process ended with status {status}",
            fix="its own message stands above; start the demo again in a new folder",
        )
    return killed
