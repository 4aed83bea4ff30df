"""Restoring a session as one transaction: every check first, then small objects, then tensors.

Nothing live changes until all names, shapes and dtypes agree and every byte is proven. Objects
with a loader of their own come first, because they may still refuse: then those already restored
are put back. Modules and optimizers, written in place, come next and random states last, because
what comes before may draw numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from holdfast.errors import HoldfastError, InterruptedLoadError, LoadError
from holdfast.session.batch_order import LenientLoader, OrderedLoader, order_line
from holdfast.session.checklist import Line, Status
from holdfast.session.objects import MODEL, OPTIMIZER, RNG, RUN, SCALER, SCHEDULER, LiveObjects
from holdfast.session.run_record import checked_run_record
from holdfast.session.source import CheckpointSource
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


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. run_state: the component "run"; lines: one per part of the session."""

    run_state: Mapping[str, Any]
    lines: tuple[Line, ...]


def restore_session(
    source: CheckpointSource,
    objects: LiveObjects,
    *,
    with_optimizer: bool = True,
    with_rng: bool = True,
    strict: bool = True,
    components: Collection[str] | None = None,
) -> Restored:
    """Restore every live object that the source has a component for, all or nothing.

    components: only these, None for all. strict: every name must agree; otherwise what fits is
    restored and the rest becomes lines. Raises MismatchError with every problem of every
    component, DamagedError, FormatError, or InterruptedLoadError if the disk fails at the last
    moment.
    """
    live = _live_components(objects, with_optimizer=with_optimizer)
    wanted = [name for name in live if components is None or name in components]
    present = [name for name in wanted if name in source.components()]
    # Where differences are tolerated, loaders get a stand-in that takes them and says so.
    stand_ins = (
        {}
        if strict
        else {
            name: LenientLoader(value)
            for name, value in live.items()
            if isinstance(value, OrderedLoader)
        }
    )
    names = objects.parameter_names()
    plans = {
        name: _plan(source.stored(name), stand_ins.get(name, live[name]), names, strict)
        for name in present
    }
    if with_rng and RNG in source.components() and (components is None or RNG in components):
        plans[RNG] = plan_rng(source.stored(RNG), objects.generators)
    run_plan = plan_value(source.stored(RUN)) if RUN in source.components() else None
    everything = [*plans.values(), *([run_plan] if run_plan else [])]
    _require_model(source, wanted, plans)
    raise_problems(everything)
    source.verify([plan.component for plan in everything])
    if run_plan is not None:
        source.fill(RUN, run_plan.targets)
        run_plan.finish()
    run_state = checked_run_record(run_plan.value) if run_plan is not None else {}
    _carry_out(source, list(plans.values()))
    for name in wanted:
        if name not in plans and isinstance(live[name], SavesItself):
            live[name].start_afresh()
    lines = _lines(source, live, wanted, plans, with_rng=with_rng)
    return Restored(run_state, tuple(_with_batch_order(lines, plans, live, stand_ins)))


def _live_components(objects: LiveObjects, *, with_optimizer: bool) -> dict[str, Any]:
    live: dict[str, Any] = {MODEL: objects.model}
    if with_optimizer:
        named = {
            OPTIMIZER: objects.optimizer,
            SCHEDULER: objects.scheduler,
            SCALER: objects.scaler,
        }
        live |= {name: value for name, value in named.items() if value is not None}
    return live | objects.registered


def _plan(
    stored: StoredComponent, value: Any, names: Mapping[Tensor, str], strict: bool
) -> RestorePlan:
    if isinstance(value, SavesItself):
        return value.plan_component(stored, strict=strict)
    if isinstance(value, nn.Module):
        return plan_module(stored, value, strict=strict)
    if isinstance(value, Optimizer):
        return plan_optimizer(stored, value, names, strict=strict)
    # A loader's state_dict may start its workers: too much for a copy to go back to.
    return plan_object(stored, value, reversible=not isinstance(value, DataLoader))


def _require_model(
    source: CheckpointSource, wanted: Collection[str], plans: Mapping[str, RestorePlan]
) -> None:
    if MODEL in wanted and MODEL not in plans:
        raise LoadError(
            "The checkpoint holds no model",
            where=source.place,
            fix="load another checkpoint, or name the components to load",
        )


def _carry_out(source: CheckpointSource, plans: list[RestorePlan]) -> None:
    """Finish what goes through an object's own loader first, live memory next, RNG last.

    If one refuses, those finished before it are put back as far as they can be.
    """
    rank = {RNG: 2}
    ordered = sorted(plans, key=lambda plan: rank.get(plan.component, int(plan.live)))
    done: list[RestorePlan] = []
    for plan in ordered:
        done.append(plan)
        try:
            source.fill(plan.component, plan.targets)
            plan.finish()
        except BaseException as error:
            stuck = _put_back(done)
            if isinstance(error, HoldfastError) or not isinstance(error, Exception):
                raise
            rest = f"; not put back to what it was: {', '.join(stuck)}" if stuck else ""
            touched = stuck or any(plan.live for plan in done)
            raise (InterruptedLoadError if touched else LoadError)(
                f"The {plan.component} refused its saved state: {error}{rest}",
                where=source.place,
                fix="give it the construction it had when it was saved, or leave it out",
            ) from error


def _put_back(plans: list[RestorePlan]) -> list[str]:
    """Roll back what can be, the last first; return the components that refused even that."""
    stuck: list[str] = []
    for plan in reversed(plans):
        if plan.reversible:
            try:
                plan.rollback()
            except Exception:  # noqa: BLE001 (any object's own loader; the others must still go back)
                stuck.append(plan.component)
    return stuck


def _lines(
    source: CheckpointSource,
    live: Mapping[str, Any],
    wanted: Collection[str],
    plans: Mapping[str, RestorePlan],
    *,
    with_rng: bool,
) -> list[Line]:
    lines: list[Line] = []
    for name in [*live, *([RNG] if with_rng else [])]:
        plan = plans.get(name)
        if plan is not None:
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
