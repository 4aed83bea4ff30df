"""Carrying out a retention plan, and the pointers people follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from holdfast.engine.catalog import Catalog
from holdfast.engine.events import note_deletions
from holdfast.errors import CheckpointNotFoundError, SaveError
from holdfast.manifest import MANIFEST_FILE
from holdfast.policy import Metric, PrunePlan, Retention, best, plan_prune
from holdfast.storage.protocol import InUseError, RunStorage
from holdfast.values import CheckpointInfo


@dataclass(frozen=True, slots=True)
class Pruned:
    """removed: name -> why. failed: name -> what went wrong. in_use: who is being read by now.

    What failed or is in use stays, and is tried again next time. unlogged: why the deletions could
    not be written down, None if they were.
    """

    removed: Mapping[str, str]
    failed: Mapping[str, str]
    in_use: tuple[str, ...] = ()
    unlogged: str | None = None


def without_copies(
    infos: Sequence[CheckpointInfo],
) -> tuple[list[CheckpointInfo], dict[str, str]]:
    """Each checkpoint once, and by id those of which somebody put a copy beside it.

    Such a copy was made to be kept, and which of the folders it is cannot be told: all stay.
    """
    once: dict[str, CheckpointInfo] = {}
    copied: dict[str, str] = {}
    for info in infos:
        if info.id in once:
            copied[info.id] = f"{info.name} has the same id as {once[info.id].name}"
        once.setdefault(info.id, info)
    return list(once.values()), copied


def plan_unread(
    run: RunStorage,
    catalog: Catalog,
    rule: Retention,
    *,
    now: float,
    tracked: Sequence[Metric] = (),
    protected: Mapping[str, str] | None = None,
    extra: CheckpointInfo | None = None,
) -> PrunePlan:
    """`plan_prune` of the catalog, with copies and what is being read protected as well.

    extra: a checkpoint that is not there yet.
    """
    names = {entry.manifest.id: entry.name for entry in catalog.entries}
    infos, copied = without_copies(catalog.infos)
    held = {**copied, **(protected or {})}
    while True:
        plan = plan_prune(
            infos if extra is None else [*infos, extra],
            rule,
            now=now,
            protected=held,
            tracked=tracked,
        )
        busy = [i for i in plan.delete if i in names and run.in_use(names[i])]
        if not busy:
            return plan
        held |= dict.fromkeys(busy, "it is being read")


def carry_out(
    run: RunStorage, plan: PrunePlan, catalog: Catalog, *, rule: str, now: float
) -> Pruned:
    """Delete what the plan deletes, oldest first, having written down why.

    One failure must not stop the others, nor the training run: the checkpoint just stays. rule:
    the expression that makes the retention rule. now: seconds since the epoch, UTC.
    """
    entries = {entry.manifest.id: entry for entry in catalog.entries}
    going = [(entries[identity], why) for identity, why in plan.delete.items()]
    unlogged = note_deletions(run, going, rule=rule, now=now) if going else None
    removed: dict[str, str] = {}
    failed: dict[str, str] = {}
    in_use: list[str] = []
    for entry, reason in going:
        name = entry.name
        try:
            run.discard(name, owned=[*entry.manifest.files, MANIFEST_FILE])
        except CheckpointNotFoundError:
            continue
        except InUseError:
            in_use.append(name)
        except (OSError, SaveError) as error:
            failed[name] = str(error)
        else:
            removed[name] = reason
    return Pruned(removed, failed, tuple(in_use), unlogged)


def refresh_pointers(
    run: RunStorage, infos: Sequence[CheckpointInfo], tracked: Sequence[Metric]
) -> None:
    """Point `latest` and `best-<metric>` at the right folders; conveniences, never read by us."""
    if infos:
        run.point("latest", infos[-1].name)
    for metric in tracked:
        winner = best(infos, metric.name, metric.mode)
        if winner is not None:
            run.point(f"best-{metric.name}", winner.name)
