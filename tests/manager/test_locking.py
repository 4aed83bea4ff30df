"""One process writes a run; everybody reads it."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from manager_helpers import new_manager, new_session

from holdfast.errors import LockedError


def forked(work: Callable[[], int]) -> int:
    """The exit status of `work`, run in a forked child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_lock_is_taken_at_the_first_save_and_given_back_by_close(tmp_path: Path) -> None:
    """Constructing, listing and resuming lock nothing."""
    manager = new_manager(tmp_path, new_session())
    lock = tmp_path / ".holdfast-lock"
    manager.resume(verbose=False)
    assert not lock.exists()
    manager.save(0, 1)
    assert lock.exists()
    manager.close()
    assert not lock.exists()
    manager.save(0, 2)
    assert lock.exists()


def test_a_second_process_cannot_save_or_prune_but_reads(tmp_path: Path) -> None:
    """It is told who writes; loading, listing, recording and pinning go on."""
    manager = new_manager(tmp_path, new_session())
    manager.save(0, 1, {"val_loss": 1.0})

    def work() -> int:
        other = new_manager(tmp_path, new_session(1))
        with pytest.raises(LockedError, match=f"written by process {os.getppid()} on "):
            other.save(0, 2)
        with pytest.raises(LockedError):
            other.prune()
        other.load()
        other.record(1, {"bleu": 20.0})
        other.pin(1, "good")
        return len(other.checkpoints())

    assert forked(work) == 1
    assert manager.checkpoints()[0].pinned == "good"
    assert manager.save(0, 2, {"val_loss": 0.5}) is not None


def test_a_forked_child_does_not_hold_its_parents_lock(tmp_path: Path) -> None:
    """The very manager that saves in the parent is refused in a child, and harms nothing."""
    manager = new_manager(tmp_path, new_session())
    manager.save(0, 1)

    def work() -> int:
        with pytest.raises(LockedError):
            manager.save(0, 2)
        manager.close()
        return 0

    assert forked(work) == 0
    assert (tmp_path / ".holdfast-lock").exists()
    assert manager.save(0, 2) is not None


def test_a_dead_writers_lock_and_leftovers_are_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next writer says from whom it took over, and removes what was half made."""

    def work() -> int:
        manager = new_manager(tmp_path, new_session())
        manager.save(0, 1)
        manager._context.run.stage("half")
        os.kill(os.getpid(), signal.SIGKILL)
        return 1

    assert forked(work) == -signal.SIGKILL
    hidden = {path.name for path in tmp_path.glob(".holdfast-*")}
    assert len(hidden) == 2
    manager = new_manager(tmp_path, new_session(1))
    manager.resume(verbose=False)
    manager.save(0, 2)
    assert "took over the lock of process" in caplog.text
    assert {path.name for path in tmp_path.glob(".holdfast-*")} == {".holdfast-lock"}
    assert [info.global_step for info in manager.checkpoints()] == [1, 2]


def test_managers_of_one_process_share_the_lock(tmp_path: Path) -> None:
    """A notebook that makes a second manager is not locked out by its first."""
    first, second = new_manager(tmp_path, new_session()), new_manager(tmp_path, new_session(1))
    first.save(0, 1)
    second.resume(verbose=False)
    second.save(0, 2)
    first.close()
    assert (tmp_path / ".holdfast-lock").exists()
    second.close()
    assert not (tmp_path / ".holdfast-lock").exists()
