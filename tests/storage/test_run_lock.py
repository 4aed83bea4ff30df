"""The lock of a run folder among processes, with and without flock."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.errors import LockedError
from holdfast.storage import LocalRun
from holdfast.storage.holder import Holder, current_holder
from holdfast.storage.lock import LOCK_FILE, acquire

HOLD = (
    "import sys\nfrom holdfast.storage import LocalRun\n"
    "lock = LocalRun(sys.argv[1]).lock()\nprint('locked', flush=True)\nsys.stdin.read()\n"
)
FORK_AND_HOLD = (
    "import os, sys, time\nfrom holdfast.storage import LocalRun\n"
    "lock = LocalRun(sys.argv[1]).lock()\n"
    "child = os.fork()\n"
    "if child == 0:\n    print(os.getpid(), flush=True)\n    time.sleep(600)\n"
    "sys.stdin.read()\n"
)


def started(code: str, folder: Path) -> tuple[subprocess.Popen[bytes], bytes]:
    """A process that has printed its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def no_flock(fd: int, operation: int) -> None:
    """The system call on a file system that has no locks."""
    raise OSError(errno.ENOLCK, "No locks available")


def test_a_live_holder_is_named_and_a_clean_end_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The refusal says who, where and since when; after a clean end there is nothing to say."""
    process, line = started(HOLD, tmp_path)
    with process:
        assert line == b"locked"
        with pytest.raises(LockedError, match=rf"process {process.pid} on .+ \(since 20") as caught:
            LocalRun(tmp_path).lock()
        assert "What to do" in str(caught.value)
        process.communicate()
    assert process.returncode == 0
    assert not (tmp_path / LOCK_FILE).exists()
    LocalRun(tmp_path).lock().release()
    assert caplog.text == ""


def test_a_killed_holder_is_taken_over_from_with_a_message(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel has dropped the lock; the name left in the file says whose it was."""
    process, _ = started(HOLD, tmp_path)
    with process:
        process.kill()
    lock = LocalRun(tmp_path).lock()
    assert f"took over the lock of process {process.pid}" in caplog.text
    lock.release()


def test_a_child_that_outlives_the_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    """A stray DataLoader worker does not lock the run against its own restart."""
    process, child = started(FORK_AND_HOLD, tmp_path)
    with process:
        process.kill()
        process.wait()
        try:
            LocalRun(tmp_path).lock().release()
        finally:
            os.kill(int(child), signal.SIGKILL)


def test_a_lock_is_valid_until_released_or_taken_away(tmp_path: Path) -> None:
    """Deleting the file is noticed, and the lock can be had anew."""
    run = LocalRun(tmp_path)
    lock = run.lock()
    assert lock.valid
    (tmp_path / LOCK_FILE).unlink()
    assert [lock.valid] == [False]
    again = run.lock()
    lock.release()
    assert again.valid
    again.release()
    again.release()
    assert [lock.valid, again.valid] == [False, False]


def test_a_lock_that_nobody_holds_any_more_is_given_up(tmp_path: Path) -> None:
    """Forgetting to release is no leak: the lock goes with the last object that has it."""
    run = LocalRun(tmp_path)
    lock = run.lock()
    del lock
    assert not (tmp_path / LOCK_FILE).exists()


def left_by(holder: Holder, folder: Path) -> None:
    """Leave a lock file as that holder would."""
    (folder / LOCK_FILE).write_bytes(holder.to_bytes())


def test_without_flock_a_provably_dead_holder_is_taken_over_from(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An ended process of this boot, or any of an earlier boot of this host, is gone."""
    here = current_holder()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for holder in (
        Holder(here.host, here.boot, gone.pid, here.pid_namespace, 1, "then"),
        Holder(here.host, here.boot, here.pid, here.pid_namespace, here.started + 1, "then"),
        Holder(here.host, "00000000", here.pid, here.pid_namespace, here.started, "then"),
    ):
        left_by(holder, tmp_path)
        acquire(tmp_path, flock=no_flock).release()
    assert caplog.text.count("took over") == 3


def test_without_flock_a_holder_that_may_live_is_respected(tmp_path: Path) -> None:
    """A live process here, any on another host or in another container, and torn text."""
    here = current_holder()
    for holder in (
        here,
        Holder("elsewhere", here.boot, 1, here.pid_namespace, 1, "then"),
        Holder(here.host, here.boot, 999999999, "pid:[1]", 1, "then"),
    ):
        left_by(holder, tmp_path)
        with pytest.raises(LockedError):
            acquire(tmp_path, flock=no_flock)
    (tmp_path / LOCK_FILE).write_bytes(b'{"host": "x')
    with pytest.raises(LockedError, match="an unknown process"):
        acquire(tmp_path, flock=no_flock)
