"""Ways to save of other libraries, where they are installed (`pip install --group bench`)."""

from __future__ import annotations

import importlib
import logging
import os
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks._async_training import Training
from benchmarks._async_ways import Unavailable, Way


def library(name: str) -> Any:
    """A module, or why there is none."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name.partition('.')[0]} cannot be imported ({error})") from error


class TorchCheckpointing(Way):
    """torch_checkpointing: copies beside training into shared memory, a process writes.

    Without direct I/O, whose first unaligned write fails on ext4. `lock` around the step, memory
    prepared beforehand, both as its documentation advises.
    """

    name = "torch_checkpointing"
    flushes = False

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        library("torch_checkpointing")
        manager = library("torch_checkpointing.checkpoint_manager").CheckpointManager
        filesystem = library("torch_checkpointing.storage.filesystem")
        config = library("torch_checkpointing.config").AsyncCheckpointSaverConfig()
        # Its process may take longer to start on a busy machine than it allows by default.
        config.process_config.subprocess_init_timeout_secs = 300
        storage = filesystem.LocalFileSystemStorageConfig(use_direct_io=False)
        self._manager = manager(manager.Config(save=config, storage_config=storage))
        self._future: Any = None
        self._manager.prewarm_staging(training.state())

    def save(self, step: int) -> None:
        """Wait for the one before, begin to copy, return."""
        self.settle()
        began = time.perf_counter()
        path = self._next()
        self._future = self._manager.save(str(path), self.training.state())
        self.training.guard = self._manager.lock
        self._watch(self._future.result, began, path)

    def close(self) -> None:
        """End its process."""
        self._manager.close()


class LightningCheckpoint(Way):
    """Lightning's ModelCheckpoint, called as its trainer calls it."""

    name = "lightning ModelCheckpoint"
    flushes = False
    background = False

    def __init__(self, training: Training, folder: Path) -> None:
        super().__init__(training, folder)
        pytorch = library("lightning.pytorch")
        plugins = library("lightning.pytorch.plugins.io")
        self._io = plugins.AsyncCheckpointIO() if self.background else None
        self._callback = pytorch.callbacks.ModelCheckpoint(dirpath=folder, save_top_k=-1)
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._trainer = pytorch.Trainer(
                max_epochs=0,
                accelerator="gpu" if training.device.type == "cuda" else "cpu",
                devices=1,
                logger=False,
                callbacks=[self._callback],
                plugins=[] if self._io is None else [self._io],
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            self._trainer.fit(_module(pytorch, training), train_dataloaders=[0])
            training.model.to(training.device)

    def save(self, step: int) -> None:
        """As at the end of a training batch."""
        self.settle()
        began = time.perf_counter()
        folder = self._next()
        path = folder / "state.ckpt"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._callback._save_checkpoint(self._trainer, str(path))
        executor = None if self._io is None else self._io._executor
        wait = executor.submit(int).result if executor is not None else int
        self._watch(wait, began, folder)


class LightningAsync(LightningCheckpoint):
    """With AsyncCheckpointIO, whose one thread clones and writes."""

    name = "lightning AsyncCheckpointIO"
    background = True

    def close(self) -> None:
        """End its thread."""
        if self._io is not None:
            self._io.teardown()


def _module(pytorch: Any, training: Training) -> Any:
    """What Lightning trains: the same model and optimizer."""

    class Module(pytorch.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = training.model

        def configure_optimizers(self) -> Any:
            return training.optimizer

        def training_step(self, *_: Any) -> None:
            """Never called."""

    return Module()


PEERS: list[type[Way]] = [TorchCheckpointing, LightningCheckpoint, LightningAsync]

# Quiet libraries that tell of themselves on import.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
