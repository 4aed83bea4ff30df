"""A save whose n-th system call fails says so, loses nothing, and the next one works."""

from __future__ import annotations

import os
import shutil
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from os_faults import FAULTS, SHORT, Faults, failing
from proof_ground import Tell
from proof_sequence import BEYOND, STYLES, SYNC, Style, Training, begin, new_training
from proof_world import World, between, leftovers, look

from holdfast.errors import HoldfastError
from holdfast.manifest import checkpoint_name


@dataclass
class Trials:
    """What was tried and found."""

    tried: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)


def cases(calls: dict[str, int]) -> Iterator[tuple[str, str, int, bool]]:
    """Every error of every function at every one of its calls, passing and lasting."""
    for error, functions in FAULTS.items():
        for function in functions:
            for number in range(1, calls.get(function, 0) + 1):
                yield error, function, number, False
                if error != SHORT and number % 3 == 1:
                    yield error, function, number, True


class Matrix:
    """Saves and rotates once per case, in a copy of the same run folder."""

    def __init__(self, ground: Path, style: Style = SYNC) -> None:
        self._style = style
        self._folder, self._before = ground / "run", ground / "before"
        begin(self._folder, style)
        shutil.copytree(self._folder, self._before, symlinks=True)
        training = self._reset()
        self._world_before = look(training.run)[0]
        whole = Faults(self._folder)
        with failing(whole):
            training.save(5)
            training.manager.wait()
        if style.goes_on:
            modes = [cost.mode for cost in training.manager.stats.saves]
            assert modes[-1] == "overlapped", "the faults would strike nothing beside training"
        training.manager.close()
        self._world_after = look(training.run)[0]
        self.cases = list(cases(whole.calls))

    def _reset(self) -> Training:
        """A session that has saved step 4, so that its next save can overlap."""
        shutil.rmtree(self._folder)
        shutil.copytree(self._before, self._folder, symlinks=True)
        training = new_training(self._folder, self._style)
        training.manager.resume(verbose=False)
        training.save(4)
        training.manager.wait()
        if not self._style.goes_on:
            training.manager.close()
        return training

    def run(self, chosen: list[tuple[str, str, int, bool]]) -> Trials:
        """Try these cases."""
        trials = Trials()
        for case in chosen:
            error, function, number, lasting = case
            faults = Faults(self._folder, function, number, error, lasting)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                problems = self._try(faults, trials)
            trials.problems += [f"{case}: {problem}" for problem in problems]
            trials.tried += 1
        return trials

    def _try(self, faults: Faults, trials: Trials) -> list[str]:
        open_before = _open_files()
        training = self._reset()
        training.go_to(5 + BEYOND if self._style.goes_on else 5)
        state = training.state()
        error, acknowledged = None, None
        with failing(faults):
            try:
                path = training.save(5)
                training.manager.wait()
                acknowledged = path
            except HoldfastError as caught:
                error = caught
            except OSError as caught:
                return [f"not an error of ours: {caught!r}"]
        training.manager.close()
        problems = [] if faults.struck else ["the fault did not strike"]
        if training.state() != state:
            problems.append("training state changed")
        if error is not None:
            trials.refused += 1
            if not (error.what and error.where):
                problems.append(f"the error does not say what and where: {error}")
        if _open_files() != open_before:
            problems.append("a descriptor leaked")
        found, wrong = look(training.run)
        problems += wrong + between(self._world_before, self._world_after, found)
        if acknowledged is not None and acknowledged.name not in found:
            problems.append("an acknowledged checkpoint is not there")
        return problems + self._go_on(training)

    def _go_on(self, training: Training) -> list[str]:
        """The same save again, which has to succeed now, and a sweep."""
        training.save(5)
        training.manager.close()
        training.run.sweep()
        problems = [f"left over: {name}" for name in leftovers(self._folder)]
        found, wrong = look(training.run)
        if not self._went_on(found):
            problems.append(f"the save after the fault made {sorted(found)}")
        return problems + wrong

    def _went_on(self, found: World) -> bool:
        """Whether the world is that of a save without a fault.

        A save in the background whose last flush failed has its name already, and the name of its
        repetition is promised before anything is known of its content: it is a namesake.
        """
        again = f"{checkpoint_name(0, 5)}_2"
        if self._style.goes_on and again in found:
            new = self._world_after[checkpoint_name(0, 5)]
            return found[again] == new and checkpoint_name(0, 1) in found
        return found == self._world_after


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def show(trials: Trials, style: str, tell: Tell) -> None:
    """Tell the figures; there must be nothing wrong."""
    tell(
        f"faults, {style}: {trials.tried} failing calls: {len(trials.problems)} problems; "
        f"{trials.refused} saves refused with an error, {trials.tried - trials.refused} went on"
    )
    assert not trials.problems, "\n".join(trials.problems[:20])
    assert threading.active_count() < 20


@pytest.mark.parametrize("style", STYLES)
def test_a_sample_of_faults_loses_nothing(style: str, ground: Path, tell: Tell) -> None:
    """Every error of every function, each at several of its calls."""
    matrix = Matrix(ground, STYLES[style])
    chosen = matrix.cases[:: max(1, len(matrix.cases) // 70)]
    assert {case[:2] for case in matrix.cases} <= {
        (error, function) for error, functions in FAULTS.items() for function in functions
    }
    show(matrix.run(chosen), style, tell)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("style", STYLES)
def test_no_fault_at_any_call_loses_anything(style: str, ground: Path, tell: Tell) -> None:
    """Every error of every function at every one of its calls."""
    matrix = Matrix(ground, STYLES[style])
    show(matrix.run(matrix.cases), style, tell)
