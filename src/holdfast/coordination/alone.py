"""One process: every round is its own answer."""

from __future__ import annotations

from types import TracebackType

from typing_extensions import Self

from holdfast.coordination.protocol import Decide


class Alone:
    """`Coordination` of one process."""

    rank = 0
    size = 1

    def begin(self, kind: str, *, timeout_seconds: float) -> _AloneOperation:
        """Begin; nobody has to be waited for."""
        return _AloneOperation()

    def close(self) -> None:
        """Nothing to leave."""


class _AloneOperation:
    def round(self, name: str, part: bytes, decide: Decide | None = None) -> bytes:
        return part if decide is None else decide([part])

    def fail(self, reason: str) -> None:
        """Nobody to tell."""

    def check(self) -> None:
        """Nobody else can fail."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to end."""
