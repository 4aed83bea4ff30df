"""The seam between the engine and the ranks of a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, TypeAlias

from typing_extensions import Self

Decide: TypeAlias = Callable[[Sequence[bytes]], bytes]
"""Made by rank 0 of the parts of all ranks, in their order: the answer for all."""


class Operation(Protocol):
    """One thing that all ranks do together, in rounds; every rank does the same rounds in order.

    As a context manager, an exception that leaves it makes the operation fail on the other ranks
    too, at their next round, with its text as the reason.
    """

    def round(self, name: str, part: bytes, decide: Decide | None = None) -> bytes:
        """Give this rank's part and return rank 0's answer.

        decide: called on rank 0 only; without it the answer is rank 0's own part. What it raises
        is raised there and fails the round on all others. Raises RankFailedError, with the rank
        and its reason, if any rank failed, ended, or gave nothing within the time of the operation.
        """
        ...

    def fail(self, reason: str) -> None:
        """Make it fail on all other ranks."""
        ...

    def check(self) -> None:
        """Raise RankFailedError if another rank is known to have failed or given up by now."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Coordination(Protocol):
    """The ranks of one job as seen from one of them."""

    @property
    def rank(self) -> int:
        """This process, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many ranks there are."""
        ...

    def begin(self, kind: str, *, timeout_seconds: float) -> Operation:
        """Begin the next operation of its kind. All ranks must begin the same ones.

        Operations of different kinds, or several of one, may go on at a time in different threads.
        timeout_seconds: how long one rank may be behind the others in a round.
        """
        ...

    def close(self) -> None:
        """Leave; operations under way fail on all ranks."""
        ...
