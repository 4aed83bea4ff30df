"""Ensembled decoding of the translation example, against a plain one without caches or batches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from holdfast.demo.corpus import Corpus, Direction, Pair
from holdfast.demo.dataset import Vocabularies
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.translate import translate
from holdfast.demo.trial import TranslationTrial
from holdfast.demo.vocab import BOS, EOS, PAD
from holdfast.ensemble import ModelEnsemble

WORDS = [
    "der",
    "hund",
    "und",
    "die",
    "katze",
    "gehen",
    "heute",
    "nach",
    "hause",
    "weil",
    "es",
    "regnet",
]
PAIRS = tuple(
    Pair(" ".join(WORDS[n % 5 : n % 5 + n % 6 + 1]), " ".join(WORDS[: n % 7 + 1]))
    for n in range(30)
)
CORPUS = Corpus("x", Direction("de", "en"), PAIRS, PAIRS[:4], PAIRS[4:9])
TABLES = Vocabularies.build(CORPUS)
POSITIONS = 16
SOURCES = [pair.source for pair in CORPUS.test]


def transformer(seed: int, width: int = 16) -> TranslationTransformer:
    """Random weights; the output projection is its own, or they would repeat themselves."""
    torch.manual_seed(seed)
    config = ModelConfig(
        len(TABLES.source), len(TABLES.target), width, 32, 4, positions_max=POSITIONS
    )
    model = TranslationTransformer(config).eval()
    model.output.weight = nn.Parameter(torch.randn(len(TABLES.target), width))
    return model


def next_logs(
    models: list[TranslationTransformer], source: list[int], ids: list[int]
) -> list[float]:
    """Log of the mean distribution of the token after `ids`, by the whole decoders, in float64."""
    with torch.no_grad():
        each = [
            model(torch.tensor([source]), torch.tensor([[BOS, *ids]]))[0, -1].double().softmax(0)
            for model in models
        ]
    values: list[float] = torch.stack(each).mean(0).log().tolist()
    values[PAD] = values[BOS] = -math.inf
    return values


def plain(models: list[TranslationTransformer], text: str, size: int) -> str:
    """Beam search over Python lists: (score, sum, ids, done), best first; size 1 is greedy."""
    source = [*TABLES.source.encode(text), EOS]
    limit = min(int(1.5 * len(source)) + 8, POSITIONS)
    beam: list[tuple[float, float, list[int], bool]] = [(0.0, 0.0, [], False)]
    while not all(done for *_, done in beam):
        grown = [one for one in beam if one[3]]
        for _, total, ids, done in beam:
            for token, value in enumerate([] if done else next_logs(models, source, ids)):
                longer = [*ids, token]
                over = token == EOS or len(longer) >= limit
                grown.append(((total + value) / len(longer), total + value, longer, over))
        beam = sorted(grown, key=lambda one: -one[0])[:size]
    return TABLES.target.decode(beam[0][2])


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("widths", [(16, 16, 16), (16, 32)])
def test_ensembles_decode_token_for_token_like_a_plain_search(
    size: int, widths: tuple[int, ...]
) -> None:
    """Greedy and beam: per-step means, a cache for each member, the same rows kept in all."""
    models = [transformer(seed, width) for seed, width in enumerate(widths)]
    found = translate(models, TABLES, SOURCES, beam_size=size)
    assert found == [plain(models, text, size) for text in SOURCES]
    alone = translate(models[0], TABLES, SOURCES, beam_size=size)
    assert found != alone


def test_whole_outputs_of_an_ensemble_agree_with_its_steps() -> None:
    """What the module says of a whole target is what the steps say one by one."""
    models = [transformer(seed) for seed in range(2)]
    source, ids = [*TABLES.source.encode(SOURCES[3]), EOS], [5, 6, 7]
    with torch.no_grad():
        logs = ModelEnsemble(models).eval()(torch.tensor([source]), torch.tensor([[BOS, *ids]]))
    expected = torch.tensor(next_logs(models, source, ids), dtype=torch.float64)
    expected[[PAD, BOS]] = logs[0, -1, [PAD, BOS]].double()
    torch.testing.assert_close(logs[0, -1].double(), expected, rtol=1e-4, atol=1e-5)


def test_the_trial_is_known_by_what_it_asks() -> None:
    """Other sentences, other vocabularies or another search are another test."""
    trials = [
        TranslationTrial(CORPUS.test, TABLES),
        TranslationTrial(CORPUS.test, TABLES, beam_size=1),
        TranslationTrial(CORPUS.valid, TABLES),
    ]
    assert len({trial.identity for trial in trials}) == 3
    assert TranslationTrial(CORPUS.test, TABLES).identity == trials[0].identity
    score = trials[1].evaluate(trials[1].ensemble([transformer(0), transformer(1)]))
    assert score.examples == len(CORPUS.test)
