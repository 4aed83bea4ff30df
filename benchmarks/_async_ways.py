"""Ways to save that `async_loop` compares: ours, and those that come with torch."""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from benchmarks._async_training import Training
from holdfast import CheckpointConfig, CheckpointManager


class Unavailable(Exception):
    """This way cannot be run here; says why."""


class Way:
    """One way to save.

    save: returns when training may go on. settle: returns when durable. ours: whether it is
    holdfast. flushes: whether it puts files on stable storage by itself; what others wrote is
    flushed by the benchmark, on another thread, and durable then.
    """

    name = "nothing"
    ours = False
    flushes = True

    def __init__(self, training: Training, folder: Path) -> None:
        self.training, self.folder = training, folder
        self.count = 0
        self.durable: list[float] = []
        self.held: list[float] = []
        self.bytes = 0
        self._watcher: threading.Thread | None = None

    def save(self, step: int) -> None:
        """Save."""

    def settle(self) -> None:
        """Wait for what is under way."""
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None

    def close(self) -> None:
        """Free everything."""

    def _note(self, began: float, path: Path) -> None:
        if not self.flushes:
            for place in [*path.rglob("*"), path, path.parent]:
                sync(place)
        self.durable.append(time.perf_counter() - began)
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        self.bytes = sum(file.stat().st_size for file in files)

    def _watch(self, wait: Callable[[], object], began: float, path: Path) -> None:
        """Note the time at which `wait` returns, without holding up training."""

        def watch() -> None:
            wait()
            self._note(began, path)

        self._watcher = threading.Thread(target=watch)
        self._watcher.start()

    def _next(self) -> Path:
        """A fresh place, the one before the last deleted."""
        self.count += 1
        shutil.rmtree(self.folder / f"{self.count - 2}", ignore_errors=True)
        return self.folder / f"{self.count}"


def sync(path: Path) -> None:
    """Put one file or folder on stable storage."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class TorchSave(Way):
    """torch.save, flushed and renamed."""

    name = "torch.save + fsync"

    def save(self, step: int) -> None:
        """Blocking."""
        began = time.perf_counter()
        path = self._next()
        path.mkdir(parents=True)
        torch.save(self.training.state(), path / "tmp")
        sync(path / "tmp")
        os.rename(path / "tmp", path / "state.pt")
        sync(path)
        self._note(began, path)


class DcpSave(Way):
    """torch.distributed.checkpoint.save."""

    name = "dcp.save"

    def save(self, step: int) -> None:
        """Blocking."""
        dcp = importlib.import_module("torch.distributed.checkpoint")
        began = time.perf_counter()
        path = self._next()
        dcp.save(self.training.state(), storage_writer=dcp.FileSystemWriter(path), no_dist=True)
        self._note(began, path)


class DcpAsync(Way):
    """async_save with a stager that keeps its buffers and copies beside training.

    On a GPU into pinned memory without blocking. The optimizer's step waits for the copy, as its
    documentation asks.
    """

    name = "dcp.async_save"
    kind = "THREAD"

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        dist = importlib.import_module("torch.distributed")
        staging = importlib.import_module("torch.distributed.checkpoint.staging")
        if not dist.is_initialized():
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            os.environ.setdefault("MASTER_PORT", "29549")
            dist.init_process_group("cpu:gloo", rank=0, world_size=1)
        on_gpu = training.device.type == "cuda"
        shared = self.kind == "PROCESS"
        self._stager = staging.DefaultStager(staging.StagingOptions(on_gpu, shared, True, on_gpu))
        self._staged: Any = None

    def save(self, step: int) -> None:
        """Wait for the one before, begin to copy, return."""
        dcp = importlib.import_module("torch.distributed.checkpoint")
        saver = importlib.import_module("torch.distributed.checkpoint.state_dict_saver")
        self.settle()
        began = time.perf_counter()
        path = self._next()
        result = dcp.async_save(
            self.training.state(),
            storage_writer=dcp.FileSystemWriter(path, single_file_per_rank=True),
            async_stager=self._stager,
            async_checkpointer_type=getattr(saver.AsyncCheckpointerType, self.kind),
        )
        self._staged = result.staging_completion
        self.training.guard = self._guard
        self._watch(result.upload_completion.result, began, path)

    def _guard(self) -> contextlib.AbstractContextManager[None]:
        self._staged.result()
        return contextlib.nullcontext()

    def close(self) -> None:
        """End the stager."""
        self._stager.close()


class DcpProcess(DcpAsync):
    """The same with a process that writes, from shared memory."""

    name = "dcp.async_save, process"
    kind = "PROCESS"


class Holdfast(Way):
    """CheckpointManager."""

    ours = True
    options: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        config = CheckpointConfig(
            str(folder), progress=False, save_total_limit=2, save_rng_state=False, **self.options
        )
        self._manager = CheckpointManager(config, training.model, training.optimizer)

    def save(self, step: int) -> None:
        """Through the manager, with everything it always does."""
        self._manager.save(0, step, {"val_loss": 1.0})

    def settle(self) -> None:
        """Wait for the background."""
        self._manager.wait()
        saves = self._manager.stats.saves
        self.durable = [cost.durable_seconds for cost in saves]
        self.held = [cost.step_seconds for cost in saves]
        self.bytes = saves[-1].bytes_written if saves else 0

    def close(self) -> None:
        """Close the manager."""
        self._manager.close()


class HoldfastSync(Holdfast):
    """async_save=False."""

    name = "holdfast sync"


class HoldfastAsync(Holdfast):
    """async_save=True."""

    name = "holdfast async"
    options = MappingProxyType({"async_save": True})


class HoldfastCopy(Holdfast):
    """async_save=True, async_overlap=False."""

    name = "holdfast async, no overlap"
    options = MappingProxyType({"async_save": True, "async_overlap": False})


OF_TORCH: list[type[Way]] = [Way, TorchSave, DcpSave, DcpAsync, DcpProcess]
OURS: list[type[Way]] = [HoldfastSync, HoldfastCopy, HoldfastAsync]
