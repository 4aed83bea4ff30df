"""Ranking checkpoints from their manifests: one metric, constraints, several metrics, smoothing.

What `holdfast.policy` says of a single metric holds here too: only finite values are ranked, and of
equal values the later checkpoint comes first. Ties are named, and so is everything left out.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from holdfast.errors import PolicyError
from holdfast.policy import Metric, Mode
from holdfast.policy.ranking import score
from holdfast.values import CheckpointInfo

Operator = Literal["<", "<=", ">", ">="]

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONSTRAINT = re.compile(r"\s*(\S(?:.*\S)?)\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True, slots=True)
class Constraint:
    """A bound that a checkpoint must keep to qualify: `Constraint("val_bleu", ">=", 30.0)`."""

    metric: str
    comparison: Operator
    bound: float

    def __post_init__(self) -> None:
        if self.comparison not in _COMPARE or not math.isfinite(self.bound) or not self.metric:
            raise PolicyError(
                f"{self.metric!r} {self.comparison!r} {self.bound!r} is no constraint",
                fix='write a metric, one of < <= > >=, and a number: "val_bleu >= 30"',
            )

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """From text such as "val_bleu >= 30". Raises PolicyError."""
        found = _CONSTRAINT.fullmatch(text)
        try:
            if found is not None:
                return cls(found[1], found[2], float(found[3]))  # type: ignore[arg-type]
        except ValueError:
            pass
        raise PolicyError(
            f"{text!r} is no constraint",
            fix='write a metric, one of < <= > >=, and a number: "val_bleu >= 30"',
        )

    def broken_by(self, info: CheckpointInfo) -> str | None:
        """Why the checkpoint does not qualify; None if it does."""
        value = score(info, self.metric)
        if value is None:
            return f"{self.metric} is {_unrankable(info, self.metric)}"
        if not _COMPARE[self.comparison](value, self.bound):
            return f"{self.metric} is {value:.6g}, not {self.comparison} {self.bound:.6g}"
        return None


@dataclass(frozen=True, slots=True)
class Ranked:
    """One place of a ranking. value: what was ranked by, the mean of neighbours if smoothed.

    raw: the checkpoint's own value. tied_with: names of others of exactly this value.
    """

    info: CheckpointInfo
    value: float
    raw: float
    tied_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ranking:
    """Qualifying checkpoints, best first, and why each of the others does not qualify, by name."""

    metric: Metric
    places: tuple[Ranked, ...]
    excluded: Mapping[str, str]

    @property
    def infos(self) -> list[CheckpointInfo]:
        """The checkpoints, best first."""
        return [place.info for place in self.places]


@dataclass(frozen=True, slots=True)
class ParetoSet:
    """front: checkpoints that no other beats in one metric without losing in another, oldest first.

    dominated: name to the name of one that is at least as good in all metrics and better in one.
    excluded: name to reason.
    """

    front: tuple[CheckpointInfo, ...]
    dominated: Mapping[str, str]
    excluded: Mapping[str, str]


def rank_checkpoints(
    history: Sequence[CheckpointInfo],
    metric: str,
    mode: Mode,
    *,
    subject_to: Sequence[Constraint | str] = (),
    smooth: int = 1,
) -> Ranking:
    """Rank by one metric; ties: the later checkpoint first.

    history: in any order. subject_to: bounds that must all hold, on raw values. smooth: rank by the
    mean over this many neighbouring validations (an odd number, centred, fewer at the ends), since
    a single one is noisy; 1 for the values as they are.
    Raises PolicyError if no checkpoint at all has a finite value of the metric, or an option
    cannot work. No checkpoint within the constraints is an empty ranking with the reasons.
    """
    wanted = Metric(metric, mode)
    if type(smooth) is not int or smooth < 1 or smooth % 2 == 0:
        raise PolicyError(f"smooth is {smooth!r}; it must be an odd number: 1 for none, 3, 5, ...")
    bounds = [c if isinstance(c, Constraint) else Constraint.parse(c) for c in subject_to]
    _require_somewhere(history, [metric, *(bound.metric for bound in bounds)])
    means = smoothed(history, metric, smooth)
    excluded: dict[str, str] = {}
    scored: list[tuple[float, CheckpointInfo]] = []
    for info in sorted(history, key=lambda info: info.order, reverse=True):
        broken = next((why for bound in bounds if (why := bound.broken_by(info))), None)
        if info.id not in means:
            excluded[info.name] = f"{metric} is {_unrankable(info, metric)}"
        elif broken is not None:
            excluded[info.name] = broken
        else:
            scored.append((means[info.id], info))
    scored.sort(key=lambda pair: pair[0] if wanted.mode == "min" else -pair[0])
    by_value: dict[float, list[str]] = {}
    for value, info in scored:
        by_value.setdefault(value, []).append(info.name)
    places = tuple(
        Ranked(info, value, info.metrics[metric], _others(by_value[value], info.name))
        for value, info in scored
    )
    return Ranking(wanted, places, excluded)


def smoothed(history: Sequence[CheckpointInfo], metric: str, window: int) -> dict[str, float]:
    """By id, the mean of the metric over up to `window` neighbours in order of training.

    Only finite values are averaged, neighbours on the same branch only; a checkpoint without a
    finite value of its own gets none.
    """
    half = window // 2
    branches: dict[int, list[tuple[CheckpointInfo, float]]] = {}
    for info in sorted(history, key=lambda info: info.order):
        value = score(info, metric)
        if value is not None:
            branches.setdefault(info.branch, []).append((info, value))
    means: dict[str, float] = {}
    for found in branches.values():
        for index, (info, own) in enumerate(found):
            near = [value for _, value in found[max(0, index - half) : index + half + 1]]
            means[info.id] = math.fsum(near) / len(near) if len(near) > 1 else own
    return means


def pareto_set(history: Sequence[CheckpointInfo], metrics: Sequence[Metric]) -> ParetoSet:
    """The checkpoints to choose among when several metrics matter.

    One that lacks a finite value of any of the metrics is excluded. Of checkpoints equal in all,
    each stays on the front. Raises PolicyError without metrics, or if a metric is missing
    everywhere.
    """
    if not metrics:
        raise PolicyError(
            "There are no metrics to compare by", fix='pass Metric("val_loss", "min")'
        )
    _require_somewhere(history, [metric.name for metric in metrics])
    excluded: dict[str, str] = {}
    points: list[tuple[CheckpointInfo, tuple[float, ...]]] = []
    for info in sorted(history, key=lambda info: info.order):
        lacking = [m.name for m in metrics if score(info, m.name) is None]
        if lacking:
            excluded[info.name] = f"{lacking[0]} is {_unrankable(info, lacking[0])}"
            continue
        values = (info.metrics[m.name] * (1 if m.mode == "min" else -1) for m in metrics)
        points.append((info, tuple(values)))
    dominated: dict[str, str] = {}
    for info, point in points:
        beaten_by = next((o for o, other in points if _dominates(other, point)), None)
        if beaten_by is not None:
            dominated[info.name] = beaten_by.name
    front = tuple(info for info, _ in points if info.name not in dominated)
    return ParetoSet(front, dominated, excluded)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _others(names: Sequence[str], own: str) -> tuple[str, ...]:
    return tuple(name for name in names if name != own)


def _unrankable(info: CheckpointInfo, metric: str) -> str:
    value = info.metrics.get(metric)
    return "missing" if value is None else f"{value}, not finite"


def _require_somewhere(history: Sequence[CheckpointInfo], names: Sequence[str]) -> None:
    """Refuse a metric that nobody has: most likely its name is misspelt."""
    for name in names:
        if not any(score(info, name) is not None for info in history):
            known = sorted({metric for info in history for metric in info.metrics})
            raise PolicyError(
                f"None of {len(history)} checkpoints has a finite value of {name!r} "
                f"(metrics there are: {', '.join(known) or 'none'})",
                fix="name one of those, or pass the metric to save()",
            )
