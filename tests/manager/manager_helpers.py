"""A small training session to save and restore."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager


@dataclass
class Session:
    """Live objects as a training script has them."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler

    def step(self) -> None:
        """One optimizer step on random data."""
        self.optimizer.zero_grad()
        loss: Tensor = self.model(torch.randn(6, 4)).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.scheduler.step()

    def state(self) -> dict[str, Any]:
        """Everything that training depends on, by value."""
        return {
            "model": {k: v.clone() for k, v in self.model.state_dict().items()},
            "optimizer": repr(self.optimizer.state_dict()),
            "scheduler": repr(self.scheduler.state_dict()),
            "scaler": repr(self.scaler.state_dict()),
            "random": torch.get_rng_state(),
        }


def new_session(seed: int = 0) -> Session:
    """Fresh objects; different seeds give different weights."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5, 5])
    return Session(model, optimizer, scheduler, torch.amp.GradScaler("cpu"))


class FakeClock:
    """A clock that moves only when told to, or slept on."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self.sleeps: list[float] = []

    def time(self) -> float:
        """Seconds since the epoch."""
        return self.now

    def monotonic(self) -> float:
        """The same clock: it is never set back here."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Time passes at once."""
        self.sleeps.append(seconds)
        self.now += seconds


_OF_THE_MANAGER = ("triggers", "retention", "clock", "generators")


def new_manager(folder: Path, session: Session, **options: Any) -> CheckpointManager:
    """A manager over the session; options it does not take itself go to the configuration."""
    own = {name: options.pop(name) for name in _OF_THE_MANAGER if name in options}
    config = CheckpointConfig(str(folder), **({"progress": False, "provenance": False} | options))
    return CheckpointManager(
        config, session.model, session.optimizer, session.scheduler, session.scaler, **own
    )


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Equal bit for bit."""
    return (
        all(first[k] == second[k] for k in ("optimizer", "scheduler", "scaler"))
        and torch.equal(first["random"], second["random"])
        and first["model"].keys() == second["model"].keys()
        and all(torch.equal(v, second["model"][k]) for k, v in first["model"].items())
    )
