"""A DataLoader that knows what training has consumed, and can be continued from there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, default_collate

from holdfast.data.batches import BatchSource, EpochBatches, SampledBatches, epoch_setter
from holdfast.data.fetch import SeededBatch, SeededFetch, already_collated
from holdfast.data.fingerprint import LoaderState, OrderFacts, OrderFingerprint, OrderMismatch
from holdfast.data.order import batch_seed, checked_word, worker_seed
from holdfast.data.sampler import ResumableSampler
from holdfast.errors import ConfigError, MismatchError

_OPTIONS = {
    "multiprocessing_context",
    "num_workers",
    "persistent_workers",
    "pin_memory",
    "prefetch_factor",
    "timeout",
    "worker_init_fn",
}


class ResumableLoader:
    """Batches of a map-style dataset through a plain DataLoader, resumable after any batch.

        loader = ResumableLoader(dataset, batch_size=32, shuffle=True, seed=7, num_workers=2)
        manager.register("loader", loader)
        manager.resume()
        for epoch in range(loader.epoch, epochs):
            for batch in loader: ...

    Iterating goes on where the loader stands: `epoch`, and `position` batches consumed of it. A
    batch counts as consumed when the loop receives it, however many the workers made ahead. When
    an epoch is exhausted the loader stands at the start of the next. After a `break` the same
    epoch goes on; `set_epoch` goes to the start of another.

    The order depends on (seed, epoch) alone. Batches are made with streams seeded from (seed,
    epoch, position): random augmentation that uses the global streams of Python, NumPy and torch
    (CPU) is the same with any number of workers and after any resume, and the streams of the
    training process are never moved. What a dataset keeps in a generator of its own is not
    covered.

    sampler, batch_sampler: instead of `shuffle`, a ResumableSampler or anything with
    `set_epoch(epoch)` whose order depends on that epoch alone (DistributedSampler does).
    options: of DataLoader, except `generator` and `in_order`.

    Raises ConfigError for a dataset, sampler or option whose order could not be continued.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        seed: int = 0,
        drop_last: bool = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        **options: Any,
    ) -> None:
        _check_arguments(dataset, batch_size, options)
        self.dataset = dataset
        self.drop_last = drop_last
        self.batch_size: int | None = batch_size if batch_sampler is None else None
        if isinstance(sampler, ResumableSampler):
            seed = sampler.seed
        self.seed = checked_word(seed, "seed")
        self.epoch = 0
        self.position = 0
        self._source = _source(
            dataset, batch_size, shuffle, self.seed, drop_last, sampler, batch_sampler
        )
        content = getattr(dataset, "fingerprint", None)
        self._content = str(content()) if callable(content) else None
        self._fingerprint = OrderFingerprint()
        self._drawing = _Drawing(self._source, self.seed)
        self._turn = 0
        self._persistent = bool(options.get("persistent_workers"))
        self._generator = torch.Generator()
        self._loader: DataLoader[Any] = DataLoader(
            SeededFetch(dataset, collate_fn or default_collate),
            batch_sampler=self._drawing,
            collate_fn=already_collated,
            generator=self._generator,
            **options,
        )

    def __len__(self) -> int:
        """Batches in a whole epoch, wherever this one stands."""
        return self._source.count()

    def __iter__(self) -> Iterator[Any]:
        """Yield the rest of the current epoch; iterators made earlier end with an error."""
        self._turn += 1
        return self._rest_of_epoch(self._turn)

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of `epoch`; nothing happens if this is the current one."""
        if checked_word(epoch, "epoch") != self.epoch:
            self._stand(epoch, 0, OrderFingerprint())

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader stands and what its order depends on, as plain values."""
        return LoaderState(
            self.epoch, self.position, self._fingerprint.digest, self._facts()
        ).to_dict()

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Continue where `state` stands, after checking that it speaks of the same order.

        Raises MismatchError listing every `mismatches(state)` and changes nothing; with
        strict=False goes to the same place in this loader's own order instead: the same number of
        samples into the epoch, rounded down to a batch.
        Raises FormatError if it is not a state of a ResumableLoader.
        """
        stored = LoaderState.from_dict(state)
        problems = self.mismatches(state)
        if strict and problems:
            raise MismatchError(
                "The checkpoint was made with another batch order",
                problems=problems,
                where=f"epoch {stored.epoch}, batch {stored.position}",
                fix="resume with the dataset, batch size, seed and sampler of the saved run; or "
                "load_state_dict(state, strict=False) to go on at the same place of the new order",
            )
        consumed = self._consumed(stored.epoch, self._position_of(stored))
        self._stand(stored.epoch, consumed.batches, consumed)

    def mismatches(self, state: Mapping[str, Any]) -> list[OrderMismatch]:
        """Return every way in which the order of `state` is not this loader's; changes nothing.

        The order consumed so far is made again from this loader's seed, sampler and dataset, and
        its digest compared.
        """
        stored = LoaderState.from_dict(state)
        problems = self._facts().compare(stored.facts)
        again = self._consumed(stored.epoch, stored.position)
        if not problems and again.digest != stored.consumed:
            problems.append(
                OrderMismatch(
                    "consumed",
                    stored.consumed,
                    again.digest,
                    "the batches consumed so far were other ones, though nothing else changed: "
                    "the sampler does not depend on the epoch alone",
                )
            )
        return problems

    def _consumed(self, epoch: int, position: int) -> OrderFingerprint:
        return OrderFingerprint.of(islice(self._source.batches(epoch, 0), position))

    def _position_of(self, stored: LoaderState) -> int:
        """Return the batch of this loader that holds the next sample of a stored place."""
        before, now = stored.facts.batch_size, self.batch_size
        if not isinstance(before, int) or now is None:
            return stored.position
        return stored.position * before // now

    def _facts(self) -> OrderFacts:
        return OrderFacts(
            dataset_length=len(self.dataset),
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            seed=self.seed,
            sampler=self._source.kind,
            dataset=self._content,
        )

    def _stand(self, epoch: int, position: int, fingerprint: OrderFingerprint) -> None:
        self._turn += 1
        self.epoch = epoch
        self.position = position
        self._fingerprint = fingerprint

    def _rest_of_epoch(self, turn: int) -> Iterator[Any]:
        self._check_turn(turn)
        self._generator.manual_seed(worker_seed(self.seed, 0 if self._persistent else self.epoch))
        self._drawing.start_at(self.epoch, self.position)
        if self._more():
            for batch in self._loader:
                self._check_turn(turn)
                self._fingerprint.update(self._drawing.consumed())
                self.position += 1
                yield batch
                self._check_turn(turn)
        self._stand(self.epoch + 1, 0, OrderFingerprint())

    def _more(self) -> bool:
        return next(self._source.batches(self.epoch, self.position), None) is not None

    def _check_turn(self, turn: int) -> None:
        if turn != self._turn:
            raise ConfigError(
                "This iterator is of an earlier place: the loader was moved or iterated anew",
                fix="use one iterator of a ResumableLoader at a time, and a new one after "
                "set_epoch or load_state_dict",
            )


class _Drawing(Sampler[Any]):
    """The batch sampler given to the DataLoader: remembers what was drawn and not yet consumed.

    It does not know the ResumableLoader: a cycle of references would leave the end of persistent
    workers to the garbage collector, which stops them late, slowly and in the middle of anything.
    """

    def __init__(self, source: BatchSource, seed: int) -> None:
        self._source = source
        self._seed = seed
        self._epoch = 0
        self._start = 0
        self._ahead: deque[list[int]] = deque()

    def start_at(self, epoch: int, position: int) -> None:
        """Let the next iteration begin at batch `position` of `epoch`."""
        self._epoch, self._start = epoch, position

    def __iter__(self) -> Iterator[SeededBatch]:
        self._ahead = deque()
        batches = self._source.batches(self._epoch, self._start)
        for number, samples in enumerate(batches, start=self._start):
            self._ahead.append(samples)
            yield SeededBatch(samples, batch_seed(self._seed, self._epoch, number))

    def __len__(self) -> int:
        return self._source.count()

    def consumed(self) -> list[int]:
        """Return the samples of the oldest batch not asked for yet."""
        return self._ahead.popleft()


def _source(
    dataset: Any,
    batch_size: int,
    shuffle: bool,
    seed: int,
    drop_last: bool,
    sampler: Any,
    batch_sampler: Any,
) -> BatchSource:
    if (sampler is not None or batch_sampler is not None) and shuffle:
        raise ConfigError("shuffle cannot be combined with a sampler", fix="leave shuffle out")
    if batch_sampler is not None:
        return EpochBatches(batch_sampler)
    if sampler is None:
        sampler = ResumableSampler(dataset, shuffle=shuffle, seed=seed)
    if isinstance(sampler, ResumableSampler):
        sampler.lend()
        return SampledBatches(sampler, batch_size, drop_last)
    epoch_setter(sampler)
    return EpochBatches(torch.utils.data.BatchSampler(sampler, batch_size, drop_last))


def _check_arguments(dataset: Any, batch_size: Any, options: Iterable[str]) -> None:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise ConfigError(
            f"{type(dataset).__qualname__} has no length and no sample numbers, so its position "
            "cannot be found again",
            fix="use a map-style dataset, or torchdata's StatefulDataLoader for iterable ones",
        )
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(
            f"batch_size must be a positive integer, found {batch_size!r}",
            fix="let the loader make the batches; batch_size=None is not supported",
        )
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise ConfigError(
            f"ResumableLoader does not take {', '.join(unknown)}",
            fix=f"it makes the order itself; the options it takes are {sorted(_OPTIONS)}",
        )
