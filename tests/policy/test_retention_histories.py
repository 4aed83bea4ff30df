"""Random histories of a run, played against a plain model of the retention rules."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from policy_records import GB, INF, NAN, STEADY

from holdfast.policy import (
    KeepAll,
    KeepAnyOf,
    KeepAtMostBytes,
    KeepBest,
    KeepEverySeconds,
    KeepEverySteps,
    KeepLast,
    KeepPinned,
    KeepUnscored,
    KeepWithin,
    Metric,
    PrunePlan,
    Retention,
    plan_prune,
)
from holdfast.values import CheckpointInfo

METRICS = ("val_loss", "bleu")
TRACKED = Metric("val_loss", "min")

values = st.sampled_from([1.0, 2.0, 2.0, 3.0, NAN, INF, -INF, 0.0])
metrics = st.dictionaries(st.sampled_from(METRICS), values)
modes = st.sampled_from(["min", "max"])
keepers = st.one_of(
    st.builds(KeepLast, st.integers(1, 4)),
    st.builds(KeepBest, st.integers(1, 3), st.sampled_from(METRICS), modes),
    st.builds(KeepEverySteps, st.sampled_from([2, 5, 10])),
    st.builds(KeepEverySeconds, st.sampled_from([50.0, 200]), st.sampled_from([None, 300.0])),
    st.builds(KeepWithin, st.sampled_from([30.0, 200.0])),
    st.builds(KeepUnscored, st.sampled_from(METRICS)),
    st.just(KeepPinned()),
    st.just(KeepAll()),
)
caps = st.builds(KeepAtMostBytes, st.integers(1, 8).map(lambda count: count * GB))
rules = st.builds(
    lambda kept, capped: KeepAnyOf((*kept, *capped)),
    st.lists(keepers, min_size=1, max_size=3),
    st.lists(caps, max_size=1),
)


def beats(one: CheckpointInfo, other: CheckpointInfo, metric: str, mode: str) -> bool:
    """Whether `one` ranks before `other`; both have finite values."""
    a, b = one.metrics[metric], other.metrics[metric]
    return one.order > other.order if a == b else (a < b) == (mode == "min")


def finite(info: CheckpointInfo, metric: str) -> bool:
    """Whether `info` can be ranked."""
    return abs(info.metrics.get(metric, NAN)) < INF


def is_best_of(n: int, info: CheckpointInfo, metric: str, mode: str, disk: Disk) -> bool:
    """Whether fewer than n of those on disk beat `info`."""
    rivals = [other for other in disk.values() if finite(other, metric)]
    return finite(info, metric) and sum(beats(other, info, metric, mode) for other in rivals) < n


Disk = dict[str, CheckpointInfo]


def wants(rule: Retention, info: CheckpointInfo, disk: Disk, now: float) -> bool:
    """The definition of each rule, word for word, by comparing with every other checkpoint."""
    others = [other for other in disk.values() if other is not info]
    match rule:
        case KeepAnyOf(rules):
            return any(wants(part, info, disk, now) for part in rules)
        case KeepAll():
            return True
        case KeepLast(n):
            return sum(other.order > info.order for other in others) < n
        case KeepBest(n, metric, mode):
            return is_best_of(n, info, metric, mode, disk)
        case KeepUnscored(metric):
            return metric not in info.metrics
        case KeepPinned():
            return info.pinned is not None
        case KeepWithin(seconds):
            return info.time >= now - seconds
        case KeepEverySteps(n):
            reached = info.global_step - info.global_step % n
            return (reached > 0 or info.global_step == 0) and not any(
                other.branch == info.branch
                and reached <= other.global_step
                and other.order < info.order
                for other in others
            )
        case KeepEverySeconds(interval, within):
            start = math.floor(info.time / interval) * interval
            return (within is None or info.time >= now - within) and not any(
                start <= other.time and (other.time, other.order) < (info.time, info.order)
                for other in others
            )
    return False


def expected_survivors(
    rule: KeepAnyOf, disk: Disk, now: float, protected: set[str]
) -> tuple[set[str], set[str]]:
    """The ids that stay, and those among them that stay whatever the rule says."""
    ranking = [part for part in rule.rules if isinstance(part, KeepBest)]
    tracked = [(TRACKED.name, TRACKED.mode), *((part.metric, part.mode) for part in ranking)]
    held = {
        info.id
        for info in disk.values()
        if info.id in protected
        or info.pinned is not None
        or all(other.order <= info.order for other in disk.values())
        or any(is_best_of(1, info, metric, mode, disk) for metric, mode in tracked)
    }
    wanted = {info.id for info in disk.values() if wants(rule, info, disk, now)}
    blind = [r for r in ranking if not any(finite(info, r.metric) for info in disk.values())]
    if blind and not wanted:
        wanted = set(disk)
    survivors = wanted | held
    for cap in (part for part in rule.rules if isinstance(part, KeepAtMostBytes)):
        while sum(disk[id].bytes for id in survivors) > cap.max_bytes and survivors - held:
            survivors.remove(min(survivors - held, key=lambda id: disk[id].order))
    return survivors, held


class RetainedRun(RuleBasedStateMachine):
    """A run that saves, prunes, fails, restarts, goes back, is evaluated late and gets pinned."""

    checkpoints: Bundle[str] = Bundle("checkpoints")

    def __init__(self) -> None:
        super().__init__()
        self.disk: Disk = {}
        self.ever: Disk = {}
        self.branch = self.step = self.sequence = 0
        self.now = 1000.0
        self.protected: set[str] = set()

    @initialize(rule=rules)
    def choose(self, rule: KeepAnyOf) -> None:
        """One rule holds for the whole run."""
        self.rule = rule

    @rule(
        target=checkpoints,
        steps=st.integers(0, 4),
        seconds=st.sampled_from([0.0, 10.0, 60.0, 400.0, -100.0]),
        metrics=metrics,
        size=st.integers(1, 3),
        failing=st.sampled_from(["nothing", "nothing", "nothing", "save", "prune"]),
    )
    def save(
        self, steps: int, seconds: float, metrics: dict[str, float], size: int, failing: str
    ) -> str | MultipleResults[str]:
        """Train, commit, prune; the save may fail, or pruning may stop after one deletion."""
        self.step += steps
        self.now += seconds
        if failing == "save":
            return multiple()
        self.sequence += 1
        info = CheckpointInfo(
            id=f"c{self.sequence}",
            name=f"step{self.step}",
            epoch=0,
            global_step=self.step,
            branch=self.branch,
            sequence=self.sequence,
            time=self.now,
            bytes=size * GB,
            metrics=metrics,
        )
        self.disk[info.id] = self.ever[info.id] = info
        self.prune(stop_after=1 if failing == "prune" else None)
        return info.id

    @rule()
    def prune_again(self) -> None:
        """Prune without a new checkpoint, as a command would."""
        self.prune(stop_after=None)

    @rule(id=checkpoints)
    def go_back(self, id: str) -> None:
        """Resume from an older checkpoint: a new branch."""
        if id in self.disk:
            self.branch += 1
            self.step = self.disk[id].global_step

    @rule()
    def start_afresh(self) -> None:
        """Start the run anew in the same folder."""
        self.branch += 1
        self.step = 0

    @rule(id=checkpoints, metric=st.sampled_from(METRICS), value=values)
    def record_late(self, id: str, metric: str, value: float) -> None:
        """An evaluation result arrives after the save."""
        if id in self.disk and metric not in self.disk[id].metrics:
            info = self.disk[id]
            self.disk[id] = self.ever[id] = replace(info, metrics={**info.metrics, metric: value})

    @rule(id=checkpoints)
    def toggle_pin(self, id: str) -> None:
        """Somebody pins a checkpoint, or takes the pin off."""
        if id in self.disk:
            info = self.disk[id]
            pin = "keep me" if info.pinned is None else None
            self.disk[id] = self.ever[id] = replace(info, pinned=pin)

    @rule(id=checkpoints)
    def begin_reading(self, id: str) -> None:
        """A reader opens a checkpoint."""
        self.protected.add(id)

    @rule(id=consumes(checkpoints))
    def end_reading(self, id: str) -> None:
        """The reader is done."""
        self.protected.discard(id)

    def prune(self, stop_after: int | None) -> None:
        """Plan, compare with the model, carry out."""
        reasons = dict.fromkeys(self.protected, "being read")
        history = sorted(self.disk.values(), key=lambda info: info.id, reverse=True)
        plan = plan_prune(history, self.rule, now=self.now, protected=reasons, tracked=[TRACKED])
        survivors, held = expected_survivors(self.rule, self.disk, self.now, self.protected)
        assert set(plan.keep) == survivors
        self.check_plan(plan, held)
        for id in list(plan.delete)[:stop_after]:
            del self.disk[id]

    def check_plan(self, plan: PrunePlan, held: set[str]) -> None:
        """Every checkpoint is in the plan once, in order, with a reason; the held stay."""
        assert plan.keep.keys().isdisjoint(plan.delete)
        assert plan.keep.keys() | plan.delete.keys() == self.disk.keys()
        assert held <= plan.keep.keys()
        for reasons in (plan.keep, plan.delete):
            orders = [self.disk[id].order for id in reasons]
            assert orders == sorted(orders)
            assert all(reasons.values())
        names = [repr(part) for part in self.rule.rules]
        for reason in plan.delete.values():
            assert any(name in reason for name in names)

    @invariant()
    def the_newest_is_on_disk(self) -> None:
        """Of all that was ever saved, the newest is still there."""
        if self.ever:
            assert max(self.ever.values(), key=lambda info: info.order).id in self.disk

    @invariant()
    def the_best_is_on_disk(self) -> None:
        """Of all that was ever saved, nothing has a better tracked metric than the best on disk."""
        scores = [i.metrics[TRACKED.name] for i in self.ever.values() if finite(i, TRACKED.name)]
        there = [i.metrics[TRACKED.name] for i in self.disk.values() if finite(i, TRACKED.name)]
        assert min(scores, default=None) == min(there, default=None)

    @invariant()
    def pinned_are_on_disk(self) -> None:
        """Nothing that is pinned was deleted."""
        assert all(info.id in self.disk for info in self.ever.values() if info.pinned)


TestRetainedRun = RetainedRun.TestCase
TestRetainedRun.settings = settings(STEADY, max_examples=150, stateful_step_count=40)
