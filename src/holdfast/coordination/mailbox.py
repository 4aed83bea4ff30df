"""Messages that came, kept until their operation asks for them or is over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from holdfast.coordination.messages import Message


@dataclass(frozen=True, slots=True)
class Failure:
    """The rank to blame, and why."""

    rank: int
    reason: str


class Mailbox:
    """What has arrived at one rank, for all its operations. Safe for many threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._numbers: dict[str, int] = {}
        self._open: set[str] = set()
        self._held: dict[tuple[str, str], dict[int, bytes]] = {}
        self._failures: dict[str, Failure] = {}
        self._gone: dict[int, str] = {}

    def begin(self, kind: str) -> str:
        """Open the next operation of this kind and return its name, the same on every rank."""
        with self._changed:
            number = self._numbers.get(kind, 0)
            self._numbers[kind] = number + 1
            name = f"{kind}#{number}"
            self._open.add(name)
            return name

    def end(self, operation: str) -> None:
        """Forget it; what still comes for it is dropped."""
        with self._changed:
            self._open.discard(operation)
            self._failures.pop(operation, None)
            for key in [key for key in self._held if key[0] == operation]:
                del self._held[key]

    def put(self, message: Message) -> None:
        """Take a message in."""
        with self._changed:
            if self._is_over(message.operation):
                return
            if message.kind == "fail":
                reason = message.payload.decode("utf-8", "replace")
                self._failures.setdefault(message.operation, Failure(message.rank, reason))
            else:
                held = self._held.setdefault((message.operation, message.round), {})
                held[message.rank] = message.payload
            self._changed.notify_all()

    def blame(self, operation: str, failure: Failure, seconds: float) -> Failure:
        """The failure that the operation ends with: the first that rank 0 heard of.

        seconds: how long to wait for its word; then, and on rank 0 if it knows none, `failure`.
        """
        with self._changed:
            self._changed.wait_for(lambda: operation in self._failures or 0 in self._gone, seconds)
            return self._failures.setdefault(operation, failure)

    def failure(self, operation: str) -> Failure | None:
        """Why the operation has failed, if that is known."""
        with self._changed:
            return self._failures.get(operation)

    def lose(self, rank: int, reason: str) -> None:
        """A rank has ended: nothing more will come from it."""
        with self._changed:
            self._gone.setdefault(rank, reason)
            self._changed.notify_all()

    def collect(
        self, operation: str, round_name: str, ranks: range, timeout: float
    ) -> dict[int, bytes] | Failure:
        """Wait for a message of this round from each of `ranks`, or for a reason to give up."""
        key = (operation, round_name)

        def outcome() -> dict[int, bytes] | Failure | None:
            if operation in self._failures:
                return self._failures[operation]
            held = self._held.get(key, {})
            lacking = [rank for rank in ranks if rank not in held]
            lost = [rank for rank in lacking if rank in self._gone]
            if lost:
                return Failure(lost[0], self._gone[lost[0]])
            return None if lacking else held

        return self._wait(outcome, lambda: self._late(key, ranks, timeout), timeout)

    def _late(self, key: tuple[str, str], ranks: range, timeout: float) -> Failure:
        held = self._held.get(key, {})
        late = [rank for rank in ranks if rank not in held]
        more = f" (nor did {len(late) - 1} others)" if len(late) > 1 else ""
        return Failure(late[0], f"it did not answer within {timeout:g} seconds{more}")

    def _wait(
        self,
        outcome: Callable[[], dict[int, bytes] | Failure | None],
        late: Callable[[], Failure],
        timeout: float,
    ) -> dict[int, bytes] | Failure:
        with self._changed:
            self._changed.wait_for(lambda: outcome() is not None, timeout)
            found = outcome()
            return late() if found is None else found

    def _is_over(self, operation: str) -> bool:
        kind, _, number = operation.rpartition("#")
        begun = self._numbers.get(kind, 0)
        return operation not in self._open and number.isdigit() and int(number) < begun
