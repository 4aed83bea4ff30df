"""Several step models decoded as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Literal

import numpy as np
from numpy.typing import NDArray

from holdfast.decoding.protocol import SourceIn, StepModel
from holdfast.errors import DecodingError

Combine = Literal["probabilities", "log_probabilities"]


class Ensemble(Generic[SourceIn]):
    """A step model whose distribution is the mean of its members', each with its own cache.

    combine: "probabilities" takes the weighted arithmetic mean, log sum_i w_i p_i;
    "log_probabilities" the weighted geometric mean, normalised again, without which hypotheses of
    different lengths would not be comparable. weights: not negative, divided by their sum; equal by
    default. All members must mean the same tokens by the same ids, which sizes alone cannot show:
    compare the contents of vocabularies before. Raises DecodingError if there are no members or the
    weights do not fit them, and at the first step if their vocabularies differ in size.
    """

    def __init__(
        self,
        members: Sequence[StepModel[SourceIn, Any]],
        *,
        weights: Sequence[float] | None = None,
        combine: Combine = "probabilities",
    ) -> None:
        self._members = tuple(members)
        self._combine = combine
        shares = np.asarray(weights if weights is not None else [1.0] * len(members), np.float64)
        if not members or len(shares) != len(members):
            raise DecodingError(f"{len(shares)} weights were given for {len(members)} members")
        if not np.isfinite(shares).all() or (shares < 0).any() or shares.sum() <= 0:
            raise DecodingError(f"{shares.tolist()} are not weights of an ensemble")
        self._shares = (shares / shares.sum()).astype(np.float32)

    def start(self, source: SourceIn) -> tuple[Any, ...]:
        """Every member's cache."""
        return tuple(member.start(source) for member in self._members)

    def step(
        self, tokens: NDArray[np.int64], cache: tuple[Any, ...]
    ) -> tuple[NDArray[np.float32], tuple[Any, ...]]:
        """Every member steps; their distributions become one."""
        steps = [member.step(tokens, own) for member, own in zip(self._members, cache, strict=True)]
        sizes = {log_probs.shape[1] for log_probs, _ in steps}
        if len(sizes) > 1:
            raise DecodingError(
                f"The members have vocabularies of different sizes: {sorted(sizes)}",
                fix="ensemble models that were trained with the same vocabulary",
            )
        combined = combine_log_probs([lp for lp, _ in steps], self._shares, self._combine)
        return combined, tuple(own for _, own in steps)

    def reorder(self, cache: tuple[Any, ...], rows: NDArray[np.int64]) -> tuple[Any, ...]:
        """The same rows for every member."""
        return tuple(
            member.reorder(own, rows) for member, own in zip(self._members, cache, strict=True)
        )


def combine_log_probs(
    members: Sequence[NDArray[np.float32]], shares: NDArray[np.float32], combine: Combine
) -> NDArray[np.float32]:
    """The log of the mean distribution, (rows, vocabulary); shares sum to one."""
    if combine == "log_probabilities":
        total = sum(s * m for s, m in zip(shares, members, strict=True) if s > 0)
        return np.asarray(total - _logsumexp(np.asarray(total)), dtype=np.float32)
    highest = np.maximum.reduce(list(members))
    base = np.where(np.isfinite(highest), highest, np.float32(0))
    total = sum(s * np.exp(m - base) for s, m in zip(shares, members, strict=True))
    with np.errstate(divide="ignore"):  # no member gives such a token any probability
        return np.asarray(np.log(total) + base, dtype=np.float32)


def _logsumexp(values: NDArray[np.float32]) -> NDArray[np.float32]:
    highest = values.max(axis=1, keepdims=True)
    return np.asarray(highest + np.log(np.exp(values - highest).sum(axis=1, keepdims=True)))
