"""What ranks do in tests: train, save, resume, and say what they hold."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rank_model import build, fingerprints, seed, train

from holdfast import CheckpointConfig, CheckpointManager


def config(folder: Path, **options: Any) -> CheckpointConfig:
    """A run in `folder`."""
    options = {"rank_timeout_seconds": 200.0, "provenance": False, **options}
    return CheckpointConfig(str(folder / "run"), progress=False, **options)


def draws() -> list[float]:
    """One draw of each random stream."""
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def interrupted_and_not(rank: int, folder: Path, kind: str, async_save: bool) -> dict[str, Any]:
    """Train 3 + 3 steps in one go; then resume after 3 in new objects and train the other 3."""
    seed(rank)
    model, optimizer, schedule = build(kind)
    options = config(folder, async_save=async_save)
    with CheckpointManager(options, model, optimizer, schedule) as manager:
        assert manager.resume(verbose=False).fresh
        train(model, optimizer, schedule, 3)
        path = manager.save(0, 3, {"val_loss": 1.0 + rank}, extra_state={"rank": rank})
        train(model, optimizer, schedule, 3)
        manager.wait()
        straight = fingerprints(model, optimizer)
        straight_draws = draws()
        stats = str(manager.stats)
    seed(77)
    model, optimizer, schedule = build(kind)
    with CheckpointManager(options, model, optimizer, schedule) as manager:
        report = manager.resume(verbose=False)
        train(model, optimizer, schedule, 3)
        return {
            "path": str(path),
            "straight": straight,
            "resumed": fingerprints(model, optimizer),
            "straight_draws": straight_draws,
            "resumed_draws": draws(),
            "extra_state": report.extra_state,
            "best": manager.best_metric,
            "checklist": report.checklist,
            "milestones": dict(schedule.milestones),
            "stats": stats,
        }


def load_and_save(rank: int, folder: Path, kind: str, step: int, train_steps: int) -> Any:
    """Resume, say what was restored, perhaps train, save again."""
    seed(50 + rank)
    model, optimizer, schedule = build(kind)
    with CheckpointManager(config(folder), model, optimizer, schedule) as manager:
        report = manager.resume(verbose=False)
        before = fingerprints(model, optimizer)
        if train_steps:
            train(model, optimizer, schedule, train_steps)
            before = fingerprints(model, optimizer)
        path = manager.save(0, step, {"val_loss": 1.0})
        files = {p.name: p.stat().st_size for p in Path(str(path)).iterdir()}
        return {"state": before, "checklist": report.checklist, "files": files}
