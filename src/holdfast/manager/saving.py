"""One save, from where training stands to the committed checkpoint and its rotation."""

from __future__ import annotations

import logging
import secrets
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from holdfast.engine.progress import Progress
from holdfast.engine.provenance import gather_provenance
from holdfast.engine.rank_part import Agreed
from holdfast.engine.reuse import EarlierFiles
from holdfast.engine.save import SaveReceipt, SaveRequest
from holdfast.errors import HoldfastWarning, SaveError
from holdfast.jsontext import Json
from holdfast.manager.attempts import Attempts
from holdfast.manager.background import Callbacks, Saves
from holdfast.manager.context import Context
from holdfast.manager.decisions import to_store
from holdfast.manager.failures import Failures
from holdfast.manager.ranked_request import Facts, settle
from holdfast.manager.rotation import Rotation
from holdfast.policy import Moment, best
from holdfast.session import capture_session, json_config, plain_config
from holdfast.state import ComponentState
from holdfast.values import CheckpointInfo, SaveReason

_LOG = logging.getLogger("holdfast")
_FLUSH_SECONDS = 1.0


@dataclass(frozen=True)
class Position:
    """Where training stands, as the loop says.

    epochs: epochs completed. numbers: metrics of these very weights that are numbers; metrics: all
    of them as plain values.
    """

    epoch: int
    step: int
    epochs: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    model_config: object = None
    extra_state: object = None


class Saving:
    """Saves of one manager, one after another; `busy` while one is prepared or carried out here.

    callbacks: the user's `on_commit` and `on_failure`.
    """

    def __init__(
        self,
        context: Context,
        rotation: Rotation,
        seconds_left: Callable[[], float | None],
        callbacks: Callbacks,
    ) -> None:
        self._context, self._rotation = context, rotation
        self._attempts = Attempts(
            context.config,
            context.clock,
            make_room=rotation.make_room,
            seconds_left=seconds_left,
        )
        self.failures = Failures(context.run.place)
        self.saves = Saves(
            context.config,
            context.run,
            commit=self._commit,
            after=self._after,
            failed=self._failed,
            callbacks=callbacks,
        )
        self._moments: dict[str, Moment] = {}
        self._failed_moments: deque[Moment] = deque()
        self.busy = False
        self._flushed = context.clock.monotonic()

    def save(
        self,
        position: Position,
        reason: SaveReason,
        moment: Moment,
        *,
        rng: ComponentState | None = None,
        quiet: bool = False,
        at_once: bool = False,
    ) -> Path | None:
        """Save, then rotate: here and now, or in the background if the configuration says so.

        rng: random states captured earlier, in place of the present ones. quiet: draw no progress.
        at_once: here and now in any case, after what is pending. Returns None if the save failed
        and the configuration says to go on, or was skipped because too many are pending.
        Raises LockedError, UnsavableError, and SaveError if the configuration says so; so it does
        if an earlier save failed in the background.
        """
        context = self._context
        began = monotonic()
        if at_once:
            self.saves.drain()
        else:
            self._surface_alike()
        self.busy = True
        try:
            request = self._prepare(position, reason, moment, rng, at_once=at_once)
            if request is None:
                return None
            if context.config.async_save and not at_once:
                self._moments[request.id] = moment
                name = self.saves.later(request, context.objects, began)
            else:
                name = self.saves.now(request, began, quiet=quiet)
            context.decisions.saved(moment)
        except (SaveError, OSError) as error:
            failure = error if isinstance(error, SaveError) else self._as_save_error(error)
            context.decisions.failed(moment)
            if context.config.on_save_error == "raise":
                raise failure from (error.__cause__ if failure is error else error)
            text = self.failures.note(position.step, failure)
            warnings.warn(text, HoldfastWarning, stacklevel=4)
            return None
        finally:
            self.busy = False
        return context.path(name)

    def _surface_alike(self) -> None:
        """`surface`, on all ranks or on none: one that raised alone would leave the others waiting.

        A save that fails fails on all ranks, but each learns of it in a time of its own.
        """
        ranks = self._context.ranks
        if ranks.many:
            if not self._context.config.async_save:
                return
            if not ranks.agree("surface", self.saves.failed, any):
                return
            self.saves.drain()
        self.surface()

    def surface(self) -> None:
        """Warn and raise what came of saves in the background since the last call."""
        while self._failed_moments:
            self._context.decisions.failed(self._failed_moments.popleft())
        self.saves.surface()

    def wait(self, timeout: float | None = None) -> None:
        """Wait for what is pending, then `surface`. Raises WaitTimeoutError too."""
        self.saves.drain(timeout)
        self.surface()

    def report(self) -> None:
        """Say once, in the log, what the saves of this session cost."""
        if self.saves.stats.saves:
            _LOG.info("%s: %s", self._context.run.place, self.saves.stats)

    def note_without_saving(self) -> None:
        """Write the history's lines if some time has passed and this process is the writer."""
        now = self._context.clock.monotonic()
        if self.saves.pending:
            # The save that is under way will write them, and its writes would hold up a flush.
            return
        if self._context.writer.holds_lock and now - self._flushed >= _FLUSH_SECONDS:
            self._flushed = now
            self.flush_history()

    def flush_history(self) -> None:
        """Write the history's lines. They are told of and kept waiting if that fails."""
        for text in self._flush():
            warnings.warn(text, HoldfastWarning, stacklevel=5)

    def _flush(self) -> list[str]:
        try:
            self._context.history.flush()
        except SaveError as error:
            return [f"The history could not be written and waits for the next save: {error}"]
        return []

    def beats_the_best(self, position: Position) -> bool:
        """Whether the deciding metric is better than in every checkpoint there is."""
        deciding = self._context.deciding
        value = position.numbers.get(deciding.name)
        if value is None:
            warnings.warn(
                f"save_best_only is set but the metrics hold no number named {deciding.name!r} "
                f"(there are: {', '.join(sorted(position.numbers)) or 'none'}); nothing was saved",
                HoldfastWarning,
                stacklevel=4,
            )
            return False
        winner = best(self._infos(), deciding.name, deciding.mode)
        return deciding.improves(value, None if winner is None else winner.metrics[deciding.name])

    def _commit(
        self,
        request: SaveRequest,
        *,
        quiet: bool,
        earlier: EarlierFiles | None,
        proof: Callable[[], None] | None,
        cost: Callable[[int, int, float], Mapping[str, Json]],
    ) -> SaveReceipt:
        with Progress("saving", enabled=self._context.config.progress and not quiet) as progress:
            return self._attempts.commit(
                self._context.run,
                request,
                progress=progress,
                earlier=earlier,
                proof=proof,
                cost=cost,
            )

    def _after(self, receipt: SaveReceipt) -> list[str]:
        """What follows a commit, on the thread that committed; returns what to warn of."""
        self._moments.pop(receipt.manifest.id, None)
        self.failures.note_success(receipt.manifest.global_step)
        if not self._context.ranks.leads:
            self._context.history.forget_lines()
            return []
        return [*self._rotate(), *self._flush()]

    def _rotate(self) -> list[str]:
        """Prune. The checkpoint is committed: a disk that fails now is no failure of the save."""
        try:
            return self._rotation.prune()
        except (SaveError, OSError) as error:
            return [f"Old checkpoints could not be looked through and all stay: {error}"]

    def _failed(self, request: SaveRequest, error: BaseException) -> str | None:
        """A save failed in the background; returns what to warn of, None if it is to be raised."""
        moment = self._moments.pop(request.id, None)
        if moment is not None:
            self._failed_moments.append(moment)
        if not isinstance(error, SaveError):
            return None
        text = self.failures.note(request.global_step, error)
        return None if self._context.config.on_save_error == "raise" else text

    def _infos(self) -> list[CheckpointInfo]:
        """Every checkpoint, committed or pending, oldest first."""
        infos = [*self._context.catalog.read().infos, *self.saves.pending_infos]
        return sorted(infos, key=lambda info: info.order)

    def _prepare(
        self,
        position: Position,
        reason: SaveReason,
        moment: Moment,
        rng: ComponentState | None,
        *,
        at_once: bool,
    ) -> SaveRequest | None:
        """Everything one save is to hold, agreed with all ranks; None if it is to be skipped."""
        context = self._context

        def facts() -> Facts | str:
            context.writer.ensure()
            if not at_once and not self.saves.admit(position.step):
                return "an earlier save was still being written"
            return self._facts(position, reason, moment, later=not at_once)

        def capture() -> list[ComponentState]:
            return self._capture(position, moment, rng)

        if not context.ranks.many:
            made = facts()
            return None if isinstance(made, str) else self._request(position, made, capture(), None)
        stand = (position.epoch, position.step)
        settled = settle(context.ranks, stand, capture, facts)
        if settled.facts is None or settled.agreed is None:
            return None
        components = settled.agreed.part.components
        return self._request(position, settled.facts, components, settled.agreed)

    def _facts(
        self, position: Position, reason: SaveReason, moment: Moment, *, later: bool
    ) -> Facts:
        """What there is one of, however many ranks there are."""
        infos = self._infos()
        parents = self._context.timeline.parents()
        self.saves.consider([i.name for i in infos[-1:]] + [parent.name for parent in parents])
        branch, sequence = self._place(infos)
        attempt = 1
        if later and self._context.config.async_save and self._context.ranks.many:
            _, attempt = self.saves.free_name(position.epoch, position.step)
        return Facts(
            id=secrets.token_hex(16),
            attempt=attempt,
            branch=branch,
            sequence=sequence,
            time=moment.now,
            reason=reason,
            metrics=position.numbers,
            parents=parents,
        )

    def _capture(
        self, position: Position, moment: Moment, rng: ComponentState | None
    ) -> list[ComponentState]:
        context, config = self._context, self._context.config
        model_config = plain_config(position.model_config)
        run_state = {
            "epoch": position.epoch,
            "global_step": position.step,
            "metrics": dict(position.metrics),
            "best_metric": context.best_metric,
            "metrics_history": context.history.carried(),
            "model_config": model_config,
            "extra_state": position.extra_state,
            "triggers": to_store(context.decisions.after_save(moment)),
        }
        return capture_session(
            context.objects,
            run_state,
            with_optimizer=config.save_optimizer,
            with_rng=config.save_rng_state,
            rng=rng,
        )

    def _request(
        self,
        position: Position,
        facts: Facts,
        components: Sequence[ComponentState],
        agreed: Agreed | None,
    ) -> SaveRequest:
        config = self._context.config
        return SaveRequest(
            epoch=position.epoch,
            global_step=position.step,
            branch=facts.branch,
            sequence=facts.sequence,
            time=facts.time,
            reason=facts.reason,
            components=components,
            metrics=facts.metrics,
            directions=config.directions,
            config=json_config(plain_config(position.model_config)),
            parents=facts.parents,
            provenance=gather_provenance() if config.provenance else {},
            id=facts.id,
            attempt=facts.attempt,
            split_bytes=config.split_frozen_bytes if config.link_unchanged else None,
            retention=repr(self._context.retention),
            ranks=agreed,
        )

    def _place(self, infos: Sequence[CheckpointInfo]) -> tuple[int, int]:
        """Branch and sequence of the next commit."""
        context = self._context
        if context.timeline.starts_beside_others(infos):
            warnings.warn(
                f"{context.run.place} already holds {len(infos)} checkpoints, up to step "
                f"{infos[-1].global_step}, and this session did not resume from them; its own "
                "count as newer. Call resume() first to go on, or use another checkpoint_dir",
                HoldfastWarning,
                stacklevel=9,
            )
        return context.timeline.place(infos)

    def _as_save_error(self, error: OSError) -> SaveError:
        """Of what the run's folder itself refuses, such as being listed."""
        return SaveError(
            f"The run folder cannot be used: {error.strerror or error}. Earlier checkpoints stand",
            where=self._context.run.place,
            fix="see to the disk or its permissions, then save again",
        )
