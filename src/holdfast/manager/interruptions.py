"""Saves the loop did not plan: requests, signals, exceptions and the end of training."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from holdfast.errors import HoldfastError
from holdfast.manager.context import Context
from holdfast.manager.optimizer_watch import OptimizerWatch
from holdfast.manager.saving import Position, Saving
from holdfast.manager.signals import SignalWatch
from holdfast.manifest import REQUEST_FILE
from holdfast.session.objects import RNG
from holdfast.state import ComponentState, capture_rng
from holdfast.values import SaveReason

_LOG = logging.getLogger("holdfast")
_LOOK_SECONDS = 1.0
_TEXT_MAX_CHARS = 200

Wishes: TypeAlias = "tuple[str | None, str | None]"
"""Who asked for a save, and why training is about to end; None for what is not so."""


class Interruptions:
    """Knows where training stands and what was asked for from outside; saves at safe points."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._saving: Saving | None = None
        self._signals: SignalWatch | None = None
        self._watch: OptimizerWatch | None = None
        self._position: Position | None = None
        self._requested: str | None = None
        self._looked_at: float | None = None
        self._stop_served = False
        self._agreed_stop: str | None = None
        self._at_rest = 0
        self._rng: ComponentState | None = None
        if context.config.save_on_exception or context.decisions.saves_at_exit:
            self._watch_optimizers()

    def attach(self, saving: Saving) -> None:
        """Say who saves."""
        self._saving = saving

    def seconds_left(self) -> float | None:
        """Of the grace period after a signal to stop; None if there is no such limit."""
        return None if self._signals is None else self._signals.seconds_left()

    @property
    def stopping(self) -> str | None:
        """The signal that asked to stop, None if none did.

        Of many ranks, once all of them know: a rank that left its loop alone would leave the others
        waiting.
        """
        return self._agreed_stop if self._context.ranks.many else self._stopping_here

    @property
    def _stopping_here(self) -> str | None:
        return None if self._signals is None else self._signals.stopping

    def handle(
        self, grace_seconds: float | None, stop: Iterable[int], save: Iterable[int]
    ) -> SignalWatch:
        """Install the handlers, in place of those this manager installed before."""
        if self._signals is not None:
            self._signals.restore()
        self._signals = SignalWatch(
            stop=stop,
            save=save,
            grace_seconds=grace_seconds,
            clock=self._context.clock,
            on_signal=self._on_signal,
        )
        self._stop_served = False
        if self._watch is None:
            self._watch_optimizers()
        return self._signals

    def announce(self, position: Position) -> None:
        """Training stands here, between two steps."""
        self._position = position
        if self._watch is not None:
            self._watch.mark()

    def agreed_wishes(self) -> Wishes:
        """`wishes` of all ranks: what one was asked for, all are. Called by all of them."""
        mine, ranks = self.wishes(), self._context.ranks
        if not ranks.many:
            return mine
        requested, exiting = ranks.agree("wishes", mine, first_wishes)
        self.agreed((requested, exiting))
        return requested, exiting

    def agreed(self, wishes: Wishes) -> None:
        """All ranks know by now of a signal to stop."""
        self._agreed_stop = self._agreed_stop or wishes[1]

    def wishes(self) -> Wishes:
        """Who asked for a save, and why training is about to end; None for what is not so."""
        if self._signals is not None and self._signals.requested is not None:
            self._requested, self._signals.requested = self._signals.requested, None
        now = self._context.clock.monotonic()
        if self._looked_at is None or now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            leads = not self._context.ranks.many or self._context.ranks.leads
            if leads and self._context.run.take(REQUEST_FILE):
                self._requested = f"the file {REQUEST_FILE}"
        return self._requested, None if self._stop_served else self._stopping_here

    def served(self, path: Path | None, exiting: str | None) -> None:
        """A save was carried out, or failed, which was told: it is not tried again at each step.

        A stop that could not be served stands until the manager is left.
        """
        saved_already = (
            self._context.decisions.last is not None and not self._context.decisions.last.save
        )
        self._requested = None
        if exiting is not None and (path is not None or saved_already):
            self._stop_served = True

    def check(self, *, quiet: bool = False) -> Path | None:
        """Save now if that was asked for from outside; the caller is at a safe point."""
        if self._position is None or self._saving is None or self._saving.busy:
            return None
        requested, exiting = self.agreed_wishes()
        if requested is None and exiting is None:
            return None
        path = self._save_as_it_is(requested, exiting, quiet=quiet)
        self.served(path, exiting)
        return path

    @contextlib.contextmanager
    def safe_point(self) -> Iterator[None]:
        """Nothing that is saved changes inside: a signal is served the moment it comes."""
        if self._at_rest == 0:
            self._rng = capture_rng(RNG, self._context.objects.generators)
        self._at_rest += 1
        try:
            self.check()
            yield
            self.check()
        finally:
            self._at_rest -= 1
            if self._at_rest == 0:
                self._rng = None

    def finish(self, error: BaseException | None) -> None:
        """Training ends, by itself or by `error`: save what the configuration asks for.

        A wish that came after the last safe point is served now: a loop that looks at
        `stop_requested` first would otherwise end without the save it was asked for.
        """
        if self._position is None or self._saving is None or self._saving.busy:
            return
        if self._context.ranks.many and error is not None:
            # The other ranks may be anywhere: there is no state that all of them are in.
            _LOG.error("nothing was saved while %r ended training: ranks save together", error)
            return
        requested, stopping = self.agreed_wishes()
        at_exit = self._context.decisions.saves_at_exit or stopping is not None
        if error is None:
            if at_exit or requested is not None:
                exiting = stopping or "training finished"
                self.served(self._save_as_it_is(requested, exiting), stopping)
            return
        name = type(error).__name__
        ordered = isinstance(error, (KeyboardInterrupt, SystemExit))
        if not (self._context.config.save_on_exception or (ordered and at_exit)):
            return
        reason = None
        if not ordered:
            reason = SaveReason("exception", f"{name}: {error}"[:_TEXT_MAX_CHARS])
        try:
            self._save_as_it_is(None, stopping or name, reason=reason)
        except (HoldfastError, OSError, RuntimeError) as problem:
            _LOG.error("the state could not be saved while %s ended training: %s", name, problem)

    def release(self) -> None:
        """Take handlers and hooks away."""
        if self._signals is not None:
            self._signals.restore()
        if self._watch is not None:
            self._watch.remove()
        self._signals = self._watch = self._position = None

    def _save_as_it_is(
        self,
        requested: str | None,
        exiting: str | None,
        *,
        reason: SaveReason | None = None,
        quiet: bool = False,
    ) -> Path | None:
        """Save at the last announced position, moved on by the optimizer steps since."""
        context, saving, position = self._context, self._saving, self._position
        if saving is None or position is None:
            return None
        if self._watch is not None and self._watch.inside:
            _LOG.error("nothing was saved at %s: an optimizer is in the middle of a step", exiting)
            return None
        if self._watch is not None and self._watch.steps:
            # Metrics of earlier weights say nothing of these.
            position = replace(
                position, step=position.step + self._watch.steps, numbers={}, metrics={}
            )
        moment = context.decisions.moment(
            position.step,
            position.epochs,
            context.clock.time(),
            requested=requested,
            exiting=exiting,
        )
        decision = context.decisions.ask(moment, only_if_asked=True)
        if not decision.save:
            return None
        return saving.save(
            position, reason or decision.reason, moment, rng=self._rng, quiet=quiet, at_once=True
        )

    def _on_signal(self) -> None:
        # Other ranks cannot be called from a handler: they are asked at the next safe point.
        if self._at_rest and not self._context.ranks.many:
            self.check(quiet=True)

    def _watch_optimizers(self) -> None:
        self._watch = OptimizerWatch(
            optimizer for _, optimizer in self._context.objects.optimizers()
        )


def first_wishes(all_ranks: Sequence[Wishes]) -> Wishes:
    """The first wish of each kind that any rank has."""
    requested = (wishes[0] for wishes in all_ranks if wishes[0] is not None)
    exiting = (wishes[1] for wishes in all_ranks if wishes[1] is not None)
    return next(requested, None), next(exiting, None)
