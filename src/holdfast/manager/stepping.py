"""What the training loop says at each step, made into a position and perhaps a save."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from holdfast.errors import ConfigError
from holdfast.manager.context import Context
from holdfast.manager.interruptions import Interruptions, Wishes, first_wishes
from holdfast.manager.metrics import numeric_metrics, plain_metrics, split_by_step, whole_number
from holdfast.manager.saving import Position, Saving
from holdfast.policy import Decision, Moment
from holdfast.values import SaveReason


class Stepping:
    """Turns the loop's calls into saves."""

    def __init__(self, context: Context, saving: Saving, interruptions: Interruptions) -> None:
        self._context, self._saving, self._interruptions = context, saving, interruptions

    def save(
        self,
        epoch: int,
        step: int,
        metrics: Mapping[str, Any] | None,
        model_config: object,
        extra_state: object,
        reason: SaveReason | None,
    ) -> Path | None:
        """See `CheckpointManager.save`."""
        context = self._context
        if context.ranks.many:
            mine = dict(numeric_metrics(metrics or {}))
            shared = context.ranks.agree("metrics", mine, lambda all_ranks: all_ranks[0])
            metrics = metrics if context.ranks.leads else shared
        position = self._stand(epoch, step, metrics, model_config, extra_state)
        self._note(position)
        if context.config.save_best_only and not self._is_best(position):
            self._saving.note_without_saving()
            return None
        moment = context.decisions.moment(position.step, position.epoch, context.clock.time())
        return self._saving.save(position, reason or self._default_reason(position), moment)

    def maybe_save(
        self,
        epoch: int,
        step: int,
        metrics: Mapping[str, Any] | None,
        model_config: object,
        extra_state: object,
        *,
        end_of_epoch: bool,
    ) -> Path | None:
        """See `CheckpointManager.maybe_save`."""
        context = self._context
        if context.decisions.trigger is None:
            raise ConfigError(
                "maybe_save() has no triggers to ask",
                fix="give the manager some: CheckpointManager(..., triggers=EverySteps(1000))",
            )
        position = self._stand(
            epoch, step, metrics, model_config, extra_state, end_of_epoch=end_of_epoch
        )
        decision, moment, position = self._decide(position)
        if position.metrics:
            tracked = any(name in context.config.directions for name in position.metrics)
            self._note(position, carry=decision.save or tracked)
        path = None
        if decision.save:
            # An earlier call at this step may have brought metrics of these very weights.
            fresh = context.decisions.fresh(position.step)
            known = replace(position, numbers=fresh, metrics={**fresh, **position.metrics})
            path = self._saving.save(known, decision.reason, moment)
        else:
            self._saving.note_without_saving()
        self._interruptions.served(path, moment.exiting)
        return path

    def _is_best(self, position: Position) -> bool:
        """Whether the deciding metric is the best yet, as rank 0 finds."""
        ranks = self._context.ranks
        if not ranks.many:
            return self._saving.beats_the_best(position)
        found = ranks.agree("best", None, lambda _: self._saving.beats_the_best(position))
        return bool(found)

    def _decide(self, position: Position) -> tuple[Decision, Moment, Position]:
        """Whether to save now, and of which metrics.

        Of many ranks, rank 0 asks its triggers, with its metrics, for the wishes of all.
        """
        context, decisions = self._context, self._context.decisions
        now = context.clock.time()

        def moment(wishes: Wishes) -> Moment:
            requested, exiting = wishes
            return decisions.moment(
                position.step, position.epochs, now, requested=requested, exiting=exiting
            )

        def decide(all_ranks: Sequence[Wishes]) -> list[object]:
            wishes = first_wishes(all_ranks)
            found = decisions.ask(moment(wishes))
            reason = [found.reason.kind, found.reason.text]
            return [wishes, found.save, reason, dict(position.numbers)]

        mine = self._interruptions.wishes()
        if not context.ranks.many:
            now_asked = moment(mine)
            return decisions.ask(now_asked), now_asked, position
        wishes, save, reason, numbers = context.ranks.agree("decide", mine, decide)
        self._interruptions.agreed(wishes)
        if context.ranks.leads and decisions.last is not None:
            return decisions.last, moment(wishes), position
        decisions.measure(numbers, position.step)
        position = replace(position, numbers=numbers, metrics=numbers)
        agreed = moment(wishes)
        return decisions.follow(agreed, save, SaveReason(*reason)), agreed, position

    def _stand(
        self,
        epoch: int,
        step: int,
        metrics: Mapping[str, Any] | None,
        model_config: object,
        extra_state: object,
        *,
        end_of_epoch: bool = False,
    ) -> Position:
        """Training stands here; remember it, and how fresh each metric is."""
        epoch, step = whole_number("epoch", epoch), whole_number("step", step)
        now, older = split_by_step(metrics, step)
        numbers, plain = numeric_metrics(now), plain_metrics(now)
        for name, measurement in older.items():
            self._context.decisions.measure({name: measurement.value}, measurement.step)
        self._context.decisions.measure(numbers, step)
        position = Position(
            epoch,
            step,
            epoch + 1 if end_of_epoch else epoch,
            numbers,
            plain,
            model_config,
            extra_state,
        )
        self._interruptions.announce(position)
        return position

    def _note(self, position: Position, *, carry: bool = True) -> None:
        self._context.history.add(
            position.epoch,
            position.step,
            position.metrics,
            now=self._context.clock.time(),
            carry=carry,
        )

    def _default_reason(self, position: Position) -> SaveReason:
        if not self._context.config.save_best_only:
            return SaveReason("manual", "save() was called")
        deciding = self._context.deciding.name
        return SaveReason("best", f"{deciding} improved to {position.numbers[deciding]:.6g}")
