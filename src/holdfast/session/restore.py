"""Restoring a session as one transaction: every check first, then small objects, then tensors.

Nothing live changes until all names, shapes and dtypes agree and every byte is proven. Objects
with a loader of their own come first, because they may still refuse: then those already restored
are put back. Modules and optimizers, written in place, come next and random states last, because
what comes before may draw numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from holdfast.collector import collector_paused
from holdfast.errors import HoldfastError, InterruptedLoadError, LoadError
from holdfast.session.batch_order import LenientLoader, OrderedLoader, order_line
from holdfast.session.checklist import Line, Status
from holdfast.session.objects import MODEL, RNG, RUN, LiveObjects
from holdfast.session.run_record import checked_run_record
from holdfast.session.source import CheckpointSource
from holdfast.session.together import Together
from holdfast.session.wanted import Wanted
from holdfast.state import (
    RestorePlan,
    SavesItself,
    StoredComponent,
    StreamLine,
    plan_module,
    plan_object,
    plan_optimizer,
    plan_rng,
    plan_value,
    raise_problems,
)

EVERYTHING = Wanted()


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. run_state: the component "run"; lines: one per part of the session."""

    run_state: Mapping[str, Any]
    lines: tuple[Line, ...]


def restore_session(
    source: CheckpointSource,
    objects: LiveObjects,
    wanted: Wanted = EVERYTHING,
    together: Together | None = None,
) -> Restored:
    """Restore every wanted object that the source has a component for, all or nothing.

    together: the ranks that do so at the same time; it is all or nothing for all of them.
    Raises MismatchError with every problem of every component, DamagedError, FormatError,
    ConfigError for a part there is none of, or InterruptedLoadError if the disk fails at the last
    moment, or an object refuses its state when others cannot be put back any more.
    """
    stage = nullcontext if together is None else together.stage
    with stage():
        live = wanted.live(objects)
        ready = _prepared(source, objects, live, wanted)
    with stage():
        _carry_out(source, list(ready.plans.values()))
        for name, value in live.items():
            missing = name not in ready.plans and name not in ready.elsewhere
            if missing and isinstance(value, SavesItself):
                value.start_afresh()
    lines = _lines(source, objects.components(), live, ready, with_rng=wanted.random_states)
    return Restored(
        ready.run_state, tuple(_with_batch_order(lines, ready.plans, live, ready.stand_ins))
    )


@dataclass(frozen=True)
class _Ready:
    """Everything proven, nothing live changed. elsewhere: why a component is not for this rank."""

    plans: Mapping[str, RestorePlan]
    run_state: Mapping[str, Any]
    stand_ins: Mapping[str, LenientLoader]
    elsewhere: Mapping[str, str]


def _prepared(
    source: CheckpointSource, objects: LiveObjects, live: Mapping[str, Any], wanted: Wanted
) -> _Ready:
    _require(source, live, wanted)
    elsewhere = {
        name: why for name in source.components() if (why := source.elsewhere(name)) is not None
    }
    # Where differences are tolerated, loaders get a stand-in that takes them and says so.
    stand_ins = (
        {}
        if wanted.strict
        else {
            name: LenientLoader(value)
            for name, value in live.items()
            if isinstance(value, OrderedLoader)
        }
    )
    both = {**live, **stand_ins}
    here = {name: value for name, value in both.items() if name not in elsewhere}
    with collector_paused():
        plans = _plans(source, objects, here, wanted, with_rng=RNG not in elsewhere)
    run_plan = (
        plan_value(source.stored(RUN), device=wanted.device) if RUN in source.components() else None
    )
    everything = [*plans.values(), *([run_plan] if run_plan else [])]
    raise_problems(everything)
    _prove(source, everything)
    if run_plan is not None:
        run_plan.finish()
    run_state = checked_run_record(run_plan.value) if run_plan is not None else {}
    return _Ready(plans, run_state, stand_ins, elsewhere)


def _require(source: CheckpointSource, live: Mapping[str, Any], wanted: Wanted) -> None:
    """A load without a model, or without what was asked for by name, is not what was meant."""
    there = source.components()
    asked = [*live, *([RNG] if wanted.random_states else [])] if wanted.partial else [MODEL]
    lacking = [name for name in asked if name not in there]
    if lacking and (wanted.strict or MODEL in lacking):
        raise LoadError(
            f"The checkpoint holds no {' and no '.join(lacking)} (it holds: {', '.join(there)})",
            where=source.place,
            fix="load another checkpoint, or name the components to load",
        )


def _plans(
    source: CheckpointSource,
    objects: LiveObjects,
    live: Mapping[str, Any],
    wanted: Wanted,
    *,
    with_rng: bool,
) -> dict[str, RestorePlan]:
    stored = {name: source.stored(name) for name in live if name in source.components()}
    named = (nn.Module, SavesItself)
    modules = {n: found for n, found in stored.items() if isinstance(live[n], named)}
    only = wanted.selects(modules)
    objects.reshard()
    optimizers = any(isinstance(live[name], Optimizer) for name in stored)
    names = objects.parameter_names() if optimizers else {}
    plans = {name: _plan(found, live[name], names, only, wanted) for name, found in stored.items()}
    if with_rng and wanted.random_states and RNG in source.components():
        plans[RNG] = plan_rng(source.stored(RNG), objects.generators)
    return plans


def _plan(
    stored: StoredComponent,
    value: Any,
    names: Mapping[Tensor, str],
    only: Callable[[str], bool] | None,
    wanted: Wanted,
) -> RestorePlan:
    if isinstance(value, SavesItself):
        return value.plan_component(stored, strict=wanted.strict, only=only)
    if isinstance(value, nn.Module):
        return plan_module(stored, value, strict=wanted.strict, only=only, cast=wanted.cast)
    if isinstance(value, Optimizer):
        return plan_optimizer(stored, value, names, strict=wanted.strict, cast=wanted.cast)
    # A loader's state_dict may start its workers: too much for a copy to go back to.
    reversible = not isinstance(value, DataLoader)
    return plan_object(stored, value, device=wanted.device, reversible=reversible)


def _prove(source: CheckpointSource, plans: list[RestorePlan]) -> None:
    """Prove every byte, and that it fits the memory it is to go to.

    What goes to memory nobody uses yet is read there at once, and is proven by that; all else is
    only looked at.
    """
    source.verify(
        [plan.component for plan in plans], but={plan.component: plan.fresh for plan in plans}
    )
    with collector_paused():
        for plan in plans:
            source.check(plan.component, plan.targets)
    for plan in plans:
        source.fill_fresh(plan.component, {name: plan.targets[name] for name in plan.fresh})
        plan.prove()


def _carry_out(source: CheckpointSource, plans: list[RestorePlan]) -> None:
    """Finish what goes through an object's own loader first, live memory next, RNG last.

    If one refuses, those finished before it are put back as far as they can be; what cannot be is
    named in an InterruptedLoadError, since the caller must not take it for untouched.
    """
    rank = {RNG: 2}
    begun: list[RestorePlan] = []
    for plan in sorted(plans, key=lambda plan: rank.get(plan.component, int(plan.live))):
        filled = False
        try:
            left = plan.targets.keys() - plan.fresh
            source.fill(plan.component, {n: t for n, t in plan.targets.items() if n in left})
            filled = True
            plan.finish()
            begun.append(plan)
        except BaseException as error:
            # Objects of ours, and reads that were refused, say no before they change anything.
            untouched = isinstance(error, HoldfastError) and not (plan.live and filled)
            if not untouched or plan.reversible:
                begun.append(plan)
            stuck = _put_back(begun)
            failure = _failure(source, plan, error, stuck)
            if failure is None:
                raise
            raise failure from error


def _failure(
    source: CheckpointSource, plan: RestorePlan, error: BaseException, stuck: list[str]
) -> LoadError | None:
    """The error to raise in place of `error`, None where that says it all."""
    if isinstance(error, InterruptedLoadError) or not isinstance(error, Exception):
        return None
    if isinstance(error, HoldfastError) and not stuck:
        return None
    reason = error.what if isinstance(error, HoldfastError) else error
    what = f"The {plan.component} refused its saved state: {reason}"
    if not stuck:
        return LoadError(
            what,
            where=source.place,
            fix="give it the construction it had when it was saved, or leave it out",
        )
    return InterruptedLoadError(
        f"{what}; changed already and not put back to what it was: {', '.join(stuck)}",
        where=source.place,
        fix="load a checkpoint that fits before going on",
    )


def _put_back(plans: list[RestorePlan]) -> list[str]:
    """Roll back what can be, the last first; return the components that stay changed."""
    stuck: list[str] = []
    for plan in reversed(plans):
        try:
            plan.rollback()
        except Exception:  # noqa: BLE001 (any object's own loader; the others must still go back)
            stuck.append(plan.component)
    return stuck


def _lines(
    source: CheckpointSource,
    live: Mapping[str, Any],
    wanted: Collection[str],
    ready: _Ready,
    *,
    with_rng: bool,
) -> list[Line]:
    lines: list[Line] = []
    for name in [*live, *([RNG] if with_rng else [])]:
        plan = ready.plans.get(name)
        if name in ready.elsewhere and plan is None and (name in wanted or name == RNG):
            lines.append(Line(name, "mismatch", ready.elsewhere[name]))
        elif plan is not None:
            lines += _random_lines(plan.value) if name == RNG else [_line(name, plan)]
        elif name in wanted or name == RNG:
            lines.append(Line(name, "absent", "the checkpoint was saved without it"))
        else:
            lines.append(Line(name, "skipped", "not asked for"))
    for name in source.components():
        if name not in live and name not in (RNG, RUN):
            lines.append(Line(name, "skipped", "in the checkpoint, but not given here"))
    return lines


def _with_batch_order(
    lines: list[Line],
    plans: Mapping[str, RestorePlan],
    live: Mapping[str, Any],
    stand_ins: Mapping[str, LenientLoader],
) -> list[Line]:
    """The lines, with those of restored loaders saying where they stand."""
    result: list[Line] = []
    for line in lines:
        value = live.get(line.item)
        if line.item in plans and isinstance(value, OrderedLoader):
            found = stand_ins[line.item].found if line.item in stand_ins else []
            result.append(order_line(line.item, value, found))
        else:
            result.append(line)
    return result


def _line(name: str, plan: RestorePlan) -> Line:
    status: Status = "mismatch" if plan.tolerated else "restored"
    report = [line.removeprefix(f"{name}: ") for line in plan.report]
    return Line(name, status, "; ".join([*report, *map(str, plan.tolerated)]))


def _random_lines(streams: object) -> list[Line]:
    """One line for each stream of the checklist that the random state's plan leaves behind."""
    if not isinstance(streams, tuple):
        return []
    return [
        Line(f"random {stream.stream}", stream.status, stream.reason)
        for stream in streams
        if isinstance(stream, StreamLine)
    ]
