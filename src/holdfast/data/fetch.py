"""Making a batch with random streams of its own, in a worker or in the training process."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info


class SeededBatch(NamedTuple):
    """The sample numbers of one batch and the 16 bytes that seed its making."""

    samples: list[int]
    seed: bytes


class SeededFetch(Dataset[Any]):
    """A dataset whose batches come collated, and random only in their seed.

    Before each batch the global streams of Python, NumPy (legacy) and torch (CPU) are seeded from
    the batch's seed; in the training process they are put back afterwards. So augmentation is the
    same with any number of workers, after any resume, and never moves the streams training uses.

    Stands in for the dataset in the workers: other attributes are read from and written to the
    dataset itself, for the sake of a `worker_init_fn` that uses `get_worker_info().dataset`.
    """

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any]) -> None:
        self.__dict__.update(_dataset=dataset, _collate=collate)

    def __getitems__(self, batch: SeededBatch) -> Any:
        """Return the collated batch."""
        if get_worker_info() is None:
            with _streams_put_back():
                return self._make(batch)
        return self._make(batch)

    def __getitem__(self, sample: Any) -> Any:
        return self._dataset[sample]

    def __len__(self) -> int:
        return len(self._dataset)

    def _make(self, batch: SeededBatch) -> Any:
        seed_global_streams(batch.seed)
        fetch = getattr(self._dataset, "__getitems__", None)
        if fetch is not None:
            return self._collate(fetch(batch.samples))
        return self._collate([self._dataset[sample] for sample in batch.samples])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._dataset, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return (SeededFetch, (self._dataset, self._collate))


def already_collated(batch: Any) -> Any:
    """Return `batch`: the collate function of a DataLoader over a SeededFetch."""
    return batch


def seed_global_streams(seed: bytes) -> None:
    """Seed Python's, NumPy's legacy and torch's CPU stream from 16 bytes."""
    random.seed(seed)
    np.random.seed(np.frombuffer(seed, "<u4"))
    torch.default_generator.manual_seed(int.from_bytes(seed[:8], "little") >> 1)


@contextmanager
def _streams_put_back() -> Iterator[None]:
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
