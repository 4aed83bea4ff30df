"""What a sequence model offers to be decoded, and what decoding gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from holdfast.errors import DecodingError

Source = TypeVar("Source")
SourceIn = TypeVar("SourceIn", contravariant=True)
Cache = TypeVar("Cache")


class StepModel(Protocol[SourceIn, Cache]):
    """A model asked for one token after another, for many sequences (rows) at once.

    The cache is opaque to whoever decodes: a value, never changed in place by the model once it
    was returned.
    """

    def start(self, source: SourceIn) -> Cache:
        """The cache before the first token; its rows are those of the source, in order."""
        ...

    def step(self, tokens: NDArray[np.int64], cache: Cache) -> tuple[NDArray[np.float32], Cache]:
        """Feed the newest token of each row, (rows,); begin with the begin mark.

        Returns the log-probabilities of the next one, float32 (rows, vocabulary), an array that
        the caller may overwrite, and the cache to go on with.
        """
        ...

    def reorder(self, cache: Cache, rows: NDArray[np.int64]) -> Cache:
        """The cache of the given rows, (rows',), in that order; rows may repeat or be left out."""
        ...


@dataclass(frozen=True)
class Marks:
    """Token ids that steer decoding: the first token fed, the last token made, those never made."""

    begin: int
    end: int
    never: tuple[int, ...] = ()


class Hypothesis(NamedTuple):
    """One decoded sequence.

    tokens: ids without begin and end mark. log_probability: the sum over all its tokens, end mark
    included. finished: ended by its end mark; otherwise at its length limit.
    """

    tokens: list[int]
    log_probability: float
    finished: bool

    @property
    def confidence(self) -> float:
        """The geometric mean of the probabilities of its tokens, end mark included; 0 to 1."""
        made = len(self.tokens) + self.finished
        return float(np.exp(self.log_probability / made)) if made else 1.0


def checked_limits(limits: NDArray[np.int64]) -> NDArray[np.int64]:
    """The limits as an int64 vector. Raises DecodingError for another shape or negative ones."""
    checked = np.asarray(limits, dtype=np.int64)
    if checked.ndim != 1 or (checked < 0).any():
        raise DecodingError(
            f"Length limits are one number of tokens for each row, not negative; their shape is "
            f"{checked.shape}"
        )
    return checked


def forbid(log_probs: NDArray[np.float32], never: tuple[int, ...]) -> None:
    """Make tokens impossible, in place."""
    for token in never:
        log_probs[:, token] = -np.inf


def refuse_nan(best: NDArray[np.float32]) -> None:
    """Raise DecodingError if a row's best log-probability is not a number."""
    if np.isnan(best).any():
        row = int(np.flatnonzero(np.isnan(best))[0])
        raise DecodingError(
            "The model gave log-probabilities that are not numbers",
            where=f"row {row} of those being decoded",
            fix="look for NaN in its weights, and for a source of nothing but padding",
        )
