"""The single rules of what to keep. Each says why it keeps or passes over every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.policy import _checks
from holdfast.policy._text import duration
from holdfast.policy.ranking import Metric, Mode, rank
from holdfast.policy.retention import Judgement, Retention
from holdfast.values import CheckpointInfo


@dataclass(frozen=True, slots=True, repr=False)
class KeepLast(Retention):
    """Keep the `n` newest checkpoints by `CheckpointInfo.order`, never by name or file time."""

    n: int

    def __post_init__(self) -> None:
        _checks.whole_number(self.n, name="KeepLast n", at_least=1)

    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """Keep the end of the history."""
        count = len(history)
        return [
            Judgement(place <= self.n, f"number {place} from the newest")
            for place in range(count, 0, -1)
        ]

    def describe(self) -> str:
        """See `Retention`."""
        return "the last checkpoint" if self.n == 1 else f"the last {self.n} checkpoints"

    def __repr__(self) -> str:
        return f"KeepLast({self.n})"


@dataclass(frozen=True, slots=True, repr=False)
class KeepBest(Retention):
    """Keep the `n` best checkpoints by a metric; see `holdfast.policy.ranking` for NaN and ties.

    A checkpoint without a finite value of the metric is never among the best. Where scores arrive
    after the save, add `KeepUnscored(metric)`.
    """

    n: int
    metric: str
    mode: Mode

    def __post_init__(self) -> None:
        _checks.whole_number(self.n, name="KeepBest n", at_least=1)
        Metric(self.metric, self.mode)

    @property
    def tracked(self) -> Metric:
        """The metric with its direction."""
        return Metric(self.metric, self.mode)

    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """Keep the first n of the ranking."""
        ranked = rank(history, self.metric, self.mode)
        places = {info.id: place for place, info in enumerate(ranked, start=1)}
        return [self._judge_one(info, places.get(info.id), len(places)) for info in history]

    def _judge_one(self, info: CheckpointInfo, place: int | None, ranked: int) -> Judgement:
        if place is None:
            value = info.metrics.get(self.metric)
            lack = f"has no {self.metric}" if value is None else f"{self.metric} is {value}"
            return Judgement(False, f"{lack}, so it is not ranked")
        value_text = f"{self.metric} {info.metrics[self.metric]:.6g}"
        return Judgement(place <= self.n, f"{value_text} is rank {place} of {ranked}")

    def describe(self) -> str:
        """See `Retention`."""
        number = "best checkpoint" if self.n == 1 else f"{self.n} best checkpoints"
        return f"the {number} by {self.tracked}"

    def __repr__(self) -> str:
        return f"KeepBest({self.n}, {self.metric!r}, mode={self.mode!r})"


@dataclass(frozen=True, slots=True, repr=False)
class KeepUnscored(Retention):
    """Keep checkpoints that have no value of `metric` yet: evaluation is still to come.

    NaN and infinities are values: such a checkpoint has been evaluated.
    """

    metric: str

    def __post_init__(self) -> None:
        _checks.metric_name(self.metric)

    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """Keep what lacks the metric."""
        return [
            Judgement(False, f"{self.metric} is recorded")
            if self.metric in info.metrics
            else Judgement(True, f"{self.metric} is not recorded yet")
            for info in history
        ]

    def describe(self) -> str:
        """See `Retention`."""
        return f"every checkpoint that has no {self.metric} yet"

    def __repr__(self) -> str:
        return f"KeepUnscored({self.metric!r})"


@dataclass(frozen=True, slots=True, repr=False)
class KeepEverySteps(Retention):
    """Keep, for ever, the first checkpoint at or after each multiple of `n` global steps.

    Saves need not fall on the multiples. Step 0 counts only if it was saved. A branch (the run went
    back to an older checkpoint) is a course of its own and keeps its own checkpoints.
    """

    n: int

    def __post_init__(self) -> None:
        _checks.whole_number(self.n, name="KeepEverySteps n", at_least=1)

    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """Keep the first of each (branch, multiple)."""
        first: dict[tuple[int, int], CheckpointInfo] = {}
        judgements = []
        for info in history:
            multiple = info.global_step // self.n * self.n
            holder = first.setdefault((info.branch, multiple), info)
            if multiple == 0 and info.global_step > 0:
                judgements.append(Judgement(False, f"comes before step {self.n}"))
            elif holder is info:
                judgements.append(Judgement(True, f"the first at or after step {multiple}"))
            else:
                why = f"step {holder.global_step} already stands for step {multiple}"
                judgements.append(Judgement(False, why))
        return judgements

    def describe(self) -> str:
        """See `Retention`."""
        return f"the first checkpoint at or after every {self.n} steps"

    def __repr__(self) -> str:
        return f"KeepEverySteps({self.n})"


@dataclass(frozen=True, slots=True, repr=False)
class KeepEverySeconds(Retention):
    """Keep the oldest checkpoint of each slot of `interval_seconds`, spaced in time.

    Slots start at whole multiples of the interval since the epoch (days: midnight UTC), so that
    which slot a checkpoint is in never changes. within_seconds: only while it is no older than
    this; None: for ever. A time in the future counts as young: a clock set back deletes nothing.
    """

    interval_seconds: float
    within_seconds: float | None = None

    def __post_init__(self) -> None:
        _checks.finite_number(self.interval_seconds, name="interval_seconds", above=0)
        if self.within_seconds is not None:
            _checks.finite_number(self.within_seconds, name="within_seconds", above=0)

    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """Keep the oldest of each slot that is young enough."""
        first: dict[float, CheckpointInfo] = {}
        for info in sorted(history, key=lambda info: (info.time, info.order)):
            first.setdefault(info.time // self.interval_seconds, info)
        return [self._judge_one(info, first, now) for info in history]

    def _judge_one(
        self, info: CheckpointInfo, first: dict[float, CheckpointInfo], now: float
    ) -> Judgement:
        slot = f"slot of {duration(self.interval_seconds)}"
        if first[info.time // self.interval_seconds] is not info:
            return Judgement(False, f"not the first of its {slot}")
        age = f"{duration(max(0.0, now - info.time))} old"
        if self.within_seconds is not None and now - info.time > self.within_seconds:
            return Judgement(False, f"{age}, the limit is {duration(self.within_seconds)}")
        return Judgement(True, f"the first of its {slot}, {age}")

    def describe(self) -> str:
        """See `Retention`."""
        span = "" if self.within_seconds is None else f", for {duration(self.within_seconds)}"
        return f"one checkpoint in each {duration(self.interval_seconds)}{span}"

    def __repr__(self) -> str:
        span = "" if self.within_seconds is None else f", within_seconds={self.within_seconds!r}"
        return f"KeepEverySeconds({self.interval_seconds!r}{span})"


@dataclass(frozen=True, slots=True, repr=False)
class KeepWithin(Retention):
    """Keep every checkpoint no older than `seconds`; one from the future counts as young."""

    seconds: float

    def __post_init__(self) -> None:
        _checks.finite_number(self.seconds, name="KeepWithin seconds", above=0)

    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """Keep the young."""
        return [
            Judgement(age <= self.seconds, f"{duration(max(0.0, age))} old")
            for age in (now - info.time for info in history)
        ]

    def describe(self) -> str:
        """See `Retention`."""
        return f"every checkpoint no older than {duration(self.seconds)}"

    def __repr__(self) -> str:
        return f"KeepWithin({self.seconds!r})"


@dataclass(frozen=True, slots=True)
class KeepPinned(Retention):
    """Keep pinned checkpoints. `plan_prune` always does; alone, this keeps little else."""

    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """Keep the pinned."""
        return [
            Judgement(False, "not pinned")
            if info.pinned is None
            else Judgement(True, f"pinned ({info.pinned})")
            for info in history
        ]

    def describe(self) -> str:
        """See `Retention`."""
        return "every pinned checkpoint"
