"""Averages of any length after training: EMA lengths, windows, decay shapes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from itertools import pairwise

from holdfast.decay import (
    PowerFunction,
    Profile,
    SegmentMean,
    combine_profiles,
    gamma_of_sigma,
)
from holdfast.errors import ConfigError
from holdfast.posthoc.recipe import Recipe
from holdfast.posthoc.snapshots import Snapshot, find_snapshots, open_run
from holdfast.storage.protocol import RunStorage


def plan_ema(
    run: str | os.PathLike[str],
    sigma_rel: float,
    *,
    until: str | None = None,
    component: str = "ema",
) -> Recipe:
    """How to reconstruct the EMA of relative width `sigma_rel` that a run might have kept.

    run: the folder; its checkpoints hold averages by `PowerFunction`, two widths at best, made by
    `EMAModel(model, [PowerFunction(0.05), PowerFunction(0.10)])`. until: name of the checkpoint at
    whose time the EMA is wanted, None for the newest; averages stored later are not used.
    Print the recipe for the predicted error before reading it. Karras et al., arXiv 2312.02696.
    Raises ConfigError if the checkpoints hold no such averages.
    """
    opened = open_run(run)
    return ema_recipe(opened, find_snapshots(opened, until=until, component=component), sigma_rel)


def ema_recipe(run: RunStorage, snapshots: list[Snapshot], sigma_rel: float) -> Recipe:
    """As `plan_ema`, from snapshots already found, at the time of the newest of them."""
    usable: dict[Profile, Snapshot] = {}
    for snapshot in snapshots:
        profile = snapshot.profile
        if profile is not None and profile.time > 0:
            usable[profile] = snapshot
    units = {s.schedule.unit for s in usable.values() if isinstance(s.schedule, PowerFunction)}
    if not usable or len(units) > 1:
        raise ConfigError(
            "The checkpoints hold no averages by power functions that began with the run"
            if not usable
            else "The stored averages count time in different units",
            where=run.place,
            fix="train with EMAModel(model, [PowerFunction(0.05), PowerFunction(0.10)]) registered",
        )
    now = max(profile.time for profile in usable)
    wanted = Profile(now, gamma_of_sigma(sigma_rel))
    found = combine_profiles(list(usable), wanted)
    parts = tuple(
        (snapshot, share)
        for snapshot, share in zip(usable.values(), found.coefficients, strict=True)
        if share
    )
    return Recipe(run, f"EMA of relative width {sigma_rel:g} at {now:g}", parts, found.error)


def plan_window(
    run: str | os.PathLike[str],
    start: int,
    *,
    until: str | None = None,
    component: str = "ema",
    shape: Callable[[float], float] | None = None,
) -> Recipe:
    """How to average every step after step `start` up to a checkpoint, from segment means.

    start: in optimizer steps; rounded up to where a stored segment begins (see the label).
    shape: weight of a step, by how far it lies in the window, 0 (start) to 1 (end); None is the
    plain mean. Evaluated at the middle of each segment, so that a linear or 1 - sqrt decay of the
    learning rate can be emulated afterwards. Coefficients are never negative.
    Raises ConfigError if no segment lies in the window, or if one between two others was not
    kept: a window with a hole is not what was asked for.
    """
    opened = open_run(run)
    segments = _segments(find_snapshots(opened, until=until, component=component), opened, start)
    first, last = segments[0].origin.steps, segments[-1].clock.steps
    weights = []
    for segment in segments:
        middle = (segment.origin.steps + segment.clock.steps) / 2
        weight = 1.0 if shape is None else float(shape((middle - first) / (last - first)))
        if not (math.isfinite(weight) and weight >= 0.0):
            raise ConfigError(f"The shape gives the weight {weight}, which is not zero or more")
        weights.append(weight * segment.updates)
    total = math.fsum(weights)
    if total <= 0.0:
        raise ConfigError("The shape gives every segment the weight 0")
    parts = tuple(
        (segment, weight / total)
        for segment, weight in zip(segments, weights, strict=True)
        if weight
    )
    label = "mean" if shape is None else "weighted mean"
    return Recipe(opened, f"{label} of steps {first + 1} to {last}", parts, 0.0)


def _segments(snapshots: list[Snapshot], run: RunStorage, start: int) -> list[Snapshot]:
    found = {
        (snapshot.origin, snapshot.clock): snapshot
        for snapshot in snapshots
        if isinstance(snapshot.schedule, SegmentMean) and snapshot.origin.steps >= start
    }
    segments = sorted(found.values(), key=lambda segment: segment.clock.steps)
    if not segments:
        raise ConfigError(
            f"No stored segment mean begins at step {start} or later",
            where=run.place,
            fix="train with EMAModel(..., segment_means=True) registered, and keep the checkpoints",
        )
    for earlier, later in pairwise(segments):
        if earlier.clock.steps != later.origin.steps:
            raise ConfigError(
                f"The means of steps {earlier.clock.steps + 1} to {later.origin.steps} were not "
                "kept",
                where=run.place,
                fix="start the window later, or let retention keep every checkpoint of it",
            )
    return segments
