"""Trying soups out: one model, one member after the other, and a record of every turn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.errors import HoldfastError, LoadError
from holdfast.selection.averaging import Averaged, average_state
from holdfast.selection.evidence import (
    Evaluate,
    EvaluationError,
    Judge,
    Outcome,
    score_of,
)
from holdfast.selection.request import Checkpoint, OnDamage, attempt, requested
from holdfast.selection.state import fitted
from holdfast.weights import RunningMean

State = dict[str, Any]
Prepare = Callable[[nn.Module], object]


@dataclass(frozen=True, slots=True)
class Trial:
    """One member's turn. score: its own; soup_score: of the soup with it, None if not tried."""

    path: Path
    score: float
    soup_score: float | None
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Soup:
    """The outcome. members: what the result is the average of, one if the best member won.

    score, best_member_score: on the selection set, which flatters whatever was chosen by it;
    report_score, report_best_member_score: on the second split, None without one.
    excluded: path to reason. written: the checkpoint written, None if none was asked for.
    """

    members: tuple[Path, ...]
    score: float
    best_member: Path
    best_member_score: float
    trials: tuple[Trial, ...]
    excluded: dict[str, str]
    report_score: float | None = None
    report_best_member_score: float | None = None
    written: Averaged | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Weights and their score. path: the member, or the one added last."""

    path: Path
    outcome: Outcome
    state: State


class SoupTrial:
    """The model that takes on one state after the other, and how it is scored."""

    def __init__(self, model: nn.Module, judge: Judge, prepare: Prepare | None) -> None:
        self.model = model
        self.judge = judge
        self.prepare = prepare

    def load(self, state: Mapping[str, Any]) -> None:
        """Put a state into the model. Raises MismatchError if it does not fit."""
        self.model.load_state_dict(fitted(state, self.model))

    def measure(self, state: State, evaluate: Evaluate, what: str) -> Outcome:
        """Score a state, in eval mode and without gradients.

        Raises EvaluationError, also for whatever the evaluation raises.
        """
        self.load(state)
        self.model.eval()
        try:
            with torch.no_grad():
                if self.prepare is not None:
                    self.prepare(self.model)
                    self.model.eval()
                outcome = evaluate(self.model)
        except Exception as error:
            raise EvaluationError(
                f"The evaluation failed: {type(error).__name__}: {error}",
                where=what,
                fix='correct it, or pass on_failure="exclude" to go on without this member',
            ) from error
        return self.judge.checked(outcome, what)

    @contextlib.contextmanager
    def restoring(self) -> Iterator[None]:
        """Put the model's training mode back, and its own weights if this ends in an error."""
        modes = [(module, module.training) for module in self.model.modules()]
        before = {
            name: value.detach().clone() if isinstance(value, Tensor) else value
            for name, value in self.model.state_dict().items()
        }
        try:
            yield
        except BaseException:
            self.model.load_state_dict(before)
            raise
        finally:
            for module, training in modes:
                module.training = training


class Members:
    """The members of a soup, each read once, proven and scored; trials and exclusions are kept."""

    def __init__(
        self, checkpoints: Sequence[Checkpoint], on_damage: OnDamage, on_failure: OnDamage
    ) -> None:
        request = requested(checkpoints, on_damage=on_damage)
        self._on_damage = on_damage
        self._on_failure = on_failure
        recipe, self.excluded = attempt(request, lambda prepared: prepared.recipe)
        self._age = {Path(member.path): age for age, member in enumerate(recipe.members)}
        self._left = [path for path in request.checkpoints if path in self._age]
        self._others: dict[Path, State] = {}
        self.trials: list[Trial] = []

    def first(self, trial: SoupTrial, evaluate: Evaluate) -> Standing:
        """The first member that can be used. Raises EvaluationError if there is none."""
        for standing in self.rest(trial, evaluate):
            self.note(standing, standing.outcome, True, "the first")
            return standing
        reasons = "; ".join(f"{name}: {why}" for name, why in self.excluded.items())
        raise EvaluationError(
            f"No member could be used: {reasons}", fix="see to the evaluation or the checkpoints"
        )

    def rest(self, trial: SoupTrial, evaluate: Evaluate) -> Iterator[Standing]:
        """The members not yet handed out that can be read and scored."""
        while self._left:
            path = self._left.pop(0)
            try:
                state = average_state([path])
                outcome = trial.measure(state, evaluate, str(path))
            except EvaluationError as error:
                self._leave_out(path, error, self._on_failure)
            except LoadError as error:
                self._leave_out(path, error, self._on_damage)
            else:
                self._others[path] = {k: v for k, v in state.items() if not _is_float(v)}
                yield Standing(path, outcome, state)

    def grown(self, mean: RunningMean, chosen: Sequence[Path], more: Standing) -> State:
        """The soup with one member more; what is not averaged is of the newest in it."""
        made = mean.mean_with(tensors_of(more.state))
        newest = max([*chosen, more.path], key=self._age.__getitem__)
        first_names = {id(value): name for name, value in reversed(list(more.state.items()))}
        averaged = {
            name: made[first_names[id(value)]]
            for name, value in more.state.items()
            if _is_float(value)
        }
        return averaged | self._others[newest]

    def note(
        self, standing: Standing, outcome: Outcome | None, accepted: bool, reason: str
    ) -> None:
        """Keep the record of one turn."""
        soup_score = None if outcome is None else score_of(outcome)
        self.trials.append(
            Trial(standing.path, score_of(standing.outcome), soup_score, accepted, reason)
        )

    def _leave_out(self, path: Path, error: HoldfastError, rule: OnDamage) -> None:
        if rule == "raise":
            raise error
        self.excluded[str(path)] = str(error)


def tensors_of(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The floating tensors of a state, tied ones once, under their first name."""
    first_names = {id(value): name for name, value in reversed(list(state.items()))}
    return {
        name: value
        for name, value in state.items()
        if _is_float(value) and first_names[id(value)] == name
    }


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())
