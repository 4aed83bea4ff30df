"""Copiers and gates that make what is a matter of luck a matter of choice."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

import torch
from torch import Tensor, nn

from holdfast.staging import Copier, Snapshot, Stager, StepGate, step_only_memory
from holdfast.staging.copying import Pair
from holdfast.staging.gate import Watched


class HeldCopier(Copier):
    """Begins to copy only when let go."""

    def __init__(self) -> None:
        super().__init__(1)
        self.go = threading.Event()

    def begin(self, pairs: Sequence[Pair]) -> list[Future[None]]:
        """Hand out a future that is kept waiting."""
        future: Future[None] = Future()

        def later() -> None:
            self.go.wait(60)
            self.copy(pairs)
            future.set_result(None)

        threading.Thread(target=later, daemon=True).start()
        return [future]


class SlowCopier(Copier):
    """Copies tensor by tensor with pauses between, so that training runs into it."""

    def __init__(self, pause_seconds: float) -> None:
        super().__init__(1)
        self.pause_seconds = pause_seconds

    def begin(self, pairs: Sequence[Pair]) -> list[Future[None]]:
        """Copy on a thread of its own, slowly."""
        future: Future[None] = Future()

        def slowly() -> None:
            for pair in pairs:
                time.sleep(self.pause_seconds)
                self.copy([pair])
            future.set_result(None)

        threading.Thread(target=slowly, daemon=True).start()
        return [future]


class NoGate(StepGate):
    """The protective hook, disabled."""

    def watch(self, watched: Watched) -> None:
        """Forget it."""


def layers(count: int = 3, width: int = 128) -> nn.Sequential:
    """Linear layers whose weights are just large enough to be copied late."""
    torch.manual_seed(0)
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(count)))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, width: int = 128) -> None:
    """One training step on random data."""
    optimizer.zero_grad()
    model(torch.randn(4, width)).square().mean().backward()
    optimizer.step()


def live(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and optimizer state by name, views of the live memory."""
    found = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                found[f"{index}.{key}"] = value.detach()
    return found


def take(stager: Stager, model: nn.Module, optimizer: torch.optim.Optimizer) -> Snapshot:
    """A snapshot as a save takes it."""
    tensors = live(model, optimizer)
    return stager.take(
        list(tensors.values()), list(tensors), step_only_memory([optimizer], [model])
    )


def values(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What a snapshot taken now must hold."""
    return [tensor.clone() for tensor in live(model, optimizer).values()]


def same(snapshot: Snapshot, expected: Sequence[Tensor]) -> bool:
    """Whether the snapshot holds these values, bit for bit."""
    return all(
        torch.equal(_as_bytes(twin), _as_bytes(want))
        for twin, want in zip(snapshot.tensors, expected, strict=True)
    )


def _as_bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def proven(copier: Copier, gate: StepGate | None = None) -> Stager:
    """A stager whose loop has already proved to allow overlap."""
    stager = Stager(copier=copier, gate=gate)
    stager.overlap.conclude([])
    return stager


def edit_data(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write past the version counters."""
    for parameter in model.parameters():
        parameter.data.mul_(0.5)


def forget_compiling() -> None:
    """Averages swap another way in processes that have compiled anything."""
    importlib.import_module("torch._dynamo").reset()
    importlib.import_module("torch._dynamo.utils").counters.clear()
