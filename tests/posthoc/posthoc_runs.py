"""Small finished runs with averages in their checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager, EMAModel, PowerFunction

TRACKED = [PowerFunction(0.05), PowerFunction(0.10)]


def walk(steps: int) -> Tensor:
    """A weight path, float32 [steps + 1, 6]: a ramp with a random walk on it."""
    generator = torch.Generator().manual_seed(1)
    ramp = torch.linspace(0, 4, steps + 1)[:, None]
    return ramp + torch.randn(steps + 1, 6, generator=generator).cumsum(0) / 20


class Walker(nn.Module):
    """A model whose weight follows the path; tied, with a buffer and a frozen parameter."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.clone())
        self.tied = self.weight
        self.frozen = nn.Parameter(torch.tensor([7.0]), requires_grad=False)
        self.register_buffer("seen", torch.tensor(0))


def finished_run(
    folder: Path, path: Tensor, *, saves: int, decay: Any = None, **options: Any
) -> tuple[Walker, EMAModel]:
    """Walk the path, saving evenly; every checkpoint is kept."""
    model = Walker(path[0])
    ema = EMAModel(model, decay or TRACKED, **options)
    manager = CheckpointManager(
        CheckpointConfig(str(folder), save_total_limit=None, progress=False, provenance=False),
        model,
    )
    manager.register("ema", ema)
    steps = len(path) - 1
    for step in range(1, steps + 1):
        with torch.no_grad():
            model.weight.copy_(path[step])
            model.get_buffer("seen").add_(1)
        ema.update()
        if step % (steps // saves) == 0:
            manager.save(0, step, {"val_loss": 1.0})
    return model, ema
