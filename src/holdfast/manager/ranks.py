"""The ranks of a job as a manager sees them: what all decide together, and who carries it out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from holdfast.coordination import Alone, Coordination, Operation
from holdfast.coordination.process_group import join_process_group, process_group_size
from holdfast.errors import LoadError, RankFailedError, SaveError
from holdfast.session import Together

T = TypeVar("T")


class Ranks:
    """One manager's view of the other ranks; connected when first needed.

    place: the run folder; managers of several runs may be in use at a time. given: the ranks, None
    for those of the process group, if there is one. many: False to be alone whatever there is.
    """

    def __init__(
        self,
        place: str,
        timeout_seconds: float,
        given: Coordination | None = None,
        *,
        many: bool = True,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._place = os.path.basename(os.path.abspath(place))
        self._known: Coordination | None = given if many else Alone()
        if self._known is None and process_group_size() == 1:
            self._known = Alone()

    @property
    def many(self) -> bool:
        """Whether there is more than one rank."""
        return self._known is None or self._known.size > 1

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which alone writes what there is one of."""
        return self.joined().rank == 0

    def joined(self) -> Coordination:
        """The ranks, connected; the first call must be made by all of them."""
        if self._known is None:
            self._known = join_process_group(self.timeout_seconds)
        return self._known

    def begin(self, kind: str) -> Operation:
        """Begin an operation of this manager on all ranks."""
        return self.joined().begin(f"{kind} {self._place}", timeout_seconds=self.timeout_seconds)

    def agree(self, kind: str, mine: T, decide: Callable[[Sequence[T]], Any]) -> Any:
        """What rank 0 makes of what every rank brings; JSON both ways.

        Raises SaveError if a rank failed or ended.
        """

        def answer(parts: Sequence[bytes]) -> bytes:
            return json.dumps(decide([json.loads(part) for part in parts])).encode()

        try:
            with self.begin(kind) as operation:
                return json.loads(operation.round("agree", json.dumps(mine).encode(), answer))
        except RankFailedError as error:
            raise as_save_error(error, self._place) from error

    def of_first(self, value: T) -> T:
        """Rank 0's value on every rank."""
        if not self.many:
            return value
        found: T = self.agree("agree", value, lambda all_ranks: all_ranks[0])
        return found

    def together(self) -> Together | None:
        """For a load by all ranks; None for one process alone. Raises LoadError."""
        if not self.many:
            return None
        try:
            return Together(self.joined(), self._place, self.timeout_seconds)
        except RankFailedError as error:
            raise LoadError(error.what, where=error.where, fix=error.fix) from error


def as_save_error(error: RankFailedError, where: str) -> SaveError:
    """A rank's failure as that of a save."""
    return SaveError(
        f"Nothing was saved: rank {error.rank} failed: {error.reason}",
        where=where,
        fix=error.fix or "see to that rank; every rank must make the same calls of its manager",
    )
