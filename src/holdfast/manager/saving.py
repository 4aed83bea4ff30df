"""One save, from where training stands to the committed checkpoint and its rotation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.engine.catalog import read_catalog
from holdfast.engine.progress import Progress
from holdfast.engine.provenance import gather_provenance
from holdfast.engine.save import SaveReceipt, SaveRequest
from holdfast.errors import HoldfastWarning, SaveError
from holdfast.manager.attempts import Attempts
from holdfast.manager.context import Context
from holdfast.manager.decisions import to_store
from holdfast.manager.failures import Failures
from holdfast.manager.rotation import Rotation
from holdfast.policy import Moment, best
from holdfast.session import capture_session, json_config, plain_config
from holdfast.state import ComponentState
from holdfast.values import SaveReason

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
    """Saves of one manager, one after another; `busy` while one is under way."""

    def __init__(
        self, context: Context, rotation: Rotation, seconds_left: Callable[[], float | None]
    ) -> None:
        self._context, self._rotation = context, rotation
        self._attempts = Attempts(
            context.config,
            context.clock,
            make_room=rotation.make_room,
            seconds_left=seconds_left,
        )
        self.failures = Failures(context.run.place)
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
    ) -> Path | None:
        """Save, then rotate. None if it failed and the configuration says to go on.

        rng: random states captured earlier, in place of the present ones. quiet: draw no progress.
        Raises LockedError, UnsavableError, and SaveError if the configuration says so.
        """
        context = self._context
        self.busy = True
        try:
            context.writer.ensure()
            receipt = self._commit(position, reason, moment, rng, quiet)
            context.decisions.saved(moment)
            self.failures.note_success(position.step)
            self._rotate()
            self.flush_history()
        except (SaveError, OSError) as error:
            failure = error if isinstance(error, SaveError) else _as_save_error(error)
            context.decisions.failed(moment)
            if context.config.on_save_error == "raise":
                raise failure from (error.__cause__ if failure is error else error)
            text = self.failures.note(position.step, failure)
            warnings.warn(text, HoldfastWarning, stacklevel=4)
            return None
        finally:
            self.busy = False
        return context.path(receipt.name)

    def _rotate(self) -> None:
        """Prune. The checkpoint is committed: a disk that fails now is no failure of the save."""
        try:
            self._rotation.prune()
        except (SaveError, OSError) as error:
            warnings.warn(
                f"Old checkpoints could not be looked through and all stay: {error}",
                HoldfastWarning,
                stacklevel=5,
            )

    def note_without_saving(self) -> None:
        """Write the history's lines if some time has passed and this process is the writer."""
        now = self._context.clock.monotonic()
        if self._context.writer.holds_lock and now - self._flushed >= _FLUSH_SECONDS:
            self._flushed = now
            self.flush_history()

    def flush_history(self) -> None:
        """Write the history's lines. They are told of and kept waiting if that fails."""
        try:
            self._context.history.flush()
        except SaveError as error:
            warnings.warn(
                f"The history could not be written and waits for the next save: {error}",
                HoldfastWarning,
                stacklevel=5,
            )

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
        winner = best(read_catalog(self._context.run).infos, deciding.name, deciding.mode)
        return deciding.improves(value, None if winner is None else winner.metrics[deciding.name])

    def _commit(
        self,
        position: Position,
        reason: SaveReason,
        moment: Moment,
        rng: ComponentState | None,
        quiet: bool,
    ) -> SaveReceipt:
        request = self._request(position, reason, moment, rng)
        with Progress("saving", enabled=self._context.config.progress and not quiet) as progress:
            return self._attempts.commit(self._context.run, request, progress)

    def _request(
        self,
        position: Position,
        reason: SaveReason,
        moment: Moment,
        rng: ComponentState | None,
    ) -> SaveRequest:
        context, config = self._context, self._context.config
        branch, sequence = self._place()
        model_config = plain_config(position.model_config)
        run_state = {
            "epoch": position.epoch,
            "global_step": position.step,
            "metrics": dict(position.metrics),
            "best_metric": context.best_metric,
            "metrics_history": context.history.records,
            "model_config": model_config,
            "extra_state": position.extra_state,
            "triggers": to_store(context.decisions.after_save(moment)),
        }
        return SaveRequest(
            epoch=position.epoch,
            global_step=position.step,
            branch=branch,
            sequence=sequence,
            time=moment.now,
            reason=reason,
            components=capture_session(
                context.objects,
                run_state,
                with_optimizer=config.save_optimizer,
                with_rng=config.save_rng_state,
                rng=rng,
            ),
            metrics=position.numbers,
            directions=config.directions,
            config=json_config(model_config),
            parents=context.timeline.parents(),
            provenance=gather_provenance() if config.provenance else {},
        )

    def _place(self) -> tuple[int, int]:
        """Branch and sequence of the next commit."""
        context = self._context
        infos = read_catalog(context.run).infos
        if context.timeline.starts_beside_others(infos):
            warnings.warn(
                f"{context.run.place} already holds {len(infos)} checkpoints, up to step "
                f"{infos[-1].global_step}, and this session did not resume from them; its own "
                "count as newer. Call resume() first to go on, or use another checkpoint_dir",
                HoldfastWarning,
                stacklevel=7,
            )
        return context.timeline.place(infos)


def _as_save_error(error: OSError) -> SaveError:
    """Of what the run's folder itself refuses, such as being listed."""
    return SaveError(f"The run folder cannot be used: {error.strerror or error}")
