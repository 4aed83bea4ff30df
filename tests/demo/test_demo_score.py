"""Scores: sacreBLEU's numbers and the model's loss."""

from __future__ import annotations

import math

import pytest
import sacrebleu
import torch

from holdfast.demo.corpus import Corpus, Direction, Pair
from holdfast.demo.dataset import EncodedPairs, Vocabularies
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.score import bleu, mean_loss
from holdfast.demo.translate import translate

PAIRS = tuple(Pair(f"das ist {n} {'gut ' * (n % 5)}", f"this is {n}") for n in range(40))
CORPUS = Corpus("x", Direction("de", "en"), PAIRS, PAIRS[:5], PAIRS[5:9])
TABLES = Vocabularies.build(CORPUS)
HYPOTHESES = ["the cat sat on the mat", "a dog barked all night long"]
REFERENCES = ["the cat sat on a mat", "a dog barked all night long"]


@pytest.fixture
def translator() -> TranslationTransformer:
    """An untrained model over the small vocabularies, in training mode."""
    torch.manual_seed(3)
    config = ModelConfig(len(TABLES.source), len(TABLES.target), width=16, feedforward_width=32)
    return TranslationTransformer(config)


def test_scores_are_those_of_sacrebleu() -> None:
    """With its default settings."""
    expected = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert bleu(HYPOTHESES, REFERENCES) == expected


def test_the_loss_is_per_token_whatever_the_batches(translator: TranslationTransformer) -> None:
    """Padding counts for nothing: all pairs together weigh as each by itself."""
    together = mean_loss(translator, EncodedPairs(PAIRS, TABLES))
    total, tokens = 0.0, 0
    for pair in PAIRS:
        count = len(TABLES.target.encode(pair.target)) + 1
        total += count * mean_loss(translator, EncodedPairs([pair], TABLES))
        tokens += count
    assert math.isclose(together, total / tokens, rel_tol=1e-5)


def test_translations_come_in_the_order_of_the_sentences(
    translator: TranslationTransformer,
) -> None:
    """Sorting by length for speed is not seen from outside, and dropout is off."""
    sources = [pair.source for pair in PAIRS]
    together = translate(translator, TABLES, sources)
    assert together == [translate(translator, TABLES, [source])[0] for source in sources]
    assert translator.training


def test_a_source_over_the_positions_is_cut_off(translator: TranslationTransformer) -> None:
    """A long test sentence costs score, not the run."""
    assert len(translate(translator, TABLES, ["gut " * 600], beam_size=2)) == 1
