"""The order of samples: a function of (seed, epoch), the same for ever."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loader_helpers import Squares, streams
from torch.utils.data import DataLoader

from holdfast.data import ResumableSampler
from holdfast.data.order import batch_seed, epoch_permutation, worker_seed
from holdfast.errors import ConfigError, FormatError, MismatchError

FIRST = [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
OTHER = [2, 5, 9, 7, 3, 0, 6, 8, 4, 1]
WORKERS = 2507081080126345387
BATCH = "f4515ede31380adc07d870cb0d094743"

words = st.integers(0, 2**64 - 1)


@given(seed=words, epoch=words, length=st.integers(0, 200))
def test_permutation_is_whole(seed: int, epoch: int, length: int) -> None:
    """Every sample comes exactly once in an epoch."""
    assert sorted(epoch_permutation(seed, epoch, length).tolist()) == list(range(length))


def test_permutation_never_changes_between_versions() -> None:
    """The orders that checkpoints of format version 1 rely on are these."""
    assert epoch_permutation(0, 0, 10).tolist() == FIRST
    assert epoch_permutation(7, 3, 10).tolist() == OTHER
    assert worker_seed(7, 3) == WORKERS
    assert batch_seed(7, 3, 11).hex() == BATCH


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    """Another epoch or another seed gives another order, and swapping the two does too."""
    orders = {tuple(epoch_permutation(*key, 50)) for key in [(0, 0), (0, 1), (1, 0), (1, 1)]}
    assert len(orders) == 4


def test_permutation_has_no_favourite_places() -> None:
    """Over many epochs every sample comes to every place about equally often."""
    counts = np.zeros((6, 6))
    for epoch in range(3000):
        counts[np.arange(6), epoch_permutation(1, epoch, 6)] += 1
    assert abs(counts - 500).max() < 120


def test_drawing_leaves_global_streams_alone() -> None:
    """The sampler neither reads nor moves a global random stream."""
    before = streams()
    first = list(ResumableSampler(Squares(20), seed=3))
    assert streams() == before
    torch.manual_seed(99)
    assert list(ResumableSampler(Squares(20), seed=3)) == first


@given(position=st.integers(0, 20), epoch=st.integers(0, 3), shuffle=st.booleans())
def test_sampler_goes_on_in_a_plain_loader(position: int, epoch: int, shuffle: bool) -> None:
    """A loop that reports each batch with advance() continues a plain DataLoader mid-epoch."""
    dataset = Squares(20)
    whole = ResumableSampler(dataset, shuffle=shuffle, seed=5)
    whole.set_epoch(epoch)
    expected = list(whole)

    stopped = ResumableSampler(dataset, shuffle=shuffle, seed=5)
    stopped.set_epoch(epoch)
    stopped.advance(position)
    resumed = ResumableSampler(dataset, shuffle=shuffle, seed=5)
    resumed.load_state_dict(stopped.state_dict())
    seen = [int(x) for batch in DataLoader(dataset, 4, sampler=resumed) for x in batch]
    assert seen == expected[position:]


def test_sampler_refuses_to_guess_what_was_consumed() -> None:
    """A sampler drawn ahead by a plain loader has no state until consumption is reported."""
    dataset = Squares(20)
    sampler = ResumableSampler(dataset)
    batches = iter(DataLoader(dataset, 4, sampler=sampler))
    next(batches)
    with pytest.raises(ConfigError, match="nobody told it"):
        sampler.state_dict()
    sampler.advance(4)
    assert sampler.state_dict()["position"] == 4


@pytest.mark.parametrize(
    ("length", "shuffle", "seed", "field"),
    [(21, True, 0, "dataset_length"), (20, False, 0, "shuffle"), (20, True, 1, "seed")],
)
def test_sampler_refuses_another_order(length: int, shuffle: bool, seed: int, field: str) -> None:
    """A state of another dataset length, shuffle or seed is refused, and changes nothing."""
    stopped = ResumableSampler(Squares(20))
    stopped.advance(8)
    sampler = ResumableSampler(Squares(length), shuffle=shuffle, seed=seed)
    with pytest.raises(MismatchError, match=field):
        sampler.load_state_dict(stopped.state_dict())
    assert (sampler.epoch, sampler.position) == (0, 0)


def test_sampler_refuses_a_foreign_state() -> None:
    """A state without the sampler's fields is named as such."""
    with pytest.raises(FormatError, match="ResumableSampler"):
        ResumableSampler(Squares(3)).load_state_dict({"epoch": 1})


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, None])
def test_seed_is_one_unsigned_word(seed: object) -> None:
    """A seed that is not an integer in [0, 2**64) is refused."""
    with pytest.raises(ConfigError, match="seed"):
        ResumableSampler(Squares(3), seed=seed)  # type: ignore[arg-type]
