"""Batches by length, continued where they stood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import ResumableLoader
from holdfast.demo.batches import BucketedBatches
from holdfast.demo.corpus import Pair
from holdfast.demo.dataset import EncodedPairs, Vocabularies, collate
from holdfast.demo.vocab import BOS, EOS, PAD, Vocabulary
from holdfast.errors import ConfigError, MismatchError

LENGTHS = [1 + (7 * index) % 13 for index in range(400)]
PAIRS = [Pair("a " * length, "b " * (length // 2 + 1)) for length in LENGTHS]
TABLES = Vocabularies(Vocabulary.build(["a a a"]), Vocabulary.build(["b b b"]))


def loader(seed: int = 1, pairs: list[Pair] = PAIRS) -> ResumableLoader:
    """The loader of the demo over small pairs."""
    dataset = EncodedPairs(pairs, TABLES)
    batches = BucketedBatches(dataset.lengths, tokens_per_batch=60, seed=seed)
    return ResumableLoader(dataset, batch_sampler=batches, collate_fn=collate, seed=seed)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=300), st.integers(1, 200))
def test_an_epoch_holds_every_sentence_once(lengths: list[int], tokens: int) -> None:
    """And no batch is over its size, except for a single sentence that is."""
    batches = list(BucketedBatches(lengths, tokens_per_batch=tokens, seed=3))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens


def test_batches_hold_sentences_of_like_length() -> None:
    """Little of a batch is padding."""
    batches = BucketedBatches(LENGTHS, tokens_per_batch=60, seed=1)
    padded = sum(len(batch) * max(LENGTHS[i] for i in batch) for batch in batches)
    assert sum(LENGTHS) / padded > 0.9


def test_the_order_is_that_of_the_epoch() -> None:
    """Epochs differ, and going back to one gives it again."""
    batches = BucketedBatches(LENGTHS, tokens_per_batch=60, seed=1)
    first = list(batches)
    batches.set_epoch(1)
    assert list(batches) != first
    batches.set_epoch(0)
    assert list(batches) == first


@pytest.mark.parametrize("consumed", [0, 1, 17, 60])
def test_a_resumed_loader_goes_on_with_the_next_batch(consumed: int) -> None:
    """Mid-epoch and across the end of one, the batches are those of the uninterrupted run."""

    def draw(of: ResumableLoader, count: int) -> list[list[list[int]]]:
        drawn: list[list[list[int]]] = []
        while len(drawn) < count:
            for batch in of:
                drawn.append(batch.source.tolist())
                if len(drawn) == count:
                    break
        return drawn

    whole = draw(loader(), consumed + 20)
    stopped = loader()
    draw(stopped, consumed)
    resumed = loader()
    resumed.load_state_dict(stopped.state_dict())
    assert draw(resumed, 20) == whole[consumed:]


def test_another_corpus_or_seed_is_reported() -> None:
    """A position in one order means nothing in another."""
    state = loader().state_dict()
    with pytest.raises(MismatchError, match="seed"):
        loader(seed=2).load_state_dict(state)
    changed = [Pair("a a", "b b b b"), *PAIRS[1:]]
    with pytest.raises(MismatchError, match="dataset"):
        loader(pairs=changed).load_state_dict(state)


def test_a_batch_is_padded_and_shifted() -> None:
    """The source ends in </s>; what is wanted is what is seen, one place on."""
    batch = collate([([5, 6], [7]), ([5], [8, 9])])
    assert batch.source.tolist() == [[5, 6, EOS], [5, EOS, PAD]]
    assert batch.target_in.tolist() == [[BOS, 7, PAD], [BOS, 8, 9]]
    assert batch.target_out.tolist() == [[7, EOS, PAD], [8, 9, EOS]]
    assert batch.target_tokens == 5


def test_pairs_that_are_too_long_are_left_out() -> None:
    """A single endless sentence must not decide the size of a batch."""
    dataset = EncodedPairs([Pair("a", "b"), Pair("a " * 50, "b")], TABLES, tokens_max=20)
    assert len(dataset) == 1


def test_no_sentences_make_no_batches() -> None:
    """An empty corpus is refused at once, not after an endless loop."""
    with pytest.raises(ConfigError):
        BucketedBatches([], tokens_per_batch=10, seed=1)
