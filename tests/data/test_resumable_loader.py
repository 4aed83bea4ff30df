"""A loader stopped after any batch and continued gives what it would have given."""

from __future__ import annotations

import gc
import multiprocessing
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loader_helpers import Noisy, Squares, rows, run, run_until, streams
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

from holdfast.data import ResumableLoader, ResumableSampler, resumable
from holdfast.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

WORKERS: dict[str, Any] = {"num_workers": 2, "multiprocessing_context": "fork"}


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(0, 23),
    batch_size=st.integers(1, 7),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    kill=st.integers(0, 40),
)
def test_resumed_order_is_the_uninterrupted_one(
    length: int, batch_size: int, shuffle: bool, drop_last: bool, kill: int
) -> None:
    """Wherever it was killed in three epochs, the rest is the same, random draws included."""

    def fresh() -> ResumableLoader:
        return ResumableLoader(Noisy(length), batch_size, shuffle, seed=9, drop_last=drop_last)

    expected = run(fresh(), 3)
    kill = min(kill, len(expected))
    before, state = run_until(fresh(), kill)
    resumed = fresh()
    resumed.load_state_dict(state)
    assert before + run(resumed, 3) == expected


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("kill", [1, 4, 5])
def test_prefetched_batches_are_not_consumed(kill: int, persistent: bool) -> None:
    """With workers that run ahead, a resume starts at the first batch training did not get."""

    def fresh(**options: Any) -> ResumableLoader:
        return ResumableLoader(Noisy(17), 4, True, seed=2, **options)

    expected = run(fresh(), 2)
    workers = {**WORKERS, "persistent_workers": persistent, "prefetch_factor": 3}
    before, state = run_until(fresh(**workers), kill)
    assert (state["epoch"], state["position"]) == (0, kill)
    resumed = fresh(**workers)
    resumed.load_state_dict(state)
    assert before + run(resumed, 2) == expected


def test_number_of_workers_may_change_on_resume() -> None:
    """A run stopped with two workers goes on with none, augmentation included."""
    expected = run(ResumableLoader(Noisy(12), 3, True, seed=1), 1)
    before, state = run_until(ResumableLoader(Noisy(12), 3, True, seed=1, **WORKERS), 2)
    resumed = ResumableLoader(Noisy(12), 3, True, seed=1)
    resumed.load_state_dict(state)
    assert before + run(resumed, 1) == expected


@pytest.mark.parametrize("options", [{}, WORKERS])
def test_global_streams_are_never_moved(options: dict[str, Any]) -> None:
    """Neither making batches nor starting workers moves a stream of the training process."""
    before = streams()
    loader = ResumableLoader(Noisy(8), 4, True, seed=1, **options)
    run(loader, 1)
    loader.load_state_dict(loader.state_dict())
    assert streams() == before


def test_global_streams_do_not_change_batches() -> None:
    """Batches do not depend on what training drew from the global streams."""
    first = run(ResumableLoader(Noisy(8), 4, True, seed=1), 1)
    torch.rand(5)
    assert run(ResumableLoader(Noisy(8), 4, True, seed=1), 1) == first


def test_streams_are_put_back_when_a_sample_fails() -> None:
    """A dataset that raises leaves the streams of the training process where they were."""

    class Broken(Squares):
        def __getitem__(self, sample: int) -> float:
            torch.rand(3)
            raise OSError("no such picture")

    before = streams()
    with pytest.raises(OSError, match="picture"):
        next(iter(ResumableLoader(Broken(4), 2)))
    assert streams() == before


def test_breaking_off_continues_the_epoch() -> None:
    """After a break the next loop goes on in the same epoch, as after a resume."""
    loader = ResumableLoader(Squares(10), 2, True, seed=4)
    before, _ = run_until(loader, 2)
    assert (loader.epoch, loader.position) == (0, 2)
    assert before + run(loader, 1) == run(ResumableLoader(Squares(10), 2, True, seed=4), 1)


def test_state_after_the_last_batch_leaves_an_empty_rest() -> None:
    """Saved in the last step of an epoch, a resume runs the end of that epoch without a batch."""
    _, state = run_until(ResumableLoader(Squares(6), 2), 3)
    resumed = ResumableLoader(Squares(6), 2, **WORKERS)
    resumed.load_state_dict(state)
    assert resumed.epoch == 0
    assert list(resumed) == []
    assert (resumed.epoch, resumed.position) == (1, 0)


def test_set_epoch_keeps_the_place_in_its_own_epoch() -> None:
    """set_epoch at the top of a loop does not undo a mid-epoch resume, and goes to any other."""
    _, state = run_until(ResumableLoader(Squares(10), 2, True), 7)
    loader = ResumableLoader(Squares(10), 2, True)
    loader.load_state_dict(state)
    loader.set_epoch(1)
    assert (loader.epoch, loader.position) == (1, 2)
    loader.set_epoch(5)
    assert (loader.epoch, loader.position) == (5, 0)


def test_an_iterator_of_an_earlier_place_is_refused() -> None:
    """Two iterators at once, or one kept over a load, end with an error, not with wrong data."""
    loader = ResumableLoader(Squares(10), 2)
    old = iter(loader)
    next(old)
    next(iter(loader))
    with pytest.raises(ConfigError, match="earlier place"):
        next(old)
    kept = iter(loader)
    loader.load_state_dict(loader.state_dict())
    with pytest.raises(ConfigError, match="earlier place"):
        next(kept)


def test_persistent_workers_start_anew_after_a_break() -> None:
    """Batches that persistent workers had prefetched before a break are not lost or doubled."""
    loader = ResumableLoader(Squares(20), 2, True, seed=6, persistent_workers=True, **WORKERS)
    before, _ = run_until(loader, 3)
    assert before + run(loader, 2) == run(ResumableLoader(Squares(20), 2, True, seed=6), 2)


def test_a_dropped_loader_stops_its_workers_at_once() -> None:
    """Persistent workers end with the loader, without waiting for the garbage collector."""
    gc.disable()
    try:
        others = set(multiprocessing.active_children())
        loader = ResumableLoader(Squares(20), 2, persistent_workers=True, **WORKERS)
        run_until(loader, 1)
        assert len(set(multiprocessing.active_children()) - others) == 2
        del loader
        assert set(multiprocessing.active_children()) <= others
    finally:
        gc.enable()


def test_plain_loader_made_resumable() -> None:
    """resumable() keeps a DataLoader's batch size, shuffling, drop_last and collate function."""

    def fresh() -> ResumableLoader:
        plain = DataLoader(
            Squares(11), 3, shuffle=True, drop_last=True, collate_fn=lambda x: torch.tensor(x) + 1
        )
        return resumable(plain, seed=8)

    expected = run(fresh(), 2)
    assert len(fresh()) == 3
    assert len(expected) == 6
    assert all(1.0 <= number <= 11.0 for batch in expected for number in batch)
    before, state = run_until(fresh(), 4)
    resumed = fresh()
    resumed.load_state_dict(state)
    assert before + run(resumed, 2) == expected


def test_plain_loader_keeps_its_resumable_sampler() -> None:
    """A ResumableSampler inside a plain DataLoader gives the order, the loader the position."""
    data = Squares(9)
    sampler = ResumableSampler(data, seed=3)
    loader = resumable(DataLoader(data, 2, sampler=sampler))
    assert run(loader, 1) == run(ResumableLoader(data, 2, True, seed=3), 1)
    assert loader.seed == 3
    with pytest.raises(ConfigError, match="register the loader"):
        sampler.state_dict()


@pytest.mark.parametrize("as_batches", [False, True])
def test_samplers_with_set_epoch_are_kept(as_batches: bool) -> None:
    """DistributedSampler, alone or in a batch sampler, is resumed mid-epoch as it is."""
    data = TensorDataset(torch.arange(22.0))

    def fresh() -> ResumableLoader:
        sampler: DistributedSampler[int] = DistributedSampler(data, num_replicas=2, rank=1, seed=4)
        if as_batches:
            return ResumableLoader(data, batch_sampler=BatchSampler(sampler, 3, False))
        return ResumableLoader(data, 3, sampler=sampler)

    def numbers(loader: ResumableLoader) -> list[tuple[float, ...]]:
        seen: list[tuple[float, ...]] = []
        while loader.epoch < 3:
            seen.extend(rows(batch) for (batch,) in loader)
        return seen

    expected = numbers(fresh())
    stopped = fresh()
    batches = iter(stopped)
    before = [rows(next(batches)[0]), rows(next(batches)[0])]
    resumed = fresh()
    resumed.load_state_dict(stopped.state_dict())
    assert before + numbers(resumed) == expected


def test_worker_init_fn_sees_the_dataset() -> None:
    """What worker_init_fn sets on get_worker_info().dataset is what the dataset finds."""

    class Opened(Squares):
        handle = 0.0

        def __getitem__(self, sample: int) -> float:
            return self.handle

    def open_in_worker(_: int) -> None:
        info = get_worker_info()
        assert info is not None
        info.dataset.handle = 41.0 + info.dataset.length  # type: ignore[attr-defined]

    loader = ResumableLoader(
        Opened(1), num_workers=1, multiprocessing_context="fork", worker_init_fn=open_in_worker
    )
    assert run(loader, 1) == [(42.0,)]


def test_datasets_that_fetch_batches_at_once_do() -> None:
    """A dataset's own __getitems__ is used."""

    class Batched(Squares):
        def __getitems__(self, samples: list[int]) -> list[float]:
            return [float(sum(samples))] * len(samples)

    assert run(ResumableLoader(Batched(4), 2), 1) == [(1.0, 1.0), (5.0, 5.0)]


class _Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(3))


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: ResumableLoader(_Stream()), "StatefulDataLoader"),
        (lambda: ResumableLoader(Squares(3), 0), "batch_size"),
        (lambda: ResumableLoader(Squares(3), generator=torch.Generator()), "generator"),
        (lambda: ResumableLoader(Squares(3), sampler=RandomSampler(Squares(3))), "set_epoch"),
        (lambda: resumable(DataLoader(Squares(3), batch_size=None)), "batch_size"),
        (
            lambda: resumable(DataLoader(Squares(3), sampler=WeightedRandomSampler([1.0], 3))),
            "set_epoch",
        ),
        (
            lambda: ResumableLoader(Squares(3), shuffle=True, sampler=ResumableSampler(Squares(3))),
            "shuffle",
        ),
    ],
)
def test_what_cannot_be_continued_is_refused(build: Any, match: str) -> None:
    """Datasets, samplers and options without an order that can be continued are named."""
    with pytest.raises(ConfigError, match=match):
        build()
