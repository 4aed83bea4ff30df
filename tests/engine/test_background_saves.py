"""Saves in the background: their order, their limits, and that no failure is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from holdfast.engine.background import BackgroundSaves, Pending, WhenBusy
from holdfast.errors import NoSpaceError, SaveError, WaitTimeoutError


class Desk:
    """Hands in saves that wait to be let go, and notes what became of them."""

    def __init__(self, pending_max: int = 1, when_busy: WhenBusy = "wait") -> None:
        self.saves = BackgroundSaves(pending_max=pending_max, when_busy=when_busy)
        self.go = threading.Event()
        self.began = threading.Event()
        self.written: list[str] = []
        self.dropped: dict[str, str] = {}

    def submit(self, name: str, error: Exception | None = None) -> str | None:
        """Ask for room, then hand in; returns the reason if there is none."""
        reason = self.saves.admit()
        if reason is None:
            self.saves.submit(
                Pending(name, self._writer(name, error), lambda why: self._drop(name, why))
            )
        return reason

    def _writer(self, name: str, error: Exception | None) -> Callable[[], None]:
        def write() -> None:
            self.began.set()
            assert self.go.wait(60)
            if error is not None:
                raise error
            self.written.append(name)

        return write

    def _drop(self, name: str, why: str) -> None:
        self.dropped[name] = why


def test_saves_are_written_in_the_order_they_were_handed_in() -> None:
    """An older save never commits after a newer one."""
    desk = Desk(pending_max=20)
    names = [str(number) for number in range(20)]
    for name in names:
        desk.submit(name)
    assert desk.saves.pending == tuple(names)
    desk.go.set()
    desk.saves.wait()
    assert desk.written == names
    assert desk.saves.pending == ()


def test_by_default_a_save_waits_for_the_one_under_way() -> None:
    """Memory stays bounded because the newcomer waits."""
    desk = Desk()
    desk.submit("first")
    second = threading.Thread(target=desk.submit, args=("second",))
    second.start()
    second.join(0.05)
    assert second.is_alive()
    assert desk.saves.pending == ("first",)
    desk.go.set()
    second.join(30)
    desk.saves.wait()
    assert desk.written == ["first", "second"]


def test_a_save_can_be_skipped_with_the_reason() -> None:
    """when_busy="skip" gives up the new save and says which one was in the way."""
    desk = Desk(when_busy="skip")
    assert desk.submit("first") is None
    assert desk.submit("second") == "first was still being written"
    desk.go.set()
    desk.saves.wait()
    assert desk.written == ["first"]


def test_the_oldest_that_was_not_begun_can_be_dropped() -> None:
    """when_busy="drop" keeps the newest; the one being written is always finished."""
    desk = Desk(pending_max=2, when_busy="drop")
    desk.submit("first")
    assert desk.began.wait(30)
    desk.submit("second")
    desk.submit("third")
    assert desk.dropped.keys() == {"second"}
    desk.go.set()
    desk.saves.wait()
    assert desk.written == ["first", "third"]


def test_a_failure_is_raised_once_at_the_next_call_and_the_rest_goes_on() -> None:
    """Errors keep their type, and later saves are written all the same."""
    desk = Desk(pending_max=3)
    desk.go.set()
    full = NoSpaceError("full", needed_bytes=1, available_bytes=0)
    desk.submit("first", full)
    desk.submit("second")
    desk.saves.drain()
    with pytest.raises(NoSpaceError):
        desk.saves.raise_failures()
    desk.saves.raise_failures()
    assert desk.written == ["second"]


def test_several_failures_are_told_in_one_error() -> None:
    """None is lost if nobody asked in between."""
    desk = Desk(pending_max=2)
    desk.go.set()
    desk.submit("first", SaveError("the first reason"))
    desk.submit("second", ValueError("the second reason"))
    with pytest.raises(SaveError, match=r"(?s)2 background saves.*first reason.*second reason"):
        desk.saves.wait()


def test_waiting_can_be_bounded_and_names_what_is_pending() -> None:
    """wait(timeout) raises and the save goes on."""
    desk = Desk()
    desk.submit("first")
    with pytest.raises(WaitTimeoutError, match="first"):
        desk.saves.wait(0.01)
    desk.go.set()
    desk.saves.wait()
    assert desk.written == ["first"]


def test_waiting_inside_a_save_does_not_lock_up() -> None:
    """A callback that waits returns at once."""
    saves = BackgroundSaves()
    saves.submit(Pending("one", saves.wait, lambda why: None))
    saves.wait(30)


def test_the_thread_ends_when_there_is_nothing_to_write() -> None:
    """No thread is left behind, however often saves come."""
    desk = Desk()
    desk.go.set()
    before = threading.active_count()
    for number in range(30):
        desk.submit(str(number))
        desk.saves.wait()
    assert threading.active_count() == before
    assert len(desk.written) == 30
