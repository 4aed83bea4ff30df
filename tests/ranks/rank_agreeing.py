"""What ranks decide together, each with something of its own to say."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rank_model import build, fingerprints, seed, train
from rank_training import config

from holdfast import CheckpointManager, EverySeconds, EverySteps
from holdfast.errors import HoldfastError


class _Clock:
    """A clock that is an hour ahead on each further rank, and faster."""

    def __init__(self, rank: int) -> None:
        self._rank, self._calls = rank, 0

    def time(self) -> float:
        """Seconds since the epoch, by this rank's clock."""
        self._calls += 1
        return 1.8e9 + 3600.0 * self._rank + self._calls * (1 + self._rank) * 0.3

    def monotonic(self) -> float:
        """Any clock will do."""
        return self.time()

    def sleep(self, seconds: float) -> None:
        """Nobody has to wait here."""


def decide_alike(rank: int, folder: Path) -> Any:
    """Triggers by time, a signal to one rank, a stop to the other: when does each save?"""
    model, optimizer, _ = build("ddp")
    triggers = EverySteps(5) | EverySeconds(4.0)
    saved, stops = [], []
    options = config(folder)
    with CheckpointManager(
        options, model, optimizer, triggers=triggers, clock=_Clock(rank)
    ) as manager:
        manager.handle_signals()
        for step in range(1, 21):
            if step == 7 and rank == 1:
                os.kill(os.getpid(), signal.SIGUSR1)
            if step == 17 and rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            stops.append(manager.stop_requested)
            if manager.maybe_save(0, step, {"val_loss": float(step + rank)}):
                saved.append(step)
            if manager.stop_requested:
                break
        shared = manager.agree({"rank": rank})
        metrics = [info.metrics["val_loss"] for info in manager.checkpoints()]
    return {"saved": saved, "stops": stops, "last": step, "shared": shared, "metrics": metrics}


def save_fresh(rank: int, folder: Path) -> Any:
    """Saving a fresh optimizer changes neither it nor the training that follows."""
    found = []
    for saving in (False, True):
        model, optimizer, schedule = build("fsdp")
        if saving:
            with CheckpointManager(config(folder), model, optimizer, schedule) as manager:
                manager.save(0, 0, {"val_loss": 1.0})
                assert not optimizer.state
                seed(9)
                manager.load()
                assert not optimizer.state
        seed(rank)
        train(model, optimizer, schedule, 2)
        found.append(fingerprints(model, optimizer))
    return found


def fall_back(rank: int, folder: Path) -> Any:
    """Two checkpoints, the newer damaged where only rank 1 looks; what each rank resumes from."""
    model, optimizer, schedule = build("fsdp")
    with CheckpointManager(config(folder), model, optimizer, schedule) as manager:
        manager.save(0, 1, {"val_loss": 1.0})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2)
        path = manager.save(0, 2, {"val_loss": 1.0})
        dist.barrier()
        if rank == 1:
            shard = Path(str(path)) / "model-00002-of-00002.safetensors"
            data = bytearray(shard.read_bytes())
            data[-1] ^= 1
            shard.write_bytes(data)
        dist.barrier()
        refused = ""
        try:
            manager.load()
        except HoldfastError as error:
            refused = f"{type(error).__name__}: {error}"
        report = manager.resume(verbose=False)
        return {
            "refused": refused,
            "step": report.global_step,
            "passed_over": report.passed_over,
            "quarantined": dict(report.quarantined),
        }
