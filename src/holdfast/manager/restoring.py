"""Restoring, and what the manager itself takes over from a checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast.engine.progress import Progress
from holdfast.engine.quarantine import set_aside
from holdfast.errors import HoldfastWarning, PolicyError
from holdfast.manager.context import Context
from holdfast.manager.interruptions import Interruptions
from holdfast.manager.returned import LoadedCheckpoint
from holdfast.manager.saving import Position
from holdfast.session import ResumeReport, Wanted, load_into, resume_newest
from holdfast.session.resume import Depth
from holdfast.values import CheckpointInfo

_RESTORED = "this session was restored from it"


class Restoring:
    """Loads and resumes of one manager."""

    def __init__(self, context: Context, interruptions: Interruptions) -> None:
        self._context, self._interruptions = context, interruptions

    def load(self, path: Path, wanted: Wanted) -> LoadedCheckpoint:
        """Restore one checkpoint, or a part of it; see `CheckpointManager.load`."""
        with self._progress("loading") as progress:
            loaded = load_into(
                path,
                self._context.objects,
                wanted,
                progress=progress,
                together=self._context.ranks.together(),
            )
        if not wanted.partial:
            self._adopt(loaded.info, loaded.values, loaded.run_state)
        return LoadedCheckpoint(loaded.values, loaded.components, loaded.read, path, loaded.lines)

    def resume(self, *, strict: bool, verify: Depth, allow_fresh: bool | None) -> ResumeReport:
        """Go on from the newest that verifies; see `CheckpointManager.resume`."""
        context = self._context
        with self._progress("resuming") as progress:
            report = resume_newest(
                context.run,
                context.objects,
                strict=strict,
                verify=verify,
                allow_fresh=allow_fresh,
                set_aside=self._set_aside,
                progress=progress,
                clock=context.clock,
                together=context.ranks.together(),
            )
        if report.info is not None:
            self._adopt(report.info, report.values, report.run_state)
            now = context.clock.time()
            context.history.note_resume(
                report.info.name, report.global_step, report.passed_over, now=now
            )
        return report

    def _set_aside(self, name: str, damage: list[str]) -> str:
        """Only the writer renames: a reader that resumes for an evaluation must not."""
        self._context.writer.ensure()
        return set_aside(self._context.run, name, damage, now=self._context.clock.time())

    def _adopt(
        self,
        info: CheckpointInfo | None,
        values: Mapping[str, Any],
        run_state: Mapping[str, Any],
    ) -> None:
        context = self._context
        epoch, step = _count(values["epoch"]), _count(values["global_step"])
        context.history.replace(values["metrics_history"])
        context.restored = {} if info is None else {info.id: _RESTORED}
        if info is not None:
            context.timeline.went_back_to(info)
        self._interruptions.announce(
            Position(
                epoch,
                step,
                epoch,
                model_config=values["model_config"],
                extra_state=values["extra_state"],
            )
        )
        now = context.clock.time()
        try:
            moment = context.decisions.moment(step, epoch, now)
            stored = run_state.get("triggers")
            context.decisions.restore(stored, now if info is None else info.time, moment)
        except PolicyError as error:
            warnings.warn(f"Triggers begin afresh: {error}", HoldfastWarning, stacklevel=4)

    def _progress(self, what: str) -> Progress:
        return Progress(what, enabled=self._context.config.progress)


def _count(value: object) -> int:
    """A step or epoch; imported files may hold anything there."""
    return value if isinstance(value, int) and value >= 0 else 0
