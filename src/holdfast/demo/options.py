"""What `holdfast demo` may be asked."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from holdfast.errors import ConfigError

THREADS_MAX = 4


@dataclass(frozen=True)
class DemoOptions:
    """Options of one demo run; every default works on any machine without a network.

    minutes: training time, apart from evaluation and saves. data: None or "embedded", "tatoeba",
    "gettext:de", a corpus folder or a .tsv file. threads: of torch, by default one per core this
    process may use, at most four. seed: of the corpus, the weights, dropout and the batch order.
    direction: ISO 639-1 codes. out: folder of the run, new or empty; None makes one under runs/
    named after the time. pairs: train on at most so many sentence pairs. kill: SIGKILL
    the training process once in the middle. steps: train for so many optimizer steps, which
    makes the same run on every machine, and not for minutes. export: release the chosen model.

    Raises ConfigError for values that cannot work.
    """

    minutes: float = 5.0
    data: str | None = None
    threads: int | None = None
    seed: int = 1
    direction: str = "de-en"
    out: Path | None = None
    pairs: int | None = None
    kill: bool = True
    steps: int | None = None
    export: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 24 * 60:
            raise ConfigError(f"--minutes is {self.minutes}; it must be over 0 and at most a day")
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise ConfigError(f"--threads is {self.threads}; it must be at least 1")
        if not 0 <= self.seed < 1 << 32:
            raise ConfigError(f"--seed is {self.seed}; it must be from 0 to {(1 << 32) - 1}")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"--steps is {self.steps}; it must be at least 1")
        if self.pairs is not None and self.pairs < 100:
            raise ConfigError(f"{self.pairs} sentence pairs are too few; use at least 100")

    @property
    def thread_count(self) -> int:
        """Threads to compute with."""
        return self.threads or min(THREADS_MAX, usable_cores())

    def run_folder(self) -> Path:
        """Where this run goes. Raises ConfigError if `out` holds something already."""
        if self.out is not None:
            if self.out.exists() and (not self.out.is_dir() or any(self.out.iterdir())):
                raise ConfigError(
                    "The folder for the demo run is not empty",
                    where=str(self.out),
                    fix="give another --out, or remove it",
                )
            return self.out
        return Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S")


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
