"""Kills a real process at its system calls and looks at what it left. Prints figures as JSON.

Run as a program: it forks a child for every kill, which only a process without threads should do.
The operations of the sequence are done one after the other; before each, the folder is copied, and
children that inherit the live training do this one operation, each killed at another stop.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from proof_aftermath import aftermath
from proof_ptrace import run_to_stop
from proof_sequence import (
    BESIDE_TRAINING,
    EARLIER,
    NAIVE,
    OPERATIONS,
    STYLES,
    SYNC,
    InTurn,
    Operation,
    Style,
    Training,
    begin,
    silently,
)
from proof_world import between, history_problems, leftovers, look, precious


@dataclass
class Figures:
    """What a campaign tried and found."""

    operations: int = 0
    states: int = 0
    stops: int = 0
    swept: int = 0
    worlds: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def campaign(
    ground: Path, operations: list[Operation], states: int | None, seed: int, style: Style = SYNC
) -> Figures:
    """Kill at every stop of every operation, or at `states` stops spread evenly over them all."""
    torch.set_num_threads(1)
    folder, before = ground / "run", ground / "before"
    training = begin(folder, style)
    chooser = random.Random(seed)
    figures = Figures(operations=len(operations))
    share = None if states is None else states // len(operations)
    for label, operation in operations:
        shutil.copytree(folder, before, symlinks=True)
        _kill_one_operation(training, operation, before, label, share, chooser, figures)
        _reset(folder, before)
        silently(operation, training)
        shutil.rmtree(before)
    return figures


def _kill_one_operation(
    training: Training,
    operation: Callable[[Training], object],
    before: Path,
    label: str,
    share: int | None,
    chooser: random.Random,
    figures: Figures,
) -> None:
    """Let children do the operation, each killed at another stop, and judge what each leaves."""
    folder = training.folder
    worlds, wrong = _worlds(training, operation, before)
    whole = run_to_stop(lambda: silently(operation, training), None)
    figures.problems += [f"{label}, not killed: {text}" for text in wrong]
    if whole.status != 0:
        figures.problems.append(f"{label}: the operation itself failed")
    figures.stops += whole.stops
    stops = range(1, whole.stops + 1)
    chosen = stops if share is None or share >= len(stops) else chooser.sample(stops, share)
    for stop in chosen:
        _reset(folder, before)
        run_to_stop(lambda: silently(operation, training), stop)
        problems = _judge(training, worlds, figures)
        problems += [f"{what} is gone" for what in precious(before) - precious(folder)]
        figures.problems += [f"{label}, killed at stop {stop}: {text}" for text in problems]
        figures.states += 1
    _reset(folder, before)


def _worlds(
    training: Training, operation: Callable[[Training], object], before: Path
) -> tuple[list[dict[str, str]], list[str]]:
    """The world before the operation and after each of its parts, and what is wrong with them."""
    parts = operation.parts if isinstance(operation, InTurn) else (operation,)
    world, problems = look(training.run)
    worlds = [world]
    for count in range(1, len(parts) + 1):
        some = InTurn(*parts[:count])
        run_to_stop(lambda some=some: silently(some, training), None)  # type: ignore[misc]
        world, wrong = look(training.run)
        worlds.append(world)
        problems += wrong
        _reset(training.folder, before)
    return worlds, problems


def _judge(training: Training, worlds: list[dict[str, str]], figures: Figures) -> list[str]:
    """Everything wrong with what a killed process left, and with going on from there."""
    folder, run = training.folder, training.run
    before, after = worlds[0], worlds[-1]
    found, problems = look(run)
    wrong = [between(*pair, found) for pair in pairwise(worlds)]
    problems += sorted(wrong, key=len)[0]
    problems += history_problems(run, EARLIER)
    figures.worlds["before" if found == before else "after" if found == after else "between"] += 1
    figures.swept += bool(leftovers(folder))
    return problems + aftermath(folder, training.style)


def _reset(folder: Path, before: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(before, folder, symlinks=True)


def main() -> None:
    """Run a campaign as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ground", type=Path)
    parser.add_argument("--states", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--style", choices=STYLES, default=SYNC.name)
    options = parser.parse_args()
    style = STYLES[options.style]
    operations = BESIDE_TRAINING if style.goes_on else OPERATIONS
    if options.naive:
        operations = NAIVE
    figures = campaign(options.ground, operations, options.states, options.seed, style)
    json.dump(vars(figures), sys.stdout)


if __name__ == "__main__":
    main()
