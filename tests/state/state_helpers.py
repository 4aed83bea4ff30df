"""A checkpoint in memory: what the engine does between capture and restore, without files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.jsontext import dump, parse
from holdfast.state import ComponentState, RestorePlan, StoredComponent, StoredTensor

torch.set_num_threads(1)


@dataclass(frozen=True)
class Saved:
    """A component as saved: its record and the data of its tensors."""

    record: StoredComponent
    data: Mapping[str, Tensor]


def save(state: ComponentState) -> Saved:
    """Copy a captured component as a checkpoint would: the tree as JSON text, tensors as data."""
    data = {name: tensor.clone() for name, tensor in state.tensors.items()}
    facts = {
        name: StoredTensor(tensor.dtype, tuple(tensor.shape), digest=digest(tensor))
        for name, tensor in data.items()
    }
    tree = parse(dump(state.tree), where="state.json")
    return Saved(StoredComponent(state.name, state.kind, tree, facts, dict(state.aliases)), data)


def load(saved: Saved, planned: Callable[[StoredComponent], RestorePlan]) -> RestorePlan:
    """Plan, check, fill every target as the engine would, finish."""
    plan = planned(saved.record)
    plan.check()
    fill(saved, plan)
    plan.finish()
    return plan


def fill(saved: Saved, plan: RestorePlan) -> None:
    """Write the saved data into the targets of a plan."""
    for name, target in plan.targets.items():
        source = saved.data[name]
        assert (target.dtype, target.shape) == (source.dtype, source.shape)
        with torch.no_grad():
            target.copy_(source)


def digest(tensor: Tensor) -> str:
    """A digest of a tensor's bytes."""
    raw = tensor.detach().contiguous().view(-1).view(torch.uint8)
    return blake2b(raw.numpy().tobytes(), digest_size=16).hexdigest()


def same(left: Any, right: Any) -> bool:
    """Whether two nested states are equal bit for bit, types included."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return (left.dtype, left.shape) == (right.dtype, right.shape) and digest(left) == digest(
            right
        )
    if type(left) is not type(right):
        return False
    if isinstance(left, Mapping):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return bool(left.hex() == right.hex())
    return bool(left == right)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 0) -> None:
    """Run optimizer steps on random input of shape (5, 4)."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = torch.randn(5, 4, generator=generator)

        def closure(batch: Tensor = batch) -> Any:
            optimizer.zero_grad()
            loss: Tensor = model(batch).square().mean()
            torch.autograd.backward(loss)
            return loss

        optimizer.step(closure)


def small_model(seed: int = 0) -> nn.Sequential:
    """Two linear layers with batch normalisation between, (5, 4) to (5, 2)."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
