"""An average of weights beside sharded training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rank_model import build, full, seed, train
from rank_training import config

from holdfast import CheckpointManager, EMAModel
from holdfast.digest import digest_bytes
from holdfast.tensorfile import byte_view


def average_on(rank: int, folder: Path, kind: str) -> Any:
    """Train, average, save, go on; resume and go on: both averages."""
    found = []
    for resumed in (False, True):
        seed(rank)
        model, optimizer, schedule = build(kind)
        ema = EMAModel(model, decay=0.5)
        with CheckpointManager(config(folder), model, optimizer, schedule) as manager:
            manager.register("ema", ema)
            if resumed:
                manager.resume(verbose=False)
            else:
                for _ in range(2):
                    train(model, optimizer, schedule, 1)
                    ema.update()
                manager.save(0, 2, {"val_loss": 1.0})
            train(model, optimizer, schedule, 1)
            ema.update()
            with ema.applied():
                state = model.state_dict()
                found.append(
                    {n: digest_bytes(byte_view(full(v).contiguous())) for n, v in state.items()}
                )
    return found
