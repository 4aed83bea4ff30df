"""`CheckpointManager`: the face a training loop sees."""

from __future__ import annotations

import os
import time as clock
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from torch import nn
from torch.optim import Optimizer
from typing_extensions import Self

from holdfast.engine.catalog import read_catalog
from holdfast.engine.ledger import SaveStats
from holdfast.engine.progress import Progress
from holdfast.engine.provenance import gather_provenance
from holdfast.engine.prune import carry_out, refresh_pointers, without_copies
from holdfast.engine.save import SaveReceipt, SaveRequest, save_checkpoint
from holdfast.errors import CheckpointNotFoundError, HoldfastWarning
from holdfast.manager.background import OnCommit, OnFailure, Saves
from holdfast.manager.config import CheckpointConfig
from holdfast.manager.history import MetricsHistory
from holdfast.manager.metrics import numeric_metrics, plain_metrics
from holdfast.manager.returned import LoadedCheckpoint
from holdfast.manager.timeline import Timeline
from holdfast.policy import Metric, Retention, best, default_retention, plan_prune
from holdfast.session import (
    LiveObjects,
    ResumeReport,
    capture_session,
    json_config,
    load_into,
    plain_config,
    resume_newest,
)
from holdfast.storage import LocalRun
from holdfast.values import CheckpointInfo, SaveReason


class CheckpointManager:
    """Saves, rotates, finds and restores the checkpoints of one training run.

    model, optimizer, scheduler, scaler: the live objects; None for what the run lacks.
    generators: NumPy or torch generators, by name, whose state belongs to the random state.
    retention: what rotation keeps; by default what `config` says.
    on_commit, on_failure: called with the folder and the checkpoint's record, or the folder and the
    error, after each save, on the thread that wrote it.
    One manager at a time writes a run folder; any number may read it.
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
        retention: Retention | None = None,
        on_commit: OnCommit | None = None,
        on_failure: OnFailure | None = None,
    ) -> None:
        self.config = config
        self.objects = LiveObjects(
            model, optimizer, scheduler, scaler, generators=dict(generators or {})
        )
        self.retention = retention or default_retention(config.save_total_limit, config.tracked)
        self._run = LocalRun(config.checkpoint_dir)
        self._history = MetricsHistory(self._run)
        self._timeline = Timeline()
        self._saves = Saves(
            config,
            self._run,
            commit=self._write,
            after=lambda receipt: self._rotate(),
            on_commit=on_commit,
            on_failure=on_failure,
        )

    def register(self, name: str, stateful: object) -> None:
        """Save and restore a further object with every checkpoint, under `name`.

        stateful: anything with `state_dict()` and `load_state_dict()`: a data loader or sampler, an
        EMA, another module or optimizer. Register before `resume()` or `load()`.
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

        epoch, step: where training stands; step counts optimizer steps since the run began.
        metrics: numbers by name; the tracked ones decide what is best. model_config: plain values,
        a dataclass or a namespace. extra_state: any plain values and tensors.
        Returns the checkpoint's folder; None if `save_best_only` is set and this is not the best.
        The same epoch and step with the same content is the same checkpoint; with other content it
        is a further one, whose name ends in _2, and counts as the newer.
        Raises UnsavableError, NoSpaceError or SaveError; earlier checkpoints stand in every case.
        """
        now, began = clock.time(), clock.monotonic()
        numbers = numeric_metrics(metrics)
        self._history.add(epoch, step, plain_metrics(metrics), now=now)
        if not self._saves.admit(step):
            return None
        infos = sorted(
            [*read_catalog(self._run).infos, *self._saves.pending_infos], key=lambda i: i.order
        )
        if self.config.save_best_only and not self._is_best(numbers, infos):
            return None
        reason = reason or self._default_reason(numbers)
        request = self._request(
            infos, now, epoch, step, numbers, metrics, model_config, extra_state, reason
        )
        self._saves.consider([i.name for i in infos[-1:]] + [p.name for p in request.parents])
        if self.config.async_save:
            return self._path(self._saves.later(request, self.objects, began))
        return self._path(self._saves.now(request, began))

    def _request(
        self,
        infos: list[CheckpointInfo],
        now: float,
        epoch: int,
        step: int,
        numbers: Mapping[str, float],
        metrics: Mapping[str, Any] | None,
        model_config: object,
        extra_state: object,
        reason: SaveReason,
    ) -> SaveRequest:
        if self._timeline.starts_beside_others(infos):
            warnings.warn(
                f"{self._run.place} already holds {len(infos)} checkpoints, up to step "
                f"{infos[-1].global_step}, and this session did not resume from them; its own "
                "count as newer. Call resume() first to go on, or use another checkpoint_dir",
                HoldfastWarning,
                stacklevel=4,
            )
        branch, sequence = self._timeline.place(infos)
        config = plain_config(model_config)
        run_state = {
            "epoch": epoch,
            "global_step": step,
            "metrics": plain_metrics(metrics),
            "best_metric": self.best_metric,
            "metrics_history": self._history.records,
            "model_config": config,
            "extra_state": extra_state,
        }
        return SaveRequest(
            epoch=epoch,
            global_step=step,
            branch=branch,
            sequence=sequence,
            time=now,
            reason=reason,
            components=capture_session(
                self.objects,
                run_state,
                with_optimizer=self.config.save_optimizer,
                with_rng=self.config.save_rng_state,
            ),
            metrics=numbers,
            directions=self.config.directions,
            config=json_config(config),
            parents=self._timeline.parents(),
            provenance=gather_provenance() if self.config.provenance else {},
        )

    def _write(self, request: SaveRequest, **options: Any) -> SaveReceipt:
        with self._progress("saving") as progress:
            return save_checkpoint(self._run, request, progress=progress, **options)

    def _is_best(self, numbers: Mapping[str, float], infos: list[CheckpointInfo]) -> bool:
        deciding = self._deciding
        value = numbers.get(deciding.name)
        if value is None:
            warnings.warn(
                f"save_best_only is set but the metrics hold no number named {deciding.name!r} "
                f"(there are: {', '.join(sorted(numbers)) or 'none'}); nothing was saved",
                HoldfastWarning,
                stacklevel=4,
            )
            return False
        winner = best(infos, deciding.name, deciding.mode)
        return deciding.improves(value, None if winner is None else winner.metrics[deciding.name])

    def _default_reason(self, numbers: Mapping[str, float]) -> SaveReason:
        if not self.config.save_best_only:
            return SaveReason("manual", "save() was called")
        value = numbers[self._deciding.name]
        return SaveReason("best", f"{self._deciding.name} improved to {value:.6g}")

    def prune(self, *, now: float | None = None) -> None:
        """Carry out the retention rule and refresh the pointers. `save` does this by itself."""
        self.wait()
        for text in self._rotate(now):
            warnings.warn(text, HoldfastWarning, stacklevel=2)

    def _rotate(self, now: float | None = None) -> list[str]:
        catalog = read_catalog(self._run)
        once, copied = without_copies(catalog.infos)
        plan = plan_prune(
            once,
            self.retention,
            now=clock.time() if now is None else now,
            tracked=self.config.tracked,
            protected=copied,
        )
        pruned = carry_out(self._run, plan, catalog)
        refresh_pointers(self._run, read_catalog(self._run).infos, self.config.tracked)
        return [
            f"{name} could not be deleted and stays: {problem}"
            for name, problem in pruned.failed.items()
        ]

    # Finding

    def checkpoints(self) -> list[CheckpointInfo]:
        """Every committed checkpoint, oldest first, from the manifests alone."""
        return read_catalog(self._run).infos

    def get_latest_checkpoint(self) -> Path | None:
        """Folder of the newest checkpoint (by step, not by file time), None if there is none."""
        newest = read_catalog(self._run).newest
        return None if newest is None else self._path(newest.name)

    def get_best_checkpoint(self, metric: str | None = None) -> Path | None:
        """Folder of the best checkpoint by a tracked metric, by default the deciding one.

        None if no checkpoint has a finite value of it. Raises ConfigError for an untracked metric.
        """
        tracked = self._deciding if metric is None else self.config.tracked_metric(metric)
        winner = best(self.checkpoints(), tracked.name, tracked.mode)
        return None if winner is None else self._path(winner.name)

    @property
    def best_metric(self) -> float:
        """Best finite value of the deciding metric so far; the worst possible if there is none."""
        found = self._history.best(self._deciding)
        worst = float("inf") if self._deciding.mode == "min" else float("-inf")
        return worst if found is None else found

    # Restoring

    def load(
        self,
        checkpoint_path: str | os.PathLike[str] | None = None,
        load_optimizer: bool = True,
        load_rng_state: bool = True,
        *,
        strict: bool = True,
    ) -> LoadedCheckpoint:
        """Restore a checkpoint into the live objects, verified, all or nothing.

        checkpoint_path: a checkpoint folder or an original `.pt` file; None takes the newest.
        load_optimizer: also optimizer, scheduler and scaler. load_rng_state: also random states.
        strict: names, shapes and dtypes must agree; otherwise what fits is restored and the rest
        is listed in the report under "report".
        Returns epoch, global_step, best_metric, metrics, metrics_history, timestamp, model_config,
        extra_state; the state dicts of components are read when asked for.
        Raises CheckpointNotFoundError, DamagedError, FormatError or MismatchError; no live object
        has changed then.
        """
        self.wait()
        path = self._chosen(checkpoint_path)
        with self._progress("loading") as progress:
            loaded = load_into(
                path,
                self.objects,
                with_optimizer=load_optimizer,
                with_rng=load_rng_state,
                strict=strict,
                progress=progress,
            )
        self._adopt(loaded.info, loaded.values)
        return LoadedCheckpoint(loaded.values, loaded.components, loaded.read, path)

    def load_best(self, **kwargs: Any) -> LoadedCheckpoint:
        """`load` of the best checkpoint; `metric=` names another tracked metric.

        Raises CheckpointNotFoundError if no checkpoint has a finite value of it.
        """
        metric = kwargs.pop("metric", None)
        self.wait()
        path = self.get_best_checkpoint(metric)
        if path is None:
            raise CheckpointNotFoundError(
                f"No checkpoint has a finite value of {metric or self._deciding.name!r}",
                where=self._run.place,
                fix="pass the metric to save(), or load the newest with load()",
            )
        return self.load(path, **kwargs)

    def resume(self, *, strict: bool = True, verbose: bool = True) -> ResumeReport:
        """Go on from the newest checkpoint that verifies; a fresh start if there is none at all.

        Walks back over damaged checkpoints, with the reason for each in the report. strict: as in
        `load`. verbose: print
        the checklist. Raises NothingToResumeError if there are checkpoints but none is usable, and
        MismatchError if the newest sound one does not fit the live objects.
        """
        self.wait()
        with self._progress("resuming") as progress:
            report = resume_newest(self._run, self.objects, strict=strict, progress=progress)
        if report.info is not None:
            self._adopt(report.info, report.values)
            self._history.note_resume(report.info.name, report.global_step, now=clock.time())
        if verbose:
            report.print()
        return report

    @property
    def pending(self) -> tuple[Path, ...]:
        """Folders of checkpoints that were saved and are not committed yet, oldest first."""
        return self._saves.pending

    @property
    def stats(self) -> SaveStats:
        """What the saves of this session cost."""
        return self._saves.stats

    def wait(self, timeout: float | None = None) -> None:
        """Wait until every save so far is committed and rotation carried out.

        timeout: seconds, None for no limit. Raises WaitTimeoutError after that, and what made a
        save fail since the last call.
        """
        self._saves.wait(timeout)

    def close(self) -> None:
        """Finish pending saves and free their memory; the manager can still read afterwards.

        Raises what made a save fail since the last call, and WaitTimeoutError if one is not done
        within `close_timeout_seconds`.
        """
        self._saves.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _deciding(self) -> Metric:
        return self.config.tracked[0]

    def _path(self, name: str) -> Path:
        return Path(self.config.checkpoint_dir) / name

    def _chosen(self, path: str | os.PathLike[str] | None) -> Path:
        if path is not None:
            return Path(path)
        latest = self.get_latest_checkpoint()
        if latest is None:
            raise CheckpointNotFoundError(
                "There is no checkpoint to load",
                where=self._run.place,
                fix="use resume() where a fresh start is fine",
            )
        return latest

    def _adopt(self, info: CheckpointInfo | None, values: Mapping[str, Any]) -> None:
        self._history.replace(values["metrics_history"])
        if info is not None:
            self._timeline.went_back_to(info)

    def _progress(self, what: str) -> Progress:
        return Progress(what, enabled=self.config.progress)
