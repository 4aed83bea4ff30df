"""Loaders in a checkpoint: registered like anything else, and checked on resume."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from holdfast import CheckpointConfig, CheckpointManager, ResumableLoader
from holdfast.errors import MismatchError

NUMBERS = TensorDataset(torch.arange(20.0))

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital':UserWarning")


def _manager(folder: Path, loader: Any) -> CheckpointManager:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    manager = CheckpointManager(CheckpointConfig(str(folder)), model, optimizer, None)
    manager.register("loader", loader)
    return manager


def _memory(manager: CheckpointManager) -> list[Any]:
    """The weights and the global streams as they are now."""
    numpy_state: Any = np.random.get_state(legacy=True)
    weights = [parameter.tolist() for parameter in manager.objects.model.parameters()]
    return [weights, random.getstate(), numpy_state[1].tolist(), torch.get_rng_state().tolist()]


def _stateful() -> StatefulDataLoader[Any]:
    generator = torch.Generator().manual_seed(3)
    return StatefulDataLoader(NUMBERS, 4, shuffle=True, generator=generator)


def _ours() -> ResumableLoader:
    return ResumableLoader(NUMBERS, 4, shuffle=True, seed=3)


@pytest.mark.parametrize("build", [_ours, _stateful])
def test_loader_goes_on_after_the_last_consumed_batch(tmp_path: Path, build: Any) -> None:
    """Saved in the loop body of the second batch, a resume hands out the third."""
    expected = [batch.tolist() for (batch,) in build()]
    loader = build()
    manager = _manager(tmp_path, loader)
    batches = iter(loader)
    before = [next(batches)[0].tolist() for _ in range(2)]
    manager.save(0, 2, {"val_loss": 1.0})
    manager.close()

    again = build()
    assert _manager(tmp_path, again).resume(verbose=False)
    assert before + [batch.tolist() for (batch,) in again] == expected


def test_changed_order_fails_the_resume_and_changes_nothing(tmp_path: Path) -> None:
    """With another batch size, resume names the change; model, loader and streams stay as they
    were."""
    loader = _ours()
    manager = _manager(tmp_path, loader)
    next(iter(loader))
    manager.save(0, 1, {"val_loss": 1.0})
    manager.close()

    changed = ResumableLoader(NUMBERS, 5, shuffle=True, seed=3)
    other = _manager(tmp_path, changed)
    before = _memory(other)
    with pytest.raises(MismatchError, match="batch_size: the checkpoint says 4, this run has 5"):
        other.resume(verbose=False)
    assert changed.position == 0
    assert _memory(other) == before
