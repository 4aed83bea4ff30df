"""Token-sized batches of sentences of like length, in an order that depends on the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from holdfast.errors import ConfigError

_POOL_BATCHES = 50
_EPOCHS_MAX = 1 << 20


class BucketedBatches(Sampler[list[int]]):
    """Batches of sentence numbers for one epoch, chosen by `set_epoch`.

    lengths: tokens per sentence, the longer side. tokens_per_batch: most tokens in a batch,
    padding included; a longer sentence makes a batch of its own. The order is a pure function of
    (lengths, tokens_per_batch, seed, epoch), which is what lets a ResumableLoader continue it.
    Raises ConfigError if there is no sentence.
    """

    def __init__(self, lengths: Sequence[int], *, tokens_per_batch: int, seed: int) -> None:
        if not lengths:
            raise ConfigError("There is no training sentence to make batches of")
        self._lengths = torch.tensor(lengths, dtype=torch.int64)
        self._tokens_per_batch = tokens_per_batch
        self._seed = seed
        self._epoch = 0
        self._batches = self._draw(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of `epoch`, counted from 0."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._batches = self._draw(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches)

    def __len__(self) -> int:
        """Batches of the current epoch; epochs differ by a few."""
        return len(self._batches)

    def _draw(self, epoch: int) -> list[list[int]]:
        """Shuffle, sort by length within pools, cut to size, shuffle the batches."""
        generator = torch.Generator().manual_seed(self._seed * _EPOCHS_MAX + epoch)
        order = torch.randperm(len(self._lengths), generator=generator)
        mean = max(1.0, float(self._lengths.float().mean()))
        pool = max(1, int(_POOL_BATCHES * self._tokens_per_batch / mean))
        batches: list[list[int]] = []
        for chunk in torch.split(order, pool):
            by_length = chunk[torch.argsort(self._lengths[chunk], stable=True)]
            batches.extend(self._cut(by_length))
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        return [batches[index] for index in shuffled]

    def _cut(self, ascending: torch.Tensor) -> Iterator[list[int]]:
        batch: list[int] = []
        lengths = self._lengths[ascending].tolist()
        for index, length in zip(ascending.tolist(), lengths, strict=True):
            if batch and length * (len(batch) + 1) > self._tokens_per_batch:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch
