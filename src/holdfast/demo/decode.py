"""From source ids to target ids: greedy and beam search, many sentences at once.

Both run one token at a time over cached keys and values, in evaluation mode, without gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from holdfast.decoding import Ensemble, Marks, StepModel, beam, greedy
from holdfast.decoding.tensors import TensorSteps
from holdfast.demo.model import TranslationTransformer
from holdfast.demo.steps import CachedSteps
from holdfast.demo.vocab import BOS, EOS, PAD

MARKS = Marks(begin=BOS, end=EOS, never=(PAD, BOS))
_LENGTH_FACTOR = 1.5
_LENGTH_EXTRA = 8


def step_model(models: Sequence[TranslationTransformer]) -> StepModel[NDArray[np.int64], Any]:
    """Models on the CPU in evaluation mode as one to decode; several are asked for the mean of
    their probabilities at each step."""
    steps = [TensorSteps(CachedSteps(model)) for model in models]
    return steps[0] if len(steps) == 1 else Ensemble(steps)


def greedy_search(
    model: TranslationTransformer, source: Tensor, *, length_max: int | None = None
) -> list[list[int]]:
    """The most probable token at each place.

    source: [B, S] ids, right-padded. length_max: most target tokens; by default half as many again
    as a sentence's own source and eight more, so that its neighbours in the batch play no part.
    Returns B lists of ids without <s> and </s>. The model must be in evaluation mode.
    """
    ids = source.numpy(force=True)
    limits = length_limits(ids, model.config.positions_max, length_max)
    steps = TensorSteps(CachedSteps(model), device=source.device)
    return [found.tokens for found in greedy(steps, ids, limits, MARKS)]


def beam_search(
    model: TranslationTransformer,
    source: Tensor,
    *,
    beam_size: int = 4,
    length_penalty: float = 1.0,
    length_max: int | None = None,
) -> list[list[int]]:
    """The best of `beam_size` hypotheses kept side by side, as `holdfast.decoding.beam` ranks them.

    Otherwise as `greedy_search`, to which beam_size=1 is equal.
    """
    ids = source.numpy(force=True)
    limits = length_limits(ids, model.config.positions_max, length_max)
    steps = TensorSteps(CachedSteps(model), device=source.device)
    found = beam(steps, ids, limits, MARKS, width=beam_size, length_penalty=length_penalty)
    return [hypothesis.tokens for hypothesis in found]


def length_limits(
    source: NDArray[np.int64], positions_max: int, length_max: int | None = None
) -> NDArray[np.int64]:
    """The most target tokens of each sentence of source ids [B, S], (B,)."""
    lengths: NDArray[np.int64] = (source != PAD).sum(axis=1)
    wanted: NDArray[np.int64] = (_LENGTH_FACTOR * lengths).astype(np.int64) + _LENGTH_EXTRA
    if length_max is not None:
        wanted = np.full(len(source), length_max, dtype=np.int64)
    return wanted.clip(max=positions_max)
