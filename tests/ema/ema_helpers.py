"""Weight paths, and the averages they must have, in float64 from the definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from holdfast.decay import Clock, Schedule


class OneWeight(nn.Module):
    """A model of one weight tensor that follows a given path."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Scale the input."""
        return x * self.weight

    def move_to(self, value: Tensor) -> None:
        """Change the weight in place, as an optimizer does."""
        with torch.no_grad():
            self.weight.copy_(value)


def paths(steps: int, *, seed: int = 0) -> dict[str, Tensor]:
    """Weight paths, float32 [steps + 1, 5]: constant, ramp and random walk."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, steps + 1)[:, None]
    walk = torch.randn(steps + 1, 5, generator=generator).cumsum(0) / 10
    return {
        "constant": torch.full((steps + 1, 5), 0.3),
        "ramp": time * torch.arange(1.0, 6.0),
        "random": walk,
    }


def closed_form(
    path: Tensor,
    schedule: Schedule,
    *,
    update_every: int = 1,
    samples: Sequence[int] | None = None,
) -> np.ndarray:
    """The average after the last whole update, as one weighted sum of the path in float64."""
    steps = len(path) - 1
    seen = np.concatenate([[0], np.cumsum(samples if samples is not None else [0] * steps)])
    clocks = [Clock(step, int(seen[step])) for step in range(steps + 1)]
    weights = np.zeros(steps + 1)
    weights[0] = 1.0
    for last in range(update_every, steps + 1, update_every):
        share = np.prod(
            [
                schedule.kept(clocks[step - 1], clocks[step])
                for step in range(last - update_every + 1, last + 1)
            ]
        )
        weights *= share
        weights[last] = 1.0 - share
    average: np.ndarray = weights @ path.double().numpy()
    return average


@dataclass
class Session:
    """A model, its optimizer and a source of batches."""

    model: nn.Sequential
    optimizer: torch.optim.Optimizer

    def step(self) -> None:
        """One optimizer step on random data."""
        self.optimizer.zero_grad()
        loss: Tensor = self.model(torch.randn(6, 4)).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def new_session(seed: int = 0) -> Session:
    """Fresh objects; different seeds give different weights."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 2))
    return Session(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
