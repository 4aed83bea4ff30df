"""Carrying out a retention plan, and the pointers people follow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from holdfast.engine.catalog import Catalog
from holdfast.engine.events import note_deletion
from holdfast.errors import CheckpointNotFoundError, SaveError
from holdfast.manifest import MANIFEST_FILE
from holdfast.policy import Metric, PrunePlan, best
from holdfast.storage.protocol import InUseError, RunStorage
from holdfast.values import CheckpointInfo


@dataclass(frozen=True, slots=True)
class Pruned:
    """removed: name -> why. failed: name -> what went wrong. in_use: who is being read by now.

    What failed or is in use stays, and is tried again next time.
    """

    removed: Mapping[str, str]
    failed: Mapping[str, str]
    in_use: tuple[str, ...] = ()


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


def carry_out(
    run: RunStorage, plan: PrunePlan, catalog: Catalog, *, now: float | None = None
) -> Pruned:
    """Delete what the plan deletes, oldest first, and note each deletion with its reason.

    now: seconds since the epoch, UTC; None looks at the clock. One failure must not stop the
    others, nor the training run: the checkpoint just stays.
    """
    now = time.time() if now is None else now
    entries = {entry.manifest.id: entry for entry in catalog.entries}
    removed: dict[str, str] = {}
    failed: dict[str, str] = {}
    in_use: list[str] = []
    for identity, reason in plan.delete.items():
        name = entries[identity].name
        # A full disk takes no line, and it is then that checkpoints must go.
        with contextlib.suppress(SaveError, OSError):
            note_deletion(run, entries[identity], reason, now=now)
        try:
            run.discard(name, owned=[*entries[identity].manifest.files, MANIFEST_FILE])
        except CheckpointNotFoundError:
            continue
        except InUseError:
            in_use.append(name)
        except (OSError, SaveError) as error:
            failed[name] = str(error)
        else:
            removed[name] = reason
    return Pruned(removed, failed, tuple(in_use))


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
