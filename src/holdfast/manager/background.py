"""Saves of one manager, carried out now or by the background thread."""

from __future__ import annotations

import logging
import time as clock
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

from holdfast.engine.background import BackgroundSaves, Pending
from holdfast.engine.ledger import SaveCost, SaveStats
from holdfast.engine.reuse import EarlierFiles
from holdfast.engine.save import SaveReceipt, SaveRequest
from holdfast.engine.staging import StagedComponents, stage_components
from holdfast.errors import HoldfastWarning, TornSnapshotError
from holdfast.jsontext import Json
from holdfast.manager.config import CheckpointConfig
from holdfast.manager.ranked_staging import sharded_step_only
from holdfast.manifest import checkpoint_name
from holdfast.session import LiveObjects
from holdfast.staging import Stager, step_only_memory
from holdfast.storage.protocol import RunStorage
from holdfast.values import CheckpointInfo

_LOG = logging.getLogger("holdfast")

OnCommit: TypeAlias = Callable[[Path, CheckpointInfo], object]
OnFailure: TypeAlias = Callable[[Path, BaseException], object]


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the user wants to be told, on the thread that commits."""

    on_commit: OnCommit | None = None
    on_failure: OnFailure | None = None


class Commit(Protocol):
    """Makes a request durable, with whatever patience; arguments as of `save_checkpoint`."""

    def __call__(
        self,
        request: SaveRequest,
        *,
        quiet: bool,
        earlier: EarlierFiles | None,
        proof: Callable[[], None] | None,
        cost: Callable[[int, int, float], dict[str, Json]],
    ) -> SaveReceipt:
        """Save; durable when this returns."""
        ...


class Saves:
    """Carries out prepared saves: at once, or staged and then in the background.

    commit: makes one request durable. after: what follows a commit (retention); it returns what the
    user is to be warned of. failed: what follows a failure in the background; returns what to warn
    of instead of raising it. All of them run on the thread that commits; warnings and errors reach
    the training thread at its next call.
    """

    def __init__(
        self,
        config: CheckpointConfig,
        run: RunStorage,
        *,
        commit: Commit,
        after: Callable[[SaveReceipt], Sequence[str]],
        failed: Callable[[SaveRequest, BaseException], str | None],
        callbacks: Callbacks,
    ) -> None:
        self._config, self._run = config, run
        self._commit, self._after, self._failed = commit, after, failed
        self._callbacks = callbacks
        self._earlier = EarlierFiles(run) if config.link_unchanged else None
        self._queue = BackgroundSaves(pending_max=config.max_pending, when_busy=config.when_busy)
        self._stager: Stager | None = None
        self._said: list[str] = []
        self._infos: dict[str, CheckpointInfo] = {}
        self.stats = SaveStats()

    @property
    def pending(self) -> tuple[Path, ...]:
        """Folders of checkpoints that are not committed yet, in order."""
        return tuple(self._path(name) for name in self._queue.pending)

    @property
    def failed(self) -> bool:
        """Whether `surface` has something to raise."""
        return self._queue.failed

    @property
    def pending_infos(self) -> list[CheckpointInfo]:
        """What the pending checkpoints will be, in order."""
        return [self._infos[name] for name in self._queue.pending if name in self._infos]

    def admit(self, global_step: int) -> bool:
        """Make room for one more save; False if this one is to be skipped."""
        reason = self._queue.admit() if self._config.async_save else None
        if reason is None:
            return True
        self.stats.add_skipped(global_step, reason)
        _LOG.info("step %d was not saved: %s", global_step, reason)
        return False

    def consider(self, names: Sequence[str]) -> None:
        """Checkpoints whose files may be linked instead of written."""
        if self._earlier is not None and not self._queue.pending:
            self._earlier.consider(names)

    def now(self, request: SaveRequest, began: float, *, quiet: bool = False) -> str:
        """Save and return the name, durable. began: monotonic time at which `save` was called."""
        before = clock.monotonic()
        try:
            receipt = self._committed(
                request, None, "sync", began, lambda: clock.monotonic() - began, quiet=quiet
            )
        except BaseException as error:
            self._tell_failure(checkpoint_name(request.epoch, request.global_step), error)
            raise
        self.stats.add(
            _cost(receipt, "sync", began, before, blocked=clock.monotonic() - began, staging=0)
        )
        self._said += self._after(receipt)
        self._tell(receipt)
        self._warn()
        return receipt.name

    def later(self, request: SaveRequest, objects: LiveObjects, began: float) -> str:
        """Copy the state, hand the save to the background and return the name it will have."""
        if request.ranks is None:
            name, attempt = self.free_name(request.epoch, request.global_step)
        else:
            attempt = request.attempt
            name = checkpoint_name(request.epoch, request.global_step, attempt)
        staged = self._stage(request, objects)
        request = replace(request, components=staged.components, attempt=attempt)
        self._infos[name] = _info_of(request, name)
        blocked: list[float] = []
        job = Pending(
            name,
            write=lambda: self._write(request, staged, name, began, blocked),
            drop=lambda reason: self._drop(request, staged, name, reason),
        )
        self._queue.submit(job)
        blocked.append(clock.monotonic() - began)
        return name

    def drain(self, timeout: float | None = None) -> None:
        """Wait until nothing is pending. Raises WaitTimeoutError; failures wait for `surface`."""
        self._queue.drain(timeout)

    def surface(self) -> None:
        """Warn and raise what happened in the background since the last call."""
        self._warn()
        self._queue.raise_failures()

    def close(self) -> None:
        """Finish what is pending and free threads and memory. Raises WaitTimeoutError."""
        self._queue.drain(self._config.close_timeout_seconds)
        if self._stager is not None:
            self._stager.close()
            self._stager = None

    def _warn(self) -> None:
        said, self._said = self._said, []
        for text in said:
            warnings.warn(text, HoldfastWarning, stacklevel=6)

    def _stage(self, request: SaveRequest, objects: LiveObjects) -> StagedComponents:
        if self._stager is None:
            self._stager = Stager(
                snapshots_max=self._config.max_pending, overlap=self._config.async_overlap
            )
        step_only = step_only_memory(
            (optimizer for _, optimizer in objects.optimizers()),
            (module for _, module in objects.modules()),
            objects.announced_tensors(),
        )
        if request.ranks is not None:
            step_only |= sharded_step_only(objects)
            step_only = request.ranks.part.pieces_within(step_only)
        return stage_components(
            self._stager, request.components, step_only, split_bytes=request.split_bytes
        )

    def free_name(self, epoch: int, global_step: int) -> tuple[str, int]:
        """The first name neither committed nor pending: nobody else writes here."""
        taken = {*self._run.names(), *self._queue.pending}
        attempt = 1
        while checkpoint_name(epoch, global_step, attempt) in taken:
            attempt += 1
        return checkpoint_name(epoch, global_step, attempt), attempt

    def _write(
        self,
        request: SaveRequest,
        staged: StagedComponents,
        name: str,
        began: float,
        blocked: Sequence[float],
    ) -> None:
        snapshot = staged.snapshot
        mode = "overlapped" if snapshot.overlapped else "async"
        try:
            snapshot.finish()
            before = clock.monotonic()
            receipt = self._committed(
                request, staged, mode, began, lambda: sum(blocked), quiet=True
            )
        except BaseException as error:
            if isinstance(error, TornSnapshotError) and self._stager is not None:
                self._stager.overlap.refuse(error.what)
            text = self._failed(request, error)
            self._tell_failure(name, error)
            if text is None:
                raise
            self._said.append(text)
            return
        finally:
            snapshot.release()
            self._infos.pop(name, None)
        cost = _cost(
            receipt, mode, began, before, blocked=sum(blocked), staging=self._staging_bytes
        )
        self.stats.add(
            replace(cost, copy_seconds=snapshot.copy_seconds, step_seconds=snapshot.step_seconds)
        )
        self._said += self._after(receipt)
        self._tell(receipt)

    def _committed(
        self,
        request: SaveRequest,
        staged: StagedComponents | None,
        mode: str,
        began: float,
        blocked: Callable[[], float],
        *,
        quiet: bool,
    ) -> SaveReceipt:
        def cost(written: int, linked: int, seconds: float) -> dict[str, Json]:
            snapshot = None if staged is None else staged.snapshot
            return SaveCost(
                name="",
                global_step=request.global_step,
                mode=mode,
                blocked_seconds=blocked(),
                step_seconds=snapshot.step_seconds if snapshot else 0.0,
                copy_seconds=snapshot.copy_seconds if snapshot else 0.0,
                write_seconds=seconds,
                durable_seconds=clock.monotonic() - began,
                bytes_written=written,
                bytes_linked=linked,
                staging_bytes=self._staging_bytes,
            ).to_manifest()

        proof = None if staged is None else staged.snapshot.prove
        return self._commit(request, quiet=quiet, earlier=self._earlier, proof=proof, cost=cost)

    @property
    def _staging_bytes(self) -> int:
        return 0 if self._stager is None else self._stager.nbytes

    def _drop(self, request: SaveRequest, staged: StagedComponents, name: str, reason: str) -> None:
        staged.snapshot.release()
        self._infos.pop(name, None)
        self.stats.add_skipped(request.global_step, f"{name} was dropped: {reason}")
        _LOG.info("%s was dropped: %s", name, reason)

    def _tell(self, receipt: SaveReceipt) -> None:
        if self._callbacks.on_commit is not None:
            self._callbacks.on_commit(self._path(receipt.name), receipt.manifest.info(receipt.name))

    def _tell_failure(self, name: str, error: BaseException) -> None:
        self.stats.add_failed()
        if self._callbacks.on_failure is not None:
            self._callbacks.on_failure(self._path(name), error)

    def _path(self, name: str) -> Path:
        return Path(self._config.checkpoint_dir) / name


def _cost(
    receipt: SaveReceipt, mode: str, began: float, before: float, *, blocked: float, staging: int
) -> SaveCost:
    now = clock.monotonic()
    return SaveCost(
        name=receipt.name,
        global_step=receipt.manifest.global_step,
        mode=mode,
        blocked_seconds=blocked,
        step_seconds=0.0,
        copy_seconds=0.0,
        write_seconds=now - before,
        durable_seconds=now - began,
        bytes_written=receipt.bytes - receipt.bytes_linked,
        bytes_linked=receipt.bytes_linked,
        staging_bytes=staging,
    )


def _info_of(request: SaveRequest, name: str) -> CheckpointInfo:
    return CheckpointInfo(
        id="0" * 32,
        name=name,
        epoch=request.epoch,
        global_step=request.global_step,
        branch=request.branch,
        sequence=request.sequence,
        time=request.time,
        bytes=0,
        metrics=request.metrics,
        reason=request.reason,
        parents=request.parents,
    )
