"""Sentences in, sentences out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from holdfast.demo.dataset import Vocabularies, pad
from holdfast.demo.decode import beam_search, greedy_search
from holdfast.demo.model import TranslationTransformer
from holdfast.demo.vocab import EOS

_BATCH_SENTENCES = 128


def translate(
    model: TranslationTransformer,
    vocabularies: Vocabularies,
    sentences: Sequence[str],
    *,
    beam_size: int = 1,
) -> list[str]:
    """Translate sentences, in their order. beam_size 1 is greedy search.

    A source longer than the model's positions is cut off. The model is left in the mode, training
    or evaluation, that it was in.
    """
    longest = model.config.positions_max - 1
    sources = [[*vocabularies.source.encode(text)[:longest], EOS] for text in sentences]
    by_length = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    translations = [""] * len(sources)
    was_training = model.training
    model.eval()
    for start in range(0, len(by_length), _BATCH_SENTENCES):
        chosen = by_length[start : start + _BATCH_SENTENCES]
        for index, ids in zip(
            chosen, _search(model, pad([sources[i] for i in chosen]), beam_size), strict=True
        ):
            translations[index] = vocabularies.target.decode(ids)
    model.train(was_training)
    return translations


def _search(model: TranslationTransformer, source: Tensor, beam_size: int) -> list[list[int]]:
    if beam_size == 1:
        return greedy_search(model, source)
    return beam_search(model, source, beam_size=beam_size)
