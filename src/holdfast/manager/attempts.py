"""Trying again what may pass: whole attempts, each in a new staging folder.

A failed flush is never repeated on the same file: the kernel may have dropped the data and report
the next flush as good (notes in docs/decisions/0012). So an attempt is repeated as a whole, from
memory.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Mapping

from holdfast.clock import Clock
from holdfast.engine.rank_save import save_with_ranks
from holdfast.engine.reuse import EarlierFiles
from holdfast.engine.save import SaveReceipt, SaveRequest, save_checkpoint
from holdfast.errors import NoSpaceError, SaveError
from holdfast.jsontext import Json
from holdfast.manager.config import CheckpointConfig
from holdfast.storage.protocol import RunStorage

_LOG = logging.getLogger("holdfast")
_PASSING = frozenset(
    {
        *(errno.EINTR, errno.EAGAIN, errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EBUSY),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.ECONNRESET, errno.EHOSTDOWN, errno.EREMOTEIO),
    }
)
_FIRST_PAUSE_SECONDS = 0.5
_PAUSE_MAX_SECONDS = 30.0
_LOOK_AGAIN_SECONDS = 5.0


def may_pass(error: BaseException) -> bool:
    """Whether the operating system's error behind this one is of a kind that can pass."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _PASSING:
            return True
        cause = cause.__cause__
    return False


class Attempts:
    """Carries out one save after another, with the configured patience.

    make_room: frees space by retention for a request; whether it freed any. seconds_left: how long
    there is to wait, None for as long as configured.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        clock: Clock,
        *,
        make_room: Callable[[SaveRequest], bool],
        seconds_left: Callable[[], float | None],
    ) -> None:
        self._config, self._clock = config, clock
        self._make_room, self._seconds_left = make_room, seconds_left

    def commit(
        self,
        run: RunStorage,
        request: SaveRequest,
        *,
        progress: Callable[[int, int], None] | None = None,
        earlier: EarlierFiles | None = None,
        proof: Callable[[], None] | None = None,
        cost: Callable[[int, int, float], Mapping[str, Json]] | None = None,
    ) -> SaveReceipt:
        """Save as `save_checkpoint` does; durable when this returns.

        Raises what the last attempt raised.
        """
        if request.ranks is not None:
            # Ranks would have to agree on every repetition.
            return save_with_ranks(
                run, request, progress=progress, earlier=earlier, proof=proof, cost=cost
            )
        pauses = self._pauses()
        room = self._room(request)
        while True:
            try:
                return save_checkpoint(
                    run, request, progress=progress, earlier=earlier, proof=proof, cost=cost
                )
            except NoSpaceError as error:
                if not next(room, False):
                    raise
                self._say(error, "trying again with the space there is now")
            except SaveError as error:
                pause = next(pauses, None) if may_pass(error) else None
                if pause is None or not self._sleep(pause):
                    raise
                self._say(error, "trying again from the beginning")

    def _pauses(self) -> Iterator[float]:
        for attempt in range(self._config.save_retries):
            yield min(_FIRST_PAUSE_SECONDS * 2**attempt, _PAUSE_MAX_SECONDS)

    def _room(self, request: SaveRequest) -> Iterator[bool]:
        """True each time it is worth trying again."""
        if self._config.on_disk_full == "prune":
            yield self._make_room(request)
        elif self._config.on_disk_full == "wait":
            end = self._clock.monotonic() + self._config.disk_full_wait_seconds
            while self._clock.monotonic() < end and self._sleep(_LOOK_AGAIN_SECONDS):
                yield True

    def _sleep(self, seconds: float) -> bool:
        """Wait, unless there is not that much time left."""
        left = self._seconds_left()
        if left is not None and left < seconds:
            return False
        self._clock.sleep(seconds)
        return True

    @staticmethod
    def _say(error: SaveError, what: str) -> None:
        _LOG.warning("a save failed, %s: %s", what, error)
