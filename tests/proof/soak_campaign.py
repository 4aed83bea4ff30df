"""Saves without end, beside readers and random kills, and counts what is lost or leaks.

Run as a program. A writer is forked again whenever it was killed; readers list and prove all the
time. Every acknowledged save comes over a pipe, so that it is known what must be there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from proof_aftermath import aftermath
from proof_sequence import STYLES, SYNC, Style, new_training, state_at
from proof_world import look

from holdfast.engine.catalog import read_catalog
from holdfast.engine.checkpoint_files import open_files
from holdfast.errors import HoldfastError
from holdfast.storage import LocalRun

KEPT = 3
_SETTLED_SAVES = 20
_GROWTH_BYTES_MAX = 8 << 20


@dataclass
class Figures:
    """What was done and found."""

    saves: int = 0
    kills: int = 0
    reads: int = 0
    vanished: int = 0
    longest_life: int = 0
    growth_bytes: int = 0
    overlapped: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process holds."""

    descriptors: int
    threads: int
    bytes: int

    @classmethod
    def now(cls) -> Resources:
        """Those of this process."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        threads = len(os.listdir("/proc/self/task"))
        size = pages * os.sysconf("SC_PAGE_SIZE")
        return cls(len(os.listdir("/proc/self/fd")), threads, size)


def write_forever(folder: Path, style: Style, last: int, pipe: int) -> list[str]:
    """Resume, then save step after step up to `last`, each acknowledged once it is committed.

    Returns what leaked.
    """
    training = new_training(
        folder,
        style,
        save_total_limit=KEPT,
        on_commit=lambda _, info: os.write(pipe, f"{info.global_step}\n".encode()),
    )
    step = training.manager.resume(verbose=False).global_step
    first: Resources | None = None
    saves = 0
    while step < last:
        step += 1
        training.save(step)
        saves += 1
        if saves == _SETTLED_SAVES:
            training.manager.wait()
            first = Resources.now()
    training.manager.wait()
    overlapped = sum(cost.mode == "overlapped" for cost in training.manager.stats.saves)
    os.write(pipe, f"overlapped {overlapped}\n".encode())
    training.manager.close()
    return [] if first is None else leaks(first, Resources.now(), pipe)


def leaks(before: Resources, after: Resources, pipe: int) -> list[str]:
    """What a writer holds more of than it should."""
    growth = after.bytes - before.bytes
    os.write(pipe, f"grew {growth}\n".encode())
    problems = []
    if after.descriptors > before.descriptors:
        problems.append(f"descriptors grew from {before.descriptors} to {after.descriptors}")
    if after.threads > before.threads:
        problems.append(f"threads grew from {before.threads} to {after.threads}")
    if growth > _GROWTH_BYTES_MAX:
        problems.append(f"memory grew by {growth} bytes")
    return problems


def read_forever(folder: Path, pipe: int) -> list[str]:
    """List the run and prove its newest checkpoint, over and over, until killed."""
    run = LocalRun(folder)
    while True:
        problem = read_once(run)
        os.write(pipe, f"{problem}\n".encode())


def read_once(run: LocalRun) -> str:
    """Empty if the newest checkpoint is whole; `vanished` if it was discarded meanwhile."""
    name = ""
    try:
        catalog = read_catalog(run)
        for lost in catalog.unreadable:
            if lost.name in run.names():
                return f"unreadable: {lost.name}: {lost.error}"
        if catalog.newest is None:
            return "vanished"
        name = catalog.newest.name
        with open_files(run, name) as files:
            damage = files.damage()
    except HoldfastError as error:
        damage = [str(error)]
    if damage and name not in run.names():
        return "vanished"
    return "; ".join(damage).replace("\n", " ")


class Child:
    """A forked process whose lines come over a pipe."""

    def __init__(self, work: Callable[[int], list[str]]) -> None:
        reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _in_child(work, writing)
        os.close(writing)
        self._stream = os.fdopen(reading)
        self.lines: list[str] = []
        self._collector = threading.Thread(target=self._collect)

    def collect(self) -> None:
        """Begin to take in its lines; not before all forks that are to have no thread."""
        self._collector.start()

    def _collect(self) -> None:
        self.lines.extend(line.rstrip("\n") for line in self._stream)

    def end(self, number: int | None = None) -> list[str]:
        """Kill it with the signal, or wait for its end; return its lines."""
        if number is not None:
            os.kill(self.pid, number)
        self._collector.join()
        os.waitpid(self.pid, 0)
        self._stream.close()
        return self.lines


def _in_child(work: Callable[[int], list[str]], pipe: int) -> None:
    problems = ["it died of an exception"]
    try:
        problems = work(pipe)
    finally:
        os.write(pipe, "".join(f"problem {text}\n" for text in problems).encode())
        os._exit(0)


def soak(ground: Path, saves: int, kills: int, readers: int, seed: int, style: Style) -> Figures:
    """Save up to step `saves` in `kills` lives that end by SIGKILL and a long one that does not."""
    torch.set_num_threads(1)
    folder = ground / "run"
    beginner = new_training(folder, style, save_total_limit=KEPT)
    beginner.save(1)
    beginner.manager.close()
    chooser = random.Random(seed)
    figures = Figures()
    life_saves = max(1, saves // 2 // max(1, kills))
    for life in range(kills + 1):
        last = saves if life == kills else 10**9
        reading = [Child(lambda pipe: read_forever(folder, pipe)) for _ in range(readers)]
        writer = Child(lambda pipe, last=last: write_forever(folder, style, last, pipe))  # type: ignore[misc]
        for child in (*reading, writer):
            child.collect()
        if life < kills:
            _wait_for(writer, life_saves, chooser.random() * 0.05)
        lines = writer.end(signal.SIGKILL if life < kills else None)
        _count_readers(reading, figures)
        _count_writer(folder, style, lines, figures)
        figures.kills += life < kills
    figures.problems += aftermath(folder, style)
    entries = len(os.listdir(folder))
    if entries > KEPT + 6:
        figures.problems.append(f"the run folder has {entries} entries: {os.listdir(folder)}")
    return figures


def _wait_for(writer: Child, lines: int, more_seconds: float) -> None:
    """Until the writer has saved so often, and a random moment more."""
    deadline = time.monotonic() + 120
    while len(writer.lines) < lines and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(more_seconds)


def _count_readers(readers: list[Child], figures: Figures) -> None:
    for reader in readers:
        # The line it was killed in may be half a line.
        for line in reader.end(signal.SIGKILL)[:-1]:
            figures.reads += 1
            figures.vanished += line == "vanished"
            if line not in ("", "vanished"):
                figures.problems.append(f"a reader saw: {line}")


def _count_writer(folder: Path, style: Style, lines: list[str], figures: Figures) -> None:
    """What was acknowledged has to be there, whole, and the newest."""
    steps = [int(line) for line in lines if line.isdigit()]
    figures.saves += len(steps)
    figures.longest_life = max(figures.longest_life, len(steps))
    figures.problems += [line for line in lines if line.startswith("problem")]
    figures.growth_bytes += sum(int(line.split()[1]) for line in lines if line.startswith("grew"))
    figures.overlapped += sum(int(line.split()[1]) for line in lines if line.startswith("over"))
    run = LocalRun(folder)
    _, wrong = look(run)
    figures.problems += wrong
    newest = read_catalog(run).newest
    step = -1 if newest is None else newest.manifest.global_step
    if steps and step < steps[-1]:
        figures.problems.append(f"step {steps[-1]} was acknowledged, the newest is {step}")
    if not any(info.global_step == 1 for info in read_catalog(run).infos):
        figures.problems.append("the best checkpoint is gone")
    survivor = new_training(folder, style, save_total_limit=KEPT)
    resumed = survivor.manager.resume(verbose=False).global_step
    survivor.manager.close()
    if survivor.state() != state_at(resumed, style):
        figures.problems.append(f"step {resumed} does not come back as it was")


def main() -> None:
    """Soak as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ground", type=Path)
    parser.add_argument("--saves", type=int, default=50)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--style", choices=STYLES, default=SYNC.name)
    options = parser.parse_args()
    figures = soak(
        options.ground,
        options.saves,
        options.kills,
        options.readers,
        options.seed,
        STYLES[options.style],
    )
    json.dump(vars(figures), sys.stdout)


if __name__ == "__main__":
    main()
