"""From source ids to target ids: greedy and beam search, many sentences at once.

Both run one token at a time over cached keys and values, in evaluation mode, without gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from holdfast.demo.model import TranslationTransformer
from holdfast.demo.vocab import BOS, EOS, PAD

_LENGTH_FACTOR = 1.5
_LENGTH_EXTRA = 8


def greedy_search(
    model: TranslationTransformer, source: Tensor, *, length_max: int | None = None
) -> list[list[int]]:
    """The most probable token at each place.

    source: [B, S] ids, right-padded. length_max: most target tokens; by default half as many again
    as a sentence's own source and eight more, so that its neighbours in the batch play no part.
    Returns B lists of ids without <s> and </s>. The model must be in evaluation mode.
    """
    limits = _limits(model, source, length_max)
    with torch.inference_mode():
        state = model.start(source)
        token = source.new_full((source.shape[0],), BOS)
        done = torch.zeros_like(token, dtype=torch.bool)
        columns: list[Tensor] = []
        for length in range(1, int(limits.max()) + 1):
            logits, state = model.decode_step(token, state)
            logits[:, PAD] = -torch.inf
            logits[:, BOS] = -torch.inf
            token = logits.argmax(dim=1).masked_fill(done, PAD)
            columns.append(token)
            done |= (token == EOS) | (length >= limits)
            if bool(done.all()):
                break
    return _lists(torch.stack(columns, dim=1)) if columns else [[] for _ in source]


def beam_search(
    model: TranslationTransformer,
    source: Tensor,
    *,
    beam_size: int = 4,
    length_penalty: float = 1.0,
    length_max: int | None = None,
) -> list[list[int]]:
    """The best of `beam_size` hypotheses kept side by side.

    A hypothesis scores its summed log-probability divided by its length (with </s>) to the power
    `length_penalty`; finished ones stay in the beam and keep their score. The search ends when all
    kept hypotheses of all sentences are finished or at their length_max. Otherwise as
    `greedy_search`, to which beam_size=1 is equal.
    """
    limits = _limits(model, source, length_max)
    count = source.shape[0]
    with torch.inference_mode():
        rows = torch.arange(count).repeat_interleave(beam_size)
        state = model.start(source).select(rows)
        beams = _Beams(limits, beam_size, length_penalty)
        while not beams.finished:
            logits, state = model.decode_step(beams.last, state)
            state = state.select(beams.advance(logits.log_softmax(dim=1)))
    return _lists(beams.best())


class _Beams:
    """The kept hypotheses: tokens [B*K, length], summed log-probabilities [B, K], lengths."""

    def __init__(self, limits: Tensor, size: int, length_penalty: float) -> None:
        count = len(limits)
        self._limits, self._count, self._size = limits[:, None], count, size
        self._penalty = length_penalty
        self._tokens = torch.full((count * size, 1), BOS)
        self._sums = torch.full((count, size), -torch.inf)
        self._sums[:, 0] = 0.0
        self._lengths = torch.zeros(count, size)
        self._done = torch.zeros(count, size, dtype=torch.bool)

    @property
    def last(self) -> Tensor:
        return self._tokens[:, -1]

    @property
    def finished(self) -> bool:
        return bool(self._done.all())

    def advance(self, log_probabilities: Tensor) -> Tensor:
        """Extend by one token given [B*K, V]; returns the rows the new beams came from, [B*K]."""
        vocabulary = log_probabilities.shape[1]
        steps = log_probabilities.view(self._count, self._size, vocabulary).clone()
        steps[..., BOS] = -torch.inf
        steps[..., PAD] = -torch.inf
        steps[self._done] = -torch.inf
        steps[..., PAD] = steps[..., PAD].masked_fill(self._done, 0.0)
        sums = self._sums[..., None] + steps
        lengths = self._lengths + (~self._done)
        scores = sums / lengths[..., None] ** self._penalty
        chosen = scores.flatten(1).topk(self._size, dim=1).indices
        parents, tokens = chosen // vocabulary, chosen % vocabulary
        rows = (parents + torch.arange(self._count)[:, None] * self._size).flatten()
        self._sums = sums.flatten(1).gather(1, chosen)
        self._lengths = lengths.gather(1, parents)
        ended = (tokens == EOS) | (self._lengths >= self._limits)
        self._done = self._done.gather(1, parents) | ended
        self._tokens = torch.cat([self._tokens[rows], tokens.view(-1, 1)], dim=1)
        return rows

    def best(self) -> Tensor:
        scores = self._sums / self._lengths.clamp(min=1) ** self._penalty
        top = scores.argmax(dim=1) + torch.arange(self._count) * self._size
        return self._tokens[top, 1:]


def _limits(model: TranslationTransformer, source: Tensor, length_max: int | None) -> Tensor:
    """The most tokens of each target, [B]."""
    lengths = (source != PAD).sum(dim=1)
    wanted = (_LENGTH_FACTOR * lengths).long() + _LENGTH_EXTRA
    if length_max is not None:
        wanted = torch.full_like(lengths, length_max)
    return wanted.clamp(max=model.config.positions_max)


def _lists(tokens: Tensor) -> list[list[int]]:
    """Rows up to their first end mark, padding dropped."""
    texts: list[list[int]] = []
    for row in tokens.tolist():
        end = row.index(EOS) if EOS in row else len(row)
        texts.append([token for token in row[:end] if token != PAD])
    return texts
