"""Going on from where training stood: the newest checkpoint that verifies, or a given one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import nn
from torch.optim import Optimizer

from holdfast.clock import Clock, SystemClock
from holdfast.engine.catalog import read_catalog
from holdfast.engine.open_checkpoint import ALONE
from holdfast.engine.quarantine import confirm_damage, failed_to_read
from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    DamagedError,
    FormatError,
    HoldfastError,
    InterruptedLoadError,
    LoadError,
    NewerFormatError,
    NothingToResumeError,
)
from holdfast.session.folder import FolderSource
from holdfast.session.load import load_from, load_into
from holdfast.session.objects import LiveObjects
from holdfast.session.report import Loaded, ResumeReport
from holdfast.session.together import Together
from holdfast.session.wanted import Wanted
from holdfast.storage.protocol import RunStorage

Depth: TypeAlias = Literal["structure", "digests"]
SetAside: TypeAlias = Callable[[str, "list[str]"], str]
"""Given a name and its damage: renames the checkpoint and returns its new name. May raise."""

_PAUSES_SECONDS = (0.5, 2.0)


def resume_newest(
    run: RunStorage,
    objects: LiveObjects,
    *,
    strict: bool = True,
    verify: Depth = "digests",
    allow_fresh: bool | None = None,
    set_aside: SetAside | None = None,
    progress: Callable[[int, int], None] | None = None,
    clock: Clock | None = None,
    together: Together | None = None,
) -> ResumeReport:
    """Restore the newest checkpoint that verifies, walking back over damaged ones.

    verify: "digests" proves every byte before anything live changes; "structure" proves manifests,
    state and headers first and the tensor data as it arrives. allow_fresh: None makes a folder
    without checkpoints a fresh start and one without usable ones an error; True allows both, False
    neither. set_aside: how to quarantine what is proven to be damaged, once it is known what to go
    on with; None leaves it where it is. together: the ranks that resume at the same time: what one
    of them cannot read, all pass over.

    Raises NothingToResumeError if nothing can be used and a fresh start is not allowed, and
    MismatchError or NewerFormatError if the newest sound one does not fit: going back in silence
    would lose work.
    """
    if verify not in ("structure", "digests"):
        raise ConfigError(f"verify is {verify!r}", fix='use "digests" or "structure"')
    prove = verify == "digests"
    walk = _Walk(run, objects, strict, prove, progress, clock or SystemClock(), together)
    loaded = walk.back()
    if loaded is None and (walk.passed_over or allow_fresh is False):
        walk.refuse_unless(allow_fresh is True)
    report = ResumeReport(place=run.place, passed_over=tuple(walk.passed_over.values()))
    if loaded is not None:
        report = replace(
            report,
            info=loaded.info,
            values=loaded.values,
            lines=loaded.lines,
            run_state=loaded.run_state,
        )
    if together is None:
        return _quarantine(report, walk, set_aside)
    made = together.from_first(lambda: _as_json(_quarantine(report, walk, set_aside)))
    return replace(report, passed_over=tuple(made["passed_over"]), quarantined=made["quarantined"])


@dataclass
class _Walk:
    """From the newest checkpoint to the first that can be used. passed_over: name -> sentence."""

    run: RunStorage
    objects: LiveObjects
    strict: bool
    prove: bool
    progress: Callable[[int, int], None] | None
    clock: Clock
    together: Together | None = None
    passed_over: dict[str, str] = field(default_factory=dict)
    suspects: list[str] = field(default_factory=list)
    interrupted: bool = False

    def back(self) -> Loaded | None:
        """Restore the newest that verifies; None if none does."""
        names = self._names() if self.together is None else self._names_of_first(self.together)
        for name in names:
            loaded = self._restore(name)
            if loaded is not None:
                return loaded
        return None

    def _names(self) -> list[str]:
        """Every checkpoint that can be tried, from the newest on."""
        catalog = read_catalog(self.run)
        for item in catalog.unreadable:
            self._pass_over(item.name, item.error)
        return [entry.name for entry in reversed(catalog.entries)]

    def _names_of_first(self, together: Together) -> list[str]:
        """As rank 0 sees them: a shared file system may show others a little less."""

        def look() -> list[object]:
            return [self._names(), self.passed_over, self.suspects]

        names, passed_over, self.suspects = together.from_first(look)
        self.passed_over.update(passed_over)
        return list(names)

    def refuse_unless(self, fresh_is_fine: bool) -> None:
        """Raise NothingToResumeError unless live objects are untouched and may stay so."""
        if fresh_is_fine and not self.interrupted:
            return
        reasons = "; ".join(self.passed_over.values()) or "it holds none"
        fix = "start afresh in another folder, or restore this one from a backup"
        if self.interrupted:
            fix = "live objects hold parts of a checkpoint: make them anew first; then " + fix
        elif self.passed_over:
            fix += ", or allow a fresh start here: resume(allow_fresh=True)"
        raise NothingToResumeError(
            f"No checkpoint of the run can be used: {reasons}", where=self.run.place, fix=fix
        )

    def _restore(self, name: str) -> Loaded | None:
        """One checkpoint, read again after a pause if the disk or network failed."""
        for pause in (*_PAUSES_SECONDS, None):
            try:
                return self._load(name)
            except CheckpointNotFoundError:
                return None
            except LoadError as error:
                self.interrupted = self.interrupted or isinstance(error, InterruptedLoadError)
                if failed_to_read(error) and pause is not None:
                    self.clock.sleep(pause)
                    continue
                self._pass_over(name, error)
                return None
        return None

    def _load(self, name: str) -> Loaded:
        wanted, together = Wanted(strict=self.strict), self.together
        reader = ALONE if together is None else together.reader
        stage = contextlib.nullcontext if together is None else together.stage
        with contextlib.ExitStack() as stack:
            with stage():
                opening = FolderSource.open(
                    self.run, name, self.progress, prove=self.prove, reader=reader
                )
                source = stack.enter_context(opening)
            return load_from(source, Path(source.place), self.objects, wanted, together)

    def _pass_over(self, name: str, error: HoldfastError) -> None:
        """Note why. Raises what must not be passed over: a checkpoint that may well be sound."""
        if failed_to_read(error):
            self.passed_over[name] = f"{name}: could not be read: {error}"
            return
        damage = isinstance(error, (DamagedError, FormatError, InterruptedLoadError))
        if isinstance(error, NewerFormatError) or not damage:
            raise error
        self.passed_over[name] = f"{name}: {error}"
        self.suspects.append(name)


def _as_json(report: ResumeReport) -> dict[str, object]:
    return {"passed_over": report.passed_over, "quarantined": dict(report.quarantined)}


def _quarantine(report: ResumeReport, walk: _Walk, set_aside: SetAside | None) -> ResumeReport:
    renamed: dict[str, str] = {}
    for name in walk.suspects if set_aside is not None else ():
        damage = confirm_damage(walk.run, name)
        try:
            if damage and set_aside is not None:
                renamed[name] = set_aside(name, damage)
        except (HoldfastError, OSError) as error:
            walk.passed_over[name] += f"\n    It keeps its name: {error}"
    for name, new_name in renamed.items():
        walk.passed_over[name] += f"\n    It was set aside as {new_name}"
    return replace(report, passed_over=tuple(walk.passed_over.values()), quarantined=renamed)


def resume_training(
    checkpoint_path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: Optimizer | None,
    scheduler: Any,
    scaler: Any = None,
) -> dict[str, Any]:
    """Restore a checkpoint into these objects and print the resume checklist.

    checkpoint_path: a checkpoint folder, or an original `.pt` file.
    Returns epoch, global_step, best_metric and metrics_history, and the checklist's text under
    "checklist". Raises as `CheckpointManager.load` does; nothing live has changed then.
    """
    path = Path(checkpoint_path)
    loaded = load_into(path, LiveObjects(model, optimizer, scheduler, scaler))
    report = ResumeReport(
        place=str(path), info=loaded.info, values=loaded.values, lines=loaded.lines
    )
    report.print()
    keys = ("epoch", "global_step", "best_metric", "metrics_history")
    return {key: loaded.values[key] for key in keys} | {"checklist": report.checklist}
