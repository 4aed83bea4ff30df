"""A load by all ranks of a job: each stage succeeds on every rank, or fails on every rank alike."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from holdfast.coordination import Coordination
from holdfast.engine.open_checkpoint import Reader
from holdfast.engine.quarantine import failed_to_read
from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    DamagedError,
    FormatError,
    HoldfastError,
    InterruptedLoadError,
    LoadError,
    MismatchError,
    NewerFormatError,
    RankFailedError,
)

_KINDS: dict[str, Callable[..., HoldfastError]] = {
    kind.__name__: kind
    for kind in (
        CheckpointNotFoundError,
        ConfigError,
        DamagedError,
        FormatError,
        InterruptedLoadError,
        LoadError,
        MismatchError,
        NewerFormatError,
    )
}


class Together:
    """What the ranks of a load ask each other.

    Every method must be called by all ranks, in the same order. timeout_seconds: how long one may
    be behind the others. place: named in errors.
    """

    def __init__(self, ranks: Coordination, place: str, timeout_seconds: float) -> None:
        self._ranks, self._place, self._timeout_seconds = ranks, place, timeout_seconds

    @property
    def reader(self) -> Reader:
        """This rank among those that read."""
        return Reader(self._ranks.rank, self._ranks.size)

    @property
    def leads(self) -> bool:
        """Whether this is rank 0."""
        return self._ranks.rank == 0

    @contextmanager
    def stage(self) -> Iterator[None]:
        """What is inside succeeds on all ranks, or raises on all: the first failing rank's error.

        Other ranks raise an error of the same kind, so that all go on alike.
        """
        try:
            yield
        except Exception as error:
            self._settle(error)
            raise
        self._settle(None)

    def from_first(self, make: Callable[[], Any]) -> Any:
        """What rank 0 makes, as JSON can hold it, on every rank; what it raises fails all."""

        def decide(parts: Sequence[bytes]) -> bytes:
            return json.dumps(make()).encode()

        return json.loads(self._round("first", b"", decide))

    def _settle(self, error: Exception | None) -> None:
        mine = None if error is None else _described(error)
        answer = self._round("settle", json.dumps(mine).encode(), _first_failure)
        found = json.loads(answer)
        if found is None or (error is not None and found["rank"] == self._ranks.rank):
            return
        raise _rebuilt(found) from (error or _cause(found))

    def _round(self, name: str, part: bytes, decide: Callable[[Sequence[bytes]], bytes]) -> bytes:
        kind = f"load {self._place}"
        try:
            with self._ranks.begin(kind, timeout_seconds=self._timeout_seconds) as operation:
                return operation.round(name, part, decide)
        except RankFailedError as error:
            raise LoadError(
                f"Rank {error.rank} failed while all ranks were loading: {error.reason}",
                where=self._place,
                fix="all ranks must load together; start the job again if one has ended",
            ) from error


def _described(error: Exception) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": "LoadError", "what": f"{type(error).__name__}: {error}"}
    if isinstance(error, HoldfastError):
        kind = type(error).__name__
        found = {"kind": kind if kind in _KINDS else "LoadError", "what": error.what}
        found |= {"where": error.where, "fix": error.fix}
    return found | {"passing": failed_to_read(error)}


def _first_failure(parts: Sequence[bytes]) -> bytes:
    for rank, part in enumerate(parts):
        found = json.loads(part)
        if found is not None:
            return json.dumps({**found, "rank": rank}).encode()
    return b"null"


def _rebuilt(found: dict[str, Any]) -> HoldfastError:
    make = _KINDS[found["kind"]]
    what = f"Rank {found['rank']}: {found['what']}"
    return make(what, where=found.get("where"), fix=found.get("fix"))


def _cause(found: dict[str, Any]) -> BaseException | None:
    return OSError(errno.EIO, f"on rank {found['rank']}") if found["passing"] else None
