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
from proof_sequence import Training, begin, new_training
from proof_world import between, leftovers, look

from holdfast.errors import HoldfastError


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

    def __init__(self, ground: Path) -> None:
        self._folder, self._before = ground / "run", ground / "before"
        begin(self._folder)
        shutil.copytree(self._folder, self._before, symlinks=True)
        self._world_before = look(self._training().run)[0]
        whole = Faults(self._folder)
        training = self._reset()
        with failing(whole):
            training.save(4)
        training.manager.close()
        self._world_after = look(training.run)[0]
        self.cases = list(cases(whole.calls))

    def _training(self) -> Training:
        return new_training(self._folder)

    def _reset(self) -> Training:
        shutil.rmtree(self._folder)
        shutil.copytree(self._before, self._folder, symlinks=True)
        training = self._training()
        training.manager.resume(verbose=False)
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
        training = self._reset()
        training.go_to(4)
        state, open_before = training.state(), _open_files()
        error, acknowledged = None, None
        with failing(faults):
            try:
                acknowledged = training.manager.save(0, 4, {"val_loss": 5.0})
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
        training.manager.save(0, 4, {"val_loss": 5.0})
        training.manager.close()
        training.run.sweep()
        problems = [f"left over: {name}" for name in leftovers(self._folder)]
        found, wrong = look(training.run)
        if found != self._world_after:
            problems.append(f"the save after the fault made {sorted(found)}")
        return problems + wrong


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def show(trials: Trials, tell: Tell) -> None:
    """Tell the figures; there must be nothing wrong."""
    tell(
        f"faults: {trials.tried} failing calls: {len(trials.problems)} problems; "
        f"{trials.refused} saves refused with an error, {trials.tried - trials.refused} went on"
    )
    assert not trials.problems, "\n".join(trials.problems[:20])
    assert threading.active_count() < 20


def test_a_sample_of_faults_loses_nothing(ground: Path, tell: Tell) -> None:
    """Every error of every function, each at several of its calls."""
    matrix = Matrix(ground)
    chosen = matrix.cases[:: max(1, len(matrix.cases) // 70)]
    assert {case[:2] for case in matrix.cases} <= {
        (error, function) for error, functions in FAULTS.items() for function in functions
    }
    show(matrix.run(chosen), tell)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_fault_at_any_call_loses_anything(ground: Path, tell: Tell) -> None:
    """Every error of every function at every one of its calls."""
    matrix = Matrix(ground)
    show(matrix.run(matrix.cases), tell)
