"""Greedy and beam search over any step model."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from decoding_toys import BEGIN, END, MARKS, RandomTable, plain_beam
from hypothesis import given
from hypothesis import strategies as st

from holdfast.decoding import Marks, beam, greedy
from holdfast.errors import DecodingError

SOURCES = np.arange(6)
LIMITS = np.array([9, 1, 4, 9, 0, 9])


@pytest.fixture
def model() -> RandomTable:
    """Six sources, seven tokens, ten places."""
    return RandomTable(6, 7, 10, seed=3)


def test_greedy_is_the_plain_search_of_width_one(model: RandomTable) -> None:
    """Tokens and summed log-probabilities, for rows of different limits."""
    found = greedy(model, SOURCES, LIMITS, MARKS)
    for source, limit, hypothesis in zip(SOURCES, LIMITS, found, strict=True):
        tokens, total = plain_beam(model, source, limit, 1, 1.0)
        assert hypothesis.tokens == tokens
        assert hypothesis.log_probability == pytest.approx(total, rel=1e-6)


@given(
    seed=st.integers(0, 10**6),
    vocabulary=st.integers(2, 6),
    width=st.integers(1, 20),
    penalty=st.sampled_from([0.0, 0.6, 1.0]),
    limits=st.lists(st.integers(0, 5), min_size=1, max_size=4),
)
def test_a_beam_is_the_plain_search(
    seed: int, vocabulary: int, width: int, penalty: float, limits: list[int]
) -> None:
    """Whatever the width, also beyond the vocabulary, and whichever rows end first."""
    model = RandomTable(len(limits), vocabulary, 5, seed)
    sources = np.arange(len(limits))
    found = beam(model, sources, np.array(limits), MARKS, width=width, length_penalty=penalty)
    for source, limit, hypothesis in zip(sources, limits, found, strict=True):
        tokens, total = plain_beam(model, source, limit, width, penalty)
        assert hypothesis.tokens == tokens
        assert hypothesis.log_probability == pytest.approx(total, rel=1e-6)
        assert hypothesis.finished == (len(tokens) < limit)


def test_rows_that_ended_leave_the_batch(model: RandomTable) -> None:
    """Late steps see fewer rows than the first, in both searches."""
    greedy(model, SOURCES, LIMITS, MARKS)
    assert model.batches[-1] < model.batches[0]
    model.batches.clear()
    beam(model, SOURCES, LIMITS, MARKS, width=2)
    assert model.batches[-1] < max(model.batches)


def test_nothing_is_asked_of_the_model_for_limits_of_nothing(model: RandomTable) -> None:
    """All limits zero, or no rows at all."""
    for limits in (np.zeros(6, dtype=np.int64), np.zeros(0, dtype=np.int64)):
        for search in (greedy, beam):
            found = search(model, SOURCES[: len(limits)], limits, MARKS)
            assert [hypothesis.tokens for hypothesis in found] == [[] for _ in limits]
    assert model.batches == []


def test_tokens_never_to_be_made_are_not(model: RandomTable) -> None:
    """Even the end mark: every hypothesis then goes to its limit."""
    marks = Marks(BEGIN, END, never=(BEGIN, END, 2))
    for found in (greedy(model, SOURCES, LIMITS, marks), beam(model, SOURCES, LIMITS, marks)):
        assert [len(hypothesis.tokens) for hypothesis in found] == LIMITS.tolist()
        assert not {BEGIN, END, 2} & {t for hypothesis in found for t in hypothesis.tokens}
        assert not any(hypothesis.finished for hypothesis in found)


def test_confidence_is_the_mean_probability_of_a_token(model: RandomTable) -> None:
    """Geometric, with the end mark; 1 for the empty sequence of a limit of zero."""
    for hypothesis in greedy(model, SOURCES, LIMITS, MARKS):
        made = len(hypothesis.tokens) + hypothesis.finished
        expected = np.exp(hypothesis.log_probability / made) if made else 1.0
        assert hypothesis.confidence == pytest.approx(expected)


def test_a_model_that_gives_nan_is_refused(model: RandomTable) -> None:
    """No tokens are made up from numbers that are none."""
    model.table[2, 1] = np.nan
    for search in (greedy, beam):
        with pytest.raises(DecodingError, match="not numbers"):
            search(model, SOURCES, LIMITS, MARKS)


@pytest.mark.parametrize("limits", [np.array([[1, 2]]), np.array([3, -1])])
def test_limits_that_mean_nothing_are_refused(
    model: RandomTable, limits: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
) -> None:
    """One number that is not negative for each row."""
    with pytest.raises(DecodingError, match="limits"):
        greedy(model, SOURCES[:2], limits, MARKS)


def test_a_beam_of_no_width_is_refused(model: RandomTable) -> None:
    """The error says what to use."""
    with pytest.raises(DecodingError, match="0 wide"):
        beam(model, SOURCES, LIMITS, MARKS, width=0)


def test_decoding_needs_no_torch() -> None:
    """A process that serves an exported model does without it."""
    code = "import sys, holdfast.decoding; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
