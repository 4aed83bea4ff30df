"""Where batches of sample numbers come from: our own sampler, or any with `set_epoch`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from itertools import islice
from typing import Protocol, cast

from holdfast.data.sampler import ResumableSampler
from holdfast.errors import ConfigError


class BatchSource(Protocol):
    """Batches of an epoch, the same every time they are asked for."""

    @property
    def kind(self) -> str:
        """Name of the ordering algorithm, with its version."""

    def batches(self, epoch: int, start: int) -> Iterator[list[int]]:
        """Yield the sample numbers of each batch of `epoch` from the `start`-th on."""

    def count(self) -> int:
        """Return the number of batches of an epoch."""


class SampledBatches:
    """Runs of `batch_size` samples in the order of a ResumableSampler."""

    def __init__(self, sampler: ResumableSampler, batch_size: int, drop_last: bool) -> None:
        self._sampler = sampler
        self._batch_size = batch_size
        self._drop_last = drop_last

    @property
    def kind(self) -> str:
        """The order's algorithm: `holdfast.data.order` describes the shuffled one."""
        return "shuffled-philox/1" if self._sampler.shuffle else "sequential"

    def batches(self, epoch: int, start: int) -> Iterator[list[int]]:
        """Yield batches from the `start`-th on, without drawing those before."""
        samples = self._sampler.draw(epoch, start * self._batch_size)
        while batch := list(islice(samples, self._batch_size)):
            if len(batch) == self._batch_size or not self._drop_last:
                yield batch

    def count(self) -> int:
        """Return the number of batches of a whole epoch."""
        whole, rest = divmod(len(self._sampler), self._batch_size)
        return whole + (1 if rest and not self._drop_last else 0)


class EpochBatches:
    """Batches of somebody else's batch sampler, which must be a function of the epoch alone.

    That it is one is checked on every resume: the digest of the consumed order must come out
    the same.
    """

    def __init__(self, batch_sampler: Iterable[list[int]]) -> None:
        self._sampler = batch_sampler
        self._set_epoch = epoch_setter(batch_sampler)

    @property
    def kind(self) -> str:
        """Names of the sampler classes."""
        inner = getattr(self._sampler, "sampler", None)
        names = [type(part).__qualname__ for part in (self._sampler, inner) if part is not None]
        return " over ".join(names)

    def batches(self, epoch: int, start: int) -> Iterator[list[int]]:
        """Yield batches from the `start`-th on, drawing and dropping those before."""
        self._set_epoch(epoch)
        return (list(batch) for batch in islice(iter(self._sampler), start, None))

    def count(self) -> int:
        """Return the number of batches of the epoch last drawn."""
        return len(cast(Sized, self._sampler))


class _SetEpoch(Protocol):
    def __call__(self, epoch: int, /) -> object: ...


def epoch_setter(sampler: object) -> _SetEpoch:
    """Return `set_epoch` of a batch sampler or of the sampler inside it.

    Raises ConfigError if there is none: its order would come from a random stream that a resumed
    run cannot replay from the middle.
    """
    for part in (sampler, getattr(sampler, "sampler", None)):
        setter = getattr(part, "set_epoch", None)
        if callable(setter):
            return cast(_SetEpoch, setter)
    raise ConfigError(
        f"The order of a {type(sampler).__qualname__} cannot be continued mid-epoch: "
        "it has no set_epoch(epoch)",
        fix="use ResumableSampler, or a sampler whose order depends only on the epoch that "
        "set_epoch(epoch) gave it",
    )
