"""Small trainings to rehearse: one that is sound, and one for each fault planted."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from holdfast import CheckpointConfig, CheckpointManager, ResumableLoader

Step = Callable[[], Tensor]
Built = tuple[CheckpointManager, Step]

DATA = TensorDataset(
    torch.randn(24, 4, generator=torch.Generator().manual_seed(1)),
    torch.randn(24, 2, generator=torch.Generator().manual_seed(2)),
)
_shared_noise = random.Random(5)


class Parts:
    """What every training has; faults replace or leave out some of it."""

    def __init__(self, folder: str, **options: Any) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.first = nn.Linear(4, 8)
        self.model = nn.Sequential(self.first, nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 2))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 2, gamma=0.5)
        self.loader = ResumableLoader(DATA, batch_size=4, shuffle=True, seed=3)
        self.config = CheckpointConfig(folder, progress=False, provenance=False, **options)

    def manager(self, **given: Any) -> CheckpointManager:
        """A manager of everything, with the loader registered."""
        scheduler = given.pop("scheduler", self.scheduler)
        manager = CheckpointManager(self.config, self.model, self.optimizer, scheduler, **given)
        manager.register("loader", self.loader)
        return manager

    def train(self, batch: Any, extra: Tensor | float = 0.0) -> Tensor:
        """One optimizer step."""
        features, targets = batch
        self.optimizer.zero_grad()
        loss: Tensor = nn.functional.mse_loss(self.model(features), targets) + extra
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def forever(self) -> Iterator[Any]:
        """Batches of epoch after epoch."""
        while True:
            yield from self.loader


def sound(folder: str) -> Built:
    """Everything is saved."""
    parts = Parts(folder)
    batches = parts.forever()

    def step() -> Tensor:
        loss = parts.train(next(batches))
        parts.scheduler.step()
        return loss

    return parts.manager(), step


def unsaved_python_stream(folder: str) -> Built:
    """The step draws from Python's random state, which the configuration leaves out."""
    random.seed(11)
    parts = Parts(folder, save_rng_state=False)
    batches = parts.forever()

    def step() -> Tensor:
        return parts.train(next(batches), random.random() * parts.first.weight.sum())

    return parts.manager(), step


def unsaved_generator(folder: str) -> Built:
    """A NumPy generator that nobody gave to the manager."""
    parts = Parts(folder)
    batches = parts.forever()
    noise = np.random.default_rng(4)

    def step() -> Tensor:
        return parts.train(next(batches), float(noise.normal()) * parts.first.weight.sum())

    return parts.manager(), step


def unsaved_global_generator(folder: str) -> Built:
    """A generator at the top of the module, which the step names."""
    parts = Parts(folder)
    batches = parts.forever()

    def step() -> Tensor:
        return parts.train(next(batches), _shared_noise.random() * parts.first.weight.sum())

    return parts.manager(), step


def unsaved_loader(folder: str) -> Built:
    """A plain loader in mid-epoch: after the resume it begins at the beginning."""
    parts = Parts(folder)
    manager = CheckpointManager(parts.config, parts.model, parts.optimizer, parts.scheduler)
    batches = iter(DataLoader(DATA, batch_size=4))

    def step() -> Tensor:
        return parts.train(next(batches))

    return manager, step


def unregistered_module(folder: str) -> Built:
    """A second network is trained along, and nobody registered it."""
    parts = Parts(folder)
    batches = parts.forever()
    critic = nn.Linear(2, 1)
    parts.optimizer.add_param_group({"params": list(critic.parameters())})

    def step() -> Tensor:
        features, targets = next(batches)
        return parts.train((features, targets), critic(parts.model(features)).mean())

    return parts.manager(), step


def unregistered_scheduler(folder: str) -> Built:
    """The scheduler is not given to the manager."""
    parts = Parts(folder)
    batches = parts.forever()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(parts.optimizer, 10)

    def step() -> Tensor:
        loss = parts.train(next(batches))
        scheduler.step()
        return loss

    return parts.manager(scheduler=None), step


def unregistered_scaler(folder: str) -> Built:
    """The gradient scaler is not given to the manager."""
    parts = Parts(folder)
    batches = parts.forever()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=1)

    def step() -> Tensor:
        features, targets = next(batches)
        parts.optimizer.zero_grad()
        loss: Tensor = nn.functional.mse_loss(parts.model(features), targets)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            parts.first.weight.add_(1e-3 * scaler.get_scale())
        scaler.step(parts.optimizer)
        scaler.update()
        return loss.detach()

    return parts.manager(), step


def wrong_scheduler_order(folder: str) -> Built:
    """Each process steps the schedule once before its first batch."""
    parts = Parts(folder)
    batches = parts.forever()
    started = False

    def step() -> Tensor:
        nonlocal started
        if not started:
            started = True
            parts.scheduler.step()
        loss = parts.train(next(batches))
        parts.scheduler.step()
        return loss

    return parts.manager(), step


def unsaved_buffer(folder: str) -> Built:
    """A running mean kept in a buffer that is not persistent."""
    parts = Parts(folder)
    batches = parts.forever()
    parts.first.register_buffer("mean", torch.zeros(4), persistent=False)

    def step() -> Tensor:
        features, targets = next(batches)
        mean: Any = parts.first.mean
        mean.mul_(0.9).add_(features.mean(0), alpha=0.1)
        return parts.train((features - mean, targets))

    return parts.manager(), step


def unsaved_counter(folder: str) -> Built:
    """A number of the loop itself decides what a step does."""
    parts = Parts(folder)
    batches = parts.forever()
    count = 0

    def step() -> Tensor:
        nonlocal count
        count += 1
        return parts.train(next(batches), count * parts.first.weight.sum())

    return parts.manager(), step


def nondeterministic_operator(folder: str) -> Built:
    """An operation gives another result every time."""
    parts = Parts(folder)
    batches = parts.forever()

    def step() -> Tensor:
        chance = int.from_bytes(os.urandom(4), "little") / 2**32
        return parts.train(next(batches), chance * parts.first.weight.sum())

    return parts.manager(), step


class Trainer:
    """A training as an object; its teacher is nobody's component."""

    def __init__(self, folder: str) -> None:
        self.parts = Parts(folder)
        self.batches = self.parts.forever()
        self.teacher = nn.Linear(4, 2)
        self.manager = self.parts.manager()

    def step(self) -> Tensor:
        """Learns from the teacher, which follows."""
        features, targets = next(self.batches)
        with torch.no_grad():
            self.teacher.weight.lerp_(torch.ones(2, 4), 0.1)
            aim = self.teacher(features) + targets
        return self.parts.train((features, aim))


def unregistered_in_an_object(folder: str) -> Built:
    """State in an attribute of a trainer."""
    trainer = Trainer(folder)
    return trainer.manager, trainer.step


def broken(folder: str) -> Built:
    """Does not even run."""
    raise RuntimeError("no data here")
