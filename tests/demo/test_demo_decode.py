"""Greedy and beam search against plain implementations without a cache."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from holdfast.decoding import greedy
from holdfast.decoding.tensors import TensorSteps
from holdfast.demo.decode import MARKS, beam_search, greedy_search, length_limits
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.steps import CachedSteps, WholeSteps
from holdfast.demo.vocab import BOS, EOS, PAD

SOURCES = torch.tensor([[5, 6, 7, 2], [8, 9, 2, PAD], [12, 2, PAD, PAD], [4, 15, 3, 2]])
LENGTH_MAX = 9


@pytest.fixture
def model() -> TranslationTransformer:
    """Random weights whose hypotheses end after different lengths.

    The output projection is its own here: tied to the embedding, random weights repeat themselves.
    """
    torch.manual_seed(0)
    config = ModelConfig(23, 19, width=16, feedforward_width=32, heads=4, positions_max=64)
    model = TranslationTransformer(config).eval()
    model.output.weight = nn.Parameter(torch.randn(19, 16))
    return model


def log_probabilities(
    model: TranslationTransformer, source: torch.Tensor, ids: list[int]
) -> list[float]:
    """Of the token after `ids`, by the whole decoder."""
    logits = model(source[None], torch.tensor([[BOS, *ids]]))[0, -1]
    values: list[float] = logits.log_softmax(dim=0).tolist()
    values[PAD] = values[BOS] = -float("inf")
    return values


def plain_beam(
    model: TranslationTransformer, source: torch.Tensor, size: int, penalty: float
) -> list[int]:
    """Beam search over Python lists: (score, sum, ids, done), best first."""
    beam: list[tuple[float, float, list[int], bool]] = [(0.0, 0.0, [], False)]
    for _ in range(LENGTH_MAX):
        grown: list[tuple[float, float, list[int], bool]] = []
        for score, total, ids, done in beam:
            if done:
                grown.append((score, total, ids, True))
                continue
            for token, value in enumerate(log_probabilities(model, source, ids)):
                summed = total + value
                grown.append(
                    (summed / (len(ids) + 1) ** penalty, summed, [*ids, token], token == EOS)
                )
        beam = sorted(grown, key=lambda item: -item[0])[:size]
        if all(done for *_, done in beam):
            break
    return [token for token in beam[0][2] if token != EOS]


def test_greedy_takes_the_most_probable_token_each_time(model: TranslationTransformer) -> None:
    """The batch with its cache agrees with one sentence at a time without."""
    found = greedy_search(model, SOURCES, length_max=LENGTH_MAX)
    for source, ids in zip(SOURCES, found, strict=True):
        assert ids == plain_beam(model, source, size=1, penalty=1.0)


def test_a_beam_of_one_is_greedy(model: TranslationTransformer) -> None:
    """Both searches agree where they must."""
    assert beam_search(model, SOURCES, beam_size=1, length_max=LENGTH_MAX) == greedy_search(
        model, SOURCES, length_max=LENGTH_MAX
    )


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_a_beam_finds_what_the_plain_search_finds(
    model: TranslationTransformer, size: int, penalty: float
) -> None:
    """Hypotheses of different lengths, finished and not, are ranked as the docstring says."""
    found = beam_search(
        model, SOURCES, beam_size=size, length_penalty=penalty, length_max=LENGTH_MAX
    )
    for source, ids in zip(SOURCES, found, strict=True):
        assert ids == plain_beam(model, source, size, penalty)


def test_decoding_without_a_cache_gives_the_same(model: TranslationTransformer) -> None:
    """Both step modules of the demo give the tokens of `greedy_search`."""
    ids = SOURCES.numpy()
    limits = length_limits(ids, 64, LENGTH_MAX)
    for module in (CachedSteps(model), WholeSteps(model)):
        found = greedy(TensorSteps(module), ids, limits, MARKS)
        assert [hypothesis.tokens for hypothesis in found] == greedy_search(
            model, SOURCES, length_max=LENGTH_MAX
        )


def test_the_searches_see_different_lengths(model: TranslationTransformer) -> None:
    """Guards the tests above: some hypothesis ends by itself and some goes on."""
    lengths = {len(ids) for ids in beam_search(model, SOURCES, length_max=LENGTH_MAX)}
    assert len(lengths) > 1


def test_the_length_limit_holds(model: TranslationTransformer) -> None:
    """No search goes beyond it, and its default follows the source."""
    assert all(len(ids) <= 2 for ids in greedy_search(model, SOURCES, length_max=2))
    assert all(len(ids) <= 14 for ids in greedy_search(model, SOURCES))
