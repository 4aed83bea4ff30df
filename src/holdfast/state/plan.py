"""A restore as a plan: where each stored tensor goes, what is in the way, and the last step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torch import Tensor

from holdfast.errors import InterruptedLoadError, MismatchError
from holdfast.state.problems import Problem

CastPolicy: TypeAlias = Literal["refuse", "floating"]
"""What to do when dtypes differ: refuse, or convert between floating types (and say so)."""


def _nothing() -> None:
    """The last step of a plan that has none."""


@dataclass
class RestorePlan:
    """What loading one component will do. Making it changes nothing live.

    targets: stored name to the tensor to fill with its data, in the stored dtype and shape. Some
    are live memory, so fill none before every check of every component has passed. A stored
    tensor without a target is not needed (filtered out, or proven equal to one that has).
    problems: every reason why this load must not happen. tolerated: what was let pass, by
    `strict=False` or because the outcome is certain. report: lines for people.
    live: whether filling the targets already changes live objects.
    fresh: names among the targets whose memory nobody uses before `finish()`.
    reversible: whether `rollback()` can undo `finish()`.
    proven_by: names among the fresh ones whose values decide whether the load may happen: fill
    them and call `prove()` before anything live is filled.
    value: what a plan without a live object restores, once finished.
    """

    component: str
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    tolerated: tuple[Problem, ...] = ()
    report: tuple[str, ...] = ()
    live: bool = False
    reversible: bool = False
    fresh: frozenset[str] = frozenset()
    proven_by: tuple[str, ...] = ()
    value: object = None
    _prove: Callable[[], object] = _nothing
    _finish: Callable[[], object] = _nothing
    _rollback: Callable[[], object] = _nothing

    def check(self) -> None:
        """Raise MismatchError listing all problems, if there are any."""
        raise_problems([self])

    def prove(self) -> None:
        """Check what only values can tell. Raises MismatchError; nothing has changed then."""
        self._prove()

    def finish(self) -> None:
        """Hand the filled targets and the rest of the state to the live object.

        Call once, after every target is filled. Raises MismatchError if the plan has problems,
        and what the object's own `load_state_dict` raises.
        """
        self.check()
        self.value = self._finish()

    def rollback(self) -> None:
        """Put the object back to its state before `finish()`, whether that returned or raised.

        Raises InterruptedLoadError if the plan is not reversible.
        """
        if not self.reversible:
            raise InterruptedLoadError(
                f"{self.component} was being changed when the load failed",
                fix="load a checkpoint again before going on",
            )
        self._rollback()


def raise_problems(plans: list[RestorePlan]) -> None:
    """Raise one MismatchError with the problems of all plans; do nothing if there are none."""
    problems = [problem for plan in plans for problem in plan.problems]
    if problems:
        hints = [line for plan in plans if plan.problems for line in plan.report]
        raise MismatchError(
            f"The checkpoint does not fit ({len(problems)} problem{'s'[: len(problems) > 1]})",
            problems=problems,
            fix="; ".join(hints) or None,
        )
