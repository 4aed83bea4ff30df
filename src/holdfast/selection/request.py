"""What an average is asked to be, and its members opened, agreed and put in order.

mean = sum(w_i * theta_i) / sum(w_i), tensor by tensor, correctly rounded (see `holdfast.weights`).
Averaging the last or best few checkpoints of one run: Vaswani et al. 2017 (1706.03762), section
6.1; Izmailov et al. 2018 (1803.05407).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import torch

from holdfast.errors import ConfigError, DamagedError, LoadError
from holdfast.selection.members import MODEL, Member, open_member
from holdfast.selection.plan import AverageOptions, AveragePlan, plan_average
from holdfast.selection.record import Recipe
from holdfast.selection.stream import MemberFailed
from holdfast.weights import proportions

Checkpoint: TypeAlias = "str | os.PathLike[str]"
Weight: TypeAlias = "int | float | str | Fraction"
OnDamage: TypeAlias = Literal["raise", "exclude"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be averaged, before anything was opened. See `average` for the fields."""

    checkpoints: tuple[Path, ...]
    weights: tuple[int, ...]
    only: tuple[str, ...] = ()
    rules: Mapping[str, str] = field(default_factory=dict)
    dtype: torch.dtype | None = None
    on_damage: OnDamage = "raise"
    check_config: bool = True
    component: str = MODEL


@dataclass(frozen=True, slots=True)
class Prepared:
    """Members opened and agreed, oldest first, and the plan of their average."""

    members: tuple[Member, ...]
    weights: tuple[int, ...]
    plan: AveragePlan
    request: Request

    @property
    def recipe(self) -> Recipe:
        """What this average is made of."""
        dtype = self.request.dtype
        return Recipe(
            members=tuple(member.record for member in self.members),
            weights=self.weights,
            only=self.request.only,
            rules=tuple(self.request.rules.items()),
            dtype=None if dtype is None else str(dtype).removeprefix("torch."),
            component=self.request.component,
        )


def requested(
    checkpoints: Sequence[Checkpoint],
    weights: Sequence[Weight] | None = None,
    only: str | Sequence[str] = (),
    rules: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    on_damage: OnDamage = "raise",
    check_config: bool = True,
    component: str = MODEL,
) -> Request:
    """Check the arguments of an average. Raises ConfigError."""
    if isinstance(checkpoints, (str, os.PathLike)):
        raise ConfigError(
            "A single path was given where a list of checkpoints is expected",
            where=str(checkpoints),
            fix="list them, or choose from a run with last_k(run, 5) or top_k(run, ...)",
        )
    paths = tuple(Path(checkpoint) for checkpoint in checkpoints)
    if not paths:
        raise ConfigError("There are no checkpoints to average", fix="give at least one")
    twice = {str(p) for p in paths if sum(p.absolute() == q.absolute() for q in paths) > 1}
    if twice:
        raise ConfigError(
            f"A checkpoint is listed twice: {', '.join(sorted(twice))}",
            fix="list it once and give it a larger weight",
        )
    whole = proportions([1] * len(paths) if weights is None else list(weights))
    if len(whole) != len(paths):
        raise ConfigError(f"There are {len(paths)} checkpoints and {len(whole)} weights")
    if on_damage not in ("raise", "exclude"):
        raise ConfigError(f'on_damage is {on_damage!r}; use "raise" or "exclude"')
    patterns = (only,) if isinstance(only, str) else tuple(only)
    return Request(
        checkpoints=paths,
        weights=tuple(whole),
        only=patterns,
        rules=dict(rules or {}),
        dtype=dtype,
        on_damage=on_damage,
        check_config=check_config,
        component=component,
    )


def attempt(request: Request, make: Callable[[Prepared], _T]) -> tuple[_T, dict[str, str]]:
    """Run `make` on the members; again without those that turn out damaged, if that is allowed.

    Returns what it returned and why each excluded checkpoint was left out, by path.
    """
    excluded: dict[str, str] = {}
    left = dict(zip(request.checkpoints, request.weights, strict=True))
    while True:
        with contextlib.ExitStack() as stack:
            members = _opened(request, left, excluded, stack)
            prepared = _prepared(request, members, left)
            try:
                return make(prepared), excluded
            except MemberFailed as failed:
                path = Path(prepared.members[failed.index].record.path)
                _exclude(request, path, failed.error, left, excluded)


def _opened(
    request: Request,
    left: dict[Path, int],
    excluded: dict[str, str],
    stack: contextlib.ExitStack,
) -> dict[Path, Member]:
    members: dict[Path, Member] = {}
    for path in list(left):
        try:
            members[path] = open_member(path, request.component)
            stack.callback(members[path].close)
        except LoadError as error:
            _exclude(request, path, error, left, excluded)
    return members


def _exclude(
    request: Request,
    path: Path,
    error: LoadError,
    left: dict[Path, int],
    excluded: dict[str, str],
) -> None:
    if request.on_damage == "raise":
        raise error
    del left[path]
    excluded[str(path)] = str(error)
    if len(left) < min(2, len(request.checkpoints)):
        reasons = "; ".join(f"{name}: {reason}" for name, reason in excluded.items())
        raise DamagedError(
            f"Only {len(left)} of {len(request.checkpoints)} checkpoints can be used: {reasons}",
            where=str(path),
            fix="choose other checkpoints",
        ) from error


def _prepared(
    request: Request, members: Mapping[Path, Member], weights: Mapping[Path, int]
) -> Prepared:
    """Bring the members into an order of their own: the caller's must not show in the result."""
    ordered = sorted(members, key=lambda path: (members[path].order, members[path].record.digest))
    chosen = tuple(members[path] for path in ordered)
    whole = tuple(proportions([weights[path] for path in ordered]))
    options = AverageOptions(
        whole, request.only, request.rules, request.dtype, request.check_config
    )
    return Prepared(chosen, whole, plan_average(chosen, options), request)
