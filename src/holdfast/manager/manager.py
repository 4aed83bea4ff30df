"""`CheckpointManager`: the face a training loop sees."""

from __future__ import annotations

import os
import signal
import warnings
import weakref
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim import Optimizer
from typing_extensions import Self

from holdfast.clock import Clock
from holdfast.coordination import Coordination
from holdfast.engine.amend import set_pin
from holdfast.engine.catalog import Entry
from holdfast.engine.ledger import SaveStats
from holdfast.errors import ConfigError, HoldfastWarning
from holdfast.manager import finding, late
from holdfast.manager.background import Callbacks, OnCommit, OnFailure
from holdfast.manager.config import CheckpointConfig
from holdfast.manager.finding import Reference
from holdfast.manager.parts import assemble
from holdfast.manager.returned import LoadedCheckpoint
from holdfast.manager.rotation import PruneReport
from holdfast.manager.signals import SignalWatch
from holdfast.policy import Decision, Retention, Trigger
from holdfast.session import LiveObjects, Only, ResumeReport, Wanted, device_of
from holdfast.session.resume import Depth
from holdfast.state import CastPolicy
from holdfast.state.key_mapping import KeyMapping, as_mapping
from holdfast.storage import LocalRun
from holdfast.values import CheckpointInfo, SaveReason

T = TypeVar("T")


class CheckpointManager:
    """Saves, rotates, finds and restores the checkpoints of one training run.

    model, optimizer, scheduler, scaler: the live objects; None for what the run lacks.
    generators: NumPy or torch generators, by name, whose state belongs to the random state.
    triggers: when `maybe_save` saves. retention: what rotation keeps; by default what `config`
    says. clock: the time, for tests. on_commit, on_failure: called with the checkpoint's folder and
    its record, or the error, after each save, on the thread that wrote it. coordination: the other
    ranks of the job; by default those of torch.distributed's process group, if there is one.

    One process at a time writes a run folder, from its first save until `close`; any number may
    read it. As a context manager it closes itself, and with `save_on_exception` or `AtExit` among
    the triggers it saves the last state on leaving.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        model: nn.Module,
        optimizer: Optimizer | None = None,
        scheduler: Any = None,
        scaler: Any = None,
        *,
        generators: Mapping[str, Any] | None = None,
        triggers: Trigger | None = None,
        retention: Retention | None = None,
        clock: Clock | None = None,
        on_commit: OnCommit | None = None,
        on_failure: OnFailure | None = None,
        coordination: Coordination | None = None,
    ) -> None:
        self.config = config
        self.objects = LiveObjects(
            model, optimizer, scheduler, scaler, generators=dict(generators or {})
        )
        run = LocalRun(config.checkpoint_dir)
        callbacks = Callbacks(on_commit, on_failure)
        self._parts = assemble(
            run, config, self.objects, triggers, retention, clock, callbacks, coordination
        )
        self._context = self._parts.context
        self._at_exit = weakref.finalize(self, self._parts.saving.failures.report)

    @property
    def retention(self) -> Retention:
        """What rotation keeps; may be replaced at any time."""
        return self._context.retention

    @retention.setter
    def retention(self, rule: Retention) -> None:
        self._context.retention = rule

    def register(self, name: str, stateful: object) -> None:
        """Save and restore a further object with every checkpoint, under `name`.

        stateful: anything with `state_dict()` and `load_state_dict()`, such as a data loader, an
        EMA, another module or an `EarlyStopper`. Register before `resume()` or `load()`.
        Raises ConfigError for a name that is taken or an object without state.
        """
        self.objects.register(name, stateful)

    # Saving

    def save(
        self,
        epoch: int,
        step: int,
        metrics: Mapping[str, Any] | None = None,
        model_config: object = None,
        extra_state: object = None,
        *,
        reason: SaveReason | None = None,
    ) -> Path | None:
        """Save a checkpoint; it is durable when this returns, and rotation has been carried out.

        With `async_save` it returns as soon as the state is copied (with `async_overlap`, even
        before what only optimizer steps change is): the folder returned appears when the save
        commits, `wait` waits for that, and what goes wrong is raised by the next call.

        epoch, step: where training stands; step counts optimizer steps since the run began.
        metrics: numbers by name; the tracked ones decide what is best. model_config: plain values,
        a dataclass or a namespace. extra_state: any plain values and tensors.
        Returns the checkpoint's folder; None if `save_best_only` is set and this is not the best,
        if the save failed and `on_save_error` is "warn", or if it was skipped (`when_busy`).
        The same epoch and step with the same content is the same checkpoint; with other content it
        is a further one, whose name ends in _2, and counts as the newer.
        Raises ConfigError, UnsavableError, NoSpaceError, SaveError, or LockedError if another
        process writes the run; earlier checkpoints stand in every case.
        """
        return self._parts.stepping.save(epoch, step, metrics, model_config, extra_state, reason)

    def maybe_save(
        self,
        epoch: int,
        step: int,
        metrics: Mapping[str, Any] | None = None,
        model_config: object = None,
        extra_state: object = None,
        *,
        end_of_epoch: bool = False,
    ) -> Path | None:
        """Save if a trigger is due, or if a signal or the file `save-now` asks for it.

        Call it between steps: it is a safe point. metrics: of the weights of this very step; a
        `Measurement(value, step)` of another one is never ranked as of this. end_of_epoch: `epoch`
        ends with this step. The rest, and what is raised, is as in `save`; ConfigError without
        triggers. Returns None if nothing was saved; `last_decision` tells why.
        """
        return self._parts.stepping.maybe_save(
            epoch, step, metrics, model_config, extra_state, end_of_epoch=end_of_epoch
        )

    def agree(self, value: T) -> T:
        """Rank 0's value, anything JSON can hold, on every rank, so that all decide alike.

        `if manager.agree(stopper.should_stop): break`, by all ranks. Raises SaveError if one ended.
        """
        return self._context.ranks.of_first(value)

    @property
    def last_decision(self) -> Decision | None:
        """The last decision whether to save, with its reason; None before the first."""
        return self._context.decisions.last

    def check(self) -> Path | None:
        """A safe point while training stands still: save if a signal or `save-now` asked for it.

        The checkpoint is of the position last given, moved on by the optimizer steps since.
        """
        return self._parts.interruptions.check()

    def safe_point(self) -> AbstractContextManager[None]:
        """Promise that nothing that is saved changes inside the `with`, random states excepted.

        A signal inside is served at once, from the handler: for a validation or a wait for data
        longer than the grace period. Random states are saved as they were on entering.
        """
        return self._parts.interruptions.safe_point()

    def handle_signals(
        self,
        grace_seconds: float | None = None,
        *,
        stop: Iterable[int] = (signal.SIGTERM, signal.SIGINT),
        save: Iterable[int] = (signal.SIGUSR1,),
    ) -> SignalWatch:
        """Let signals ask for a save: `stop` ones set `stop_requested` as well.

        Served at the next safe point: `maybe_save`, `check`, `safe_point` or leaving the manager.
        grace_seconds: from a stop signal to the kill that follows; no retry waits beyond it. A
        second stop signal ends the process at once. Lasts until `close`, or as a context manager.
        Raises ConfigError outside the main thread.
        """
        return self._parts.interruptions.handle(grace_seconds, stop, save)

    @property
    def stop_requested(self) -> bool:
        """Whether a signal asked to stop: leave the loop after the next safe point."""
        return self._parts.interruptions.stopping is not None

    # What to keep

    def prune(self) -> None:
        """Carry out the retention rule and refresh the pointers. Saving does this by itself.

        Of many ranks, rank 0 does it. Raises LockedError if another process writes the run.
        """
        self.wait()
        for text in self._parts.rotation.prune_now():
            warnings.warn(text, HoldfastWarning, stacklevel=2)

    def plan_prune(self) -> PruneReport:
        """What `prune` would do now: every checkpoint with the rule that keeps or drops it."""
        return self._parts.rotation.report()

    def pin(self, checkpoint: Reference, reason: str) -> CheckpointInfo:
        """Exempt a committed checkpoint from retention. Works while another process writes."""
        if not reason.strip():
            raise ConfigError("A pin needs a reason", fix="say why it must stay")
        return set_pin(self._context.run, self._find(checkpoint), reason)

    def unpin(self, checkpoint: Reference) -> CheckpointInfo:
        """Take the pin away; the next rotation decides."""
        return set_pin(self._context.run, self._find(checkpoint), None)

    def record(
        self, checkpoint: Reference, metrics: Mapping[str, Any], *, overwrite: bool = False
    ) -> CheckpointInfo:
        """Attach metrics measured later to a committed checkpoint, atomically.

        checkpoint: a global step, or a name or path. They rank and retain like those given to
        `save` and stand in the history. Works while another process writes; of many ranks, rank 0
        does it. Raises ConfigError if the checkpoint has another value and `overwrite` is not set.
        """
        return late.record(self._context, self._find(checkpoint), metrics, overwrite=overwrite)

    # Finding

    def checkpoints(self) -> list[CheckpointInfo]:
        """Every committed checkpoint, oldest first, from the manifests alone."""
        return list(self._context.catalog.read().infos)

    def get_latest_checkpoint(self) -> Path | None:
        """Folder of the newest checkpoint (by step, not by file time), None if there is none."""
        return finding.latest(self._context)

    def get_best_checkpoint(self, metric: str | None = None) -> Path | None:
        """Folder of the best checkpoint by a tracked metric, by default the deciding one.

        None if no checkpoint has a finite value of it. Raises ConfigError for an untracked metric.
        """
        return finding.best_path(self._context, metric)

    @property
    def best_metric(self) -> float:
        """Best finite value of the deciding metric so far; the worst possible if there is none."""
        return self._context.best_metric

    # Restoring

    def load(
        self,
        checkpoint_path: str | os.PathLike[str] | None = None,
        load_optimizer: bool = True,
        load_rng_state: bool = True,
        *,
        strict: bool = True,
        components: Collection[str] | None = None,
        only: Only | None = None,
        map_location: str | torch.device | None = None,
        cast: CastPolicy = "refuse",
        mapping: str | os.PathLike[str] | KeyMapping | None = None,
    ) -> LoadedCheckpoint:
        """Restore a checkpoint into the live objects, verified, all or nothing.

        checkpoint_path: a checkpoint folder or an original `.pt` file; None takes the newest.
        load_optimizer: also optimizer, scheduler and scaler. load_rng_state: also random states.
        strict: names, shapes and dtypes must agree; otherwise what fits is restored and `report`
        of the result lists the rest (shapes and dtypes must agree all the same).

        For a part: components: names such as "model", "optimizer", "rng" or those of registered
        objects; only these are read, whatever the two flags say. only: the FQNs to load into
        modules and averages (whose counters then stay): names of tensors or of submodules, patterns
        such as "encoder.*.weight", or a function; alone it stands for components=["model"]. Neither
        changes the metrics history or which checkpoint the session is taken to go on from.
        map_location: the device for tensors that no live tensor stands ready for: those in the
        state of other objects, in extra_state and in the state dicts of the result; the CPU by
        default. Live tensors are filled where they are. cast: "floating" converts between floating
        dtypes. mapping: names of the model's tensors in the checkpoint, as `holdfast doctor` writes
        them; alone it stands for components=["model"].

        Returns epoch, global_step, best_metric, metrics, metrics_history, timestamp, model_config,
        extra_state; the state dicts of components are read when asked for.
        Raises CheckpointNotFoundError, DamagedError, FormatError, MismatchError or ConfigError, and
        no live object has changed then; InterruptedLoadError says that some have.
        """
        self.wait()
        place, names = device_of(map_location), as_mapping(mapping)
        what = (load_optimizer, load_rng_state, components, only, strict, cast, place, names)
        wanted = Wanted(*what)
        path = None if checkpoint_path is None else Path(checkpoint_path)
        return self._parts.restoring.load(path or finding.require_latest(self._context), wanted)

    def load_best(self, **kwargs: Any) -> LoadedCheckpoint:
        """`load` of the best checkpoint; `metric=` names another tracked metric.

        Raises CheckpointNotFoundError if no checkpoint has a finite value of it.
        """
        self.wait()
        return self.load(finding.require_best(self._context, kwargs.pop("metric", None)), **kwargs)

    def resume(
        self,
        *,
        strict: bool = True,
        verbose: bool = True,
        verify: Depth = "digests",
        allow_fresh: bool | None = None,
    ) -> ResumeReport:
        """Go on from the newest checkpoint that verifies; a fresh start if there is none at all.

        Walks back over damaged checkpoints, with the reason for each in the report; once a sound
        one is restored they are renamed to `damaged-...`, never deleted. strict: as in `load`.
        verify: "digests" proves every byte before anything live changes, "structure" reads the
        data once and proves it as it arrives. allow_fresh: False makes an empty folder an error,
        True makes one without any usable checkpoint a fresh start. verbose: print the checklist.

        Raises NothingToResumeError if no checkpoint is usable, and MismatchError or
        NewerFormatError if the newest sound one cannot be taken.
        """
        self.wait()
        report = self._parts.restoring.resume(strict=strict, verify=verify, allow_fresh=allow_fresh)
        if verbose:
            report.print()
        return report

    # Ending

    @property
    def pending(self) -> tuple[Path, ...]:
        """Folders of checkpoints that were saved and are not committed yet, oldest first."""
        return self._parts.saving.saves.pending

    @property
    def stats(self) -> SaveStats:
        """What the saves of this session cost; prints as one sentence."""
        return self._parts.saving.saves.stats

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every save so far is committed and rotation carried out.

        timeout: seconds, None for no limit. Raises WaitTimeoutError after that, and what made a
        save fail in the background since the last call.
        """
        self._parts.saving.wait(timeout)

    def close(self) -> None:
        """Finish: save if `AtExit` asks for it, wait for pending saves, let others write.

        Restores signal handlers, and says in the log what the saves cost and how many failed, if
        any did. The manager can still read afterwards. Raises what made a save fail in the
        background since the last call, and WaitTimeoutError if one is not done within
        `close_timeout_seconds`.
        """
        self._close(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close(error)

    def _close(self, error: BaseException | None) -> None:
        saving = self._parts.saving
        try:
            self._parts.interruptions.finish(error)
            saving.saves.close()
            if self._context.writer.holds_lock:
                saving.flush_history()
        finally:
            self._parts.interruptions.release()
            if not self.pending:
                self._context.writer.release()
            saving.failures.report()
        saving.report()
        saving.surface()

    def _find(self, checkpoint: Reference) -> Entry:
        self.wait()
        return finding.find(self._context.run, Path(self.config.checkpoint_dir), checkpoint)
