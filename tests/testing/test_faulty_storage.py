"""The faulty storage: without faults a storage like any other, with them exactly as announced."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from holdfast.errors import NoSpaceError, SaveError
from holdfast.storage import MemoryRun
from holdfast.testing.faulty_storage import (
    Fault,
    FaultyRun,
    StoppedError,
    delay,
    fail,
    stop,
    tear,
)
from holdfast.testing.storage_contract import StorageContract, commit, content

OLD, NEW = {"file": b"old"}, {"file": b"newer", "manifest": b"{}"}


class TestFaultyRunWithoutFaults(StorageContract):
    """With nothing to go wrong the contract is kept."""

    @pytest.fixture
    def run(self) -> FaultyRun:
        """An empty run with room for a mebibyte."""
        return FaultyRun(MemoryRun(capacity_bytes=1 << 20))


def full() -> Exception:
    """A disk that filled up."""
    return NoSpaceError("full", needed_bytes=1, available_bytes=0)


def test_the_log_names_every_operation() -> None:
    """Operations are numbered over the run and what it staged and opened."""
    run = FaultyRun(MemoryRun())
    commit(run, "a", OLD)
    content(run, "a")
    assert run.log == ["stage a", "write file", "publish", "abort", "open a", "list", "read file"]
    assert run.operations == 7


@pytest.mark.parametrize("lasting", [False, True])
def test_the_nth_operation_fails(lasting: bool) -> None:
    """Exactly the one announced, or that one and all after it, with the error asked for."""
    inner = MemoryRun()
    run = FaultyRun(inner, fail(2, lasting=lasting, error=full))
    with pytest.raises(NoSpaceError):
        commit(run, "a", OLD)
    assert inner.names() == []
    if lasting:
        with pytest.raises(NoSpaceError):
            run.names()
    else:
        assert run.names() == []


def test_torn_writes_leave_half() -> None:
    """A torn file or line shows its first half; a torn commit is committed but unacknowledged."""
    inner = MemoryRun()
    run = FaultyRun(inner, tear(2), tear(4))
    with run.stage("a") as staged:
        with pytest.raises(SaveError):
            staged.write_bytes("file", b"abcdef")
        staged.write_blocks("other", 2, [b"12"])
        with pytest.raises(SaveError):
            staged.publish()
    assert content(inner, "a") == {"file": b"abc", "other": b"12"}
    with pytest.raises(SaveError):
        FaultyRun(inner, tear(1)).append_line("history.jsonl", b"line")
    assert inner.read_lines("history.jsonl") == [b"li"]
    run = FaultyRun(inner, tear(2))
    with run.stage("b") as staged, pytest.raises(SaveError):
        staged.write_blocks("file", 7, [b"12", b"34567"])
    assert run.log == ["stage b", "write file", "abort"]


def test_a_delayed_operation_is_done() -> None:
    """A delay waits as told and changes nothing else."""
    waited: list[float] = []
    run = FaultyRun(MemoryRun(), delay(1, 2.5, lasting=True, wait=waited.append))
    commit(run, "a", OLD)
    assert waited == [2.5] * 4
    assert Fault("delay", 1).wait is time.sleep


def test_pointers_and_aborts_never_raise() -> None:
    """What must not raise by the contract does not, however it fails."""
    run = FaultyRun(MemoryRun(), fail(1, lasting=True))
    assert not run.point("latest", "a")
    staged = FaultyRun(MemoryRun(), fail(2, lasting=True)).stage("a")
    staged.abort()


FAULTS: list[Callable[[int], Fault]] = [fail, lambda at: fail(at, lasting=True), tear, stop]


@pytest.mark.parametrize("fault", FAULTS, ids=["fail", "fail and stay", "tear", "stop"])
def test_a_commit_stopped_anywhere_is_whole_or_absent(fault: Callable[[int], Fault]) -> None:
    """Whatever the operation at which it goes wrong, the checkpoint is all there or not at all."""
    number = 0
    while True:
        number += 1
        inner = MemoryRun()
        commit(inner, "old", OLD)
        run = FaultyRun(inner, fault(number))
        with contextlib.suppress(SaveError, StoppedError):
            commit(run, "new", NEW)
        assert content(inner, "old") == OLD
        if "new" in inner.names():
            assert content(inner, "new") == NEW
        if run.operations < number:
            break
    assert number > 4
