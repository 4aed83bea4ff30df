"""Sentences in, sentences out."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.decoding import beam, greedy
from holdfast.demo.dataset import Vocabularies, pad
from holdfast.demo.decode import MARKS, length_limits, step_model
from holdfast.demo.model import TranslationTransformer
from holdfast.demo.vocab import EOS

_BATCH_SENTENCES = 128


def translate(
    model: TranslationTransformer | Sequence[TranslationTransformer],
    vocabularies: Vocabularies,
    sentences: Sequence[str],
    *,
    beam_size: int = 1,
) -> list[str]:
    """Translate sentences, in their order. beam_size 1 is greedy search.

    model: several are an ensemble. A source longer than the models' positions is cut off. Models
    are left in the mode, training or evaluation, that they were in.
    """
    models = [model] if isinstance(model, TranslationTransformer) else list(model)
    positions = min(one.config.positions_max for one in models)
    sources = [[*vocabularies.source.encode(text)[: positions - 1], EOS] for text in sentences]
    by_length = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    translations = [""] * len(sources)
    modes = [(one, one.training) for one in models]
    for one in models:
        one.eval()
    steps = step_model(models)
    for start in range(0, len(by_length), _BATCH_SENTENCES):
        chosen = by_length[start : start + _BATCH_SENTENCES]
        source = pad([sources[index] for index in chosen]).numpy()
        limits = length_limits(source, positions)
        if beam_size == 1:
            found = greedy(steps, source, limits, MARKS)
        else:
            found = beam(steps, source, limits, MARKS, width=beam_size)
        for index, hypothesis in zip(chosen, found, strict=True):
            translations[index] = vocabularies.target.decode(hypothesis.tokens)
    for one, training in modes:
        one.train(training)
    return translations
