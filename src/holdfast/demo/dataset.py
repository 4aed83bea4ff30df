"""Sentence pairs as token ids: what training iterates over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from holdfast.demo.corpus import Corpus, Pair
from holdfast.demo.vocab import BOS, EOS, PAD, Vocabulary
from holdfast.digest import digest_bytes

TOKENS_MAX = 128


class Vocabularies(NamedTuple):
    """The token tables of both sides."""

    source: Vocabulary
    target: Vocabulary

    @classmethod
    def build(cls, corpus: Corpus) -> Vocabularies:
        """Tables of the training sentences of each side."""
        return cls(
            Vocabulary.build(pair.source for pair in corpus.train),
            Vocabulary.build(pair.target for pair in corpus.train),
        )


class Batch(NamedTuple):
    """Ids [B, length], padded on the right: the source, and the target as seen and as wanted.

    source ends in </s>; target_in begins with <s>; target_out is target_in moved by one place and
    ends in </s>.
    """

    source: Tensor
    target_in: Tensor
    target_out: Tensor

    @property
    def target_tokens(self) -> int:
        """Tokens to predict, padding not counted."""
        return int((self.target_out != PAD).sum())


class EncodedPairs(Dataset[tuple[list[int], list[int]]]):
    """Pairs as (source ids, target ids); those longer than `tokens_max` on a side are left out."""

    def __init__(
        self, pairs: Sequence[Pair], vocabularies: Vocabularies, *, tokens_max: int = TOKENS_MAX
    ) -> None:
        encoded = (
            (vocabularies.source.encode(pair.source), vocabularies.target.encode(pair.target))
            for pair in pairs
        )
        self._items = [both for both in encoded if max(map(len, both)) < tokens_max]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[list[int], list[int]]:
        return self._items[index]

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer side of each pair, with its end mark."""
        return [max(len(source), len(target)) + 1 for source, target in self._items]

    def fingerprint(self) -> str:
        """A digest of all ids, by which a resumed loader knows that the corpus is the same."""
        flat = [token for both in self._items for side in both for token in (*side, -1)]
        return digest_bytes(torch.tensor(flat, dtype=torch.int32).numpy().tobytes())


def collate(items: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """Pad a list of pairs into a batch."""
    return Batch(
        pad([[*source, EOS] for source, _ in items]),
        pad([[BOS, *target] for _, target in items]),
        pad([[*target, EOS] for _, target in items]),
    )


def pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """Rows of ids as one tensor [rows, longest], int64, filled up with padding on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])
