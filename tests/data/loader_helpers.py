"""Datasets and loops that the tests of `holdfast.data` share."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from holdfast.data import ResumableLoader

Numbers = list[tuple[float, ...]]


class Squares(Dataset[float]):
    """`length` samples; sample number i is the float i."""

    def __init__(self, length: int, content: str | None = None) -> None:
        self.length = length
        if content is not None:
            self.fingerprint = lambda: content

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, sample: int) -> float:
        return float(sample)


class Noisy(Squares):
    """Every sample is its number and a draw from each of the three global streams."""

    def __getitem__(self, sample: int) -> Any:
        draws = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        return torch.tensor([float(sample), *draws], dtype=torch.float64)


def rows(batch: torch.Tensor) -> tuple[float, ...]:
    """Return a batch as a plain tuple of its numbers."""
    return tuple(batch.double().flatten().tolist())


def run(loader: ResumableLoader, epochs: int) -> Numbers:
    """Return every batch from where the loader stands to the end of `epochs` epochs."""
    seen: Numbers = []
    while loader.epoch < epochs:
        seen.extend(rows(batch) for batch in loader)
    return seen


def run_until(loader: ResumableLoader, batches: int) -> tuple[Numbers, dict[str, Any]]:
    """Return the first `batches` batches, and the state saved inside the loop body of the last."""
    seen: Numbers = []
    state = loader.state_dict()
    while len(seen) < batches:
        for batch in loader:
            seen.append(rows(batch))
            state = loader.state_dict()
            if len(seen) == batches:
                break
    return seen, state


def streams() -> tuple[Any, ...]:
    """Return the states of the three global streams of this process, comparable with ==."""
    numpy_state: Any = np.random.get_state(legacy=True)
    return (
        random.getstate(),
        tuple(numpy_state[1].tolist()),
        tuple(numpy_state[2:]),
        tuple(torch.get_rng_state().tolist()),
    )
