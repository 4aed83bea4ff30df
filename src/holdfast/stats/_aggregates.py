"""From summed statistics to scores, for any number of resamples at once.

Each aggregate maps float64 sums of shape [..., n_stats] to float64 scores of shape [...]. They are
frozen values, so that two systems can be seen to be scored by the same rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from holdfast.errors import ConfigError

FloatArray: TypeAlias = npt.NDArray[np.float64]
BleuSmoothing: TypeAlias = Literal["none", "floor", "add-k", "exp"]

_LOG_OF_ZERO = -9999999999.0


@dataclass(frozen=True, slots=True)
class WeightedMean:
    """Statistics [weight x score, weight]; score = sum(weight x score) / sum(weight)."""

    def __call__(self, sums: FloatArray) -> FloatArray:
        """Sums [..., 2] -> scores [...]."""
        return np.asarray(sums[..., 0] / sums[..., 1], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Bleu:
    """Corpus BLEU, 0 to 100, from [hyp length, ref length, matches x N, totals x N].

    Papineni et al. 2002 (P02-1040) with the smoothing methods of Chen and Cherry 2014 (W14-3346),
    in every corner as sacrebleu computes it: no match at all is 0, an order without any n-gram ends
    the product (score 0, or fewer orders when `effective_order`), and "exp" halves once more for
    each order without a match.
    """

    max_ngram_order: int = 4
    smooth_method: BleuSmoothing = "exp"
    smooth_value: float = 0.0
    effective_order: bool = False

    def __call__(self, sums: FloatArray) -> FloatArray:
        """Sums [..., 2 + 2N] -> scores [...]."""
        order = self.max_ngram_order
        matches, totals = sums[..., 2 : 2 + order], sums[..., 2 + order :]
        any_match = (matches > 0).any(axis=-1)
        if self.smooth_method == "add-k":
            added = np.where(np.arange(order) > 0, self.smooth_value, 0.0)
            matches, totals = matches + added, totals + added
        counted = np.logical_and.accumulate(totals > 0, axis=-1)
        logs = np.where(counted, self._log_precisions(matches, totals, counted), _LOG_OF_ZERO)
        if self.effective_order:
            orders = np.maximum(counted.sum(axis=-1), 1)
            mean = np.where(counted, logs, 0.0).sum(axis=-1) / orders
        else:
            mean = logs.mean(axis=-1)
        return np.where(any_match, _brevity_penalty(sums[..., 0], sums[..., 1]) * np.exp(mean), 0.0)

    def _log_precisions(
        self, matches: FloatArray, totals: FloatArray, counted: npt.NDArray[np.bool_]
    ) -> FloatArray:
        unmatched = counted & (matches == 0)
        if self.smooth_method == "exp":
            matches = np.where(unmatched, 0.5 ** unmatched.cumsum(axis=-1), matches)
        elif self.smooth_method == "floor":
            matches = np.where(unmatched, self.smooth_value, matches)
        known = counted & (matches > 0)
        ratio = np.divide(100.0 * matches, totals, out=np.ones_like(totals), where=known)
        return np.where(known, np.log(ratio), _LOG_OF_ZERO)


def _brevity_penalty(hypothesis_length: FloatArray, reference_length: FloatArray) -> FloatArray:
    ratio = np.divide(
        reference_length,
        hypothesis_length,
        out=np.full_like(hypothesis_length, np.inf),
        where=hypothesis_length > 0,
    )
    short = hypothesis_length < reference_length
    return np.where(short, np.exp(1.0 - np.where(short, ratio, 1.0)), 1.0)


@dataclass(frozen=True, slots=True)
class Chrf:
    """Corpus chrF or chrF++, 0 to 100, from [hyp, ref, match] counts of each n-gram order.

    Popović 2015 (W15-3049) and 2017 (W17-4770) as sacrebleu computes them: precision and recall are
    averaged over the orders that both sides have, or with `eps_smoothing` each order has its own
    F score.
    """

    orders: int = 6
    beta: int = 2
    eps_smoothing: bool = False

    def __call__(self, sums: FloatArray) -> FloatArray:
        """Sums [..., 3 x orders] -> scores [...]."""
        counts = sums.reshape(*sums.shape[:-1], self.orders, 3)
        hypothesis, reference, match = counts[..., 0], counts[..., 1], counts[..., 2]
        absent = np.full_like(match, 1e-16)
        precision = np.divide(match, hypothesis, out=absent.copy(), where=hypothesis > 0)
        recall = np.divide(match, reference, out=absent.copy(), where=reference > 0)
        if self.eps_smoothing:
            each = self._f_score(precision, recall, empty=1e-16)
            return np.asarray(100.0 * each.mean(axis=-1), dtype=np.float64)
        both = (hypothesis > 0) & (reference > 0)
        effective = np.maximum(both.sum(axis=-1), 1)
        mean_precision = np.where(both, precision, 0.0).sum(axis=-1) / effective
        mean_recall = np.where(both, recall, 0.0).sum(axis=-1) / effective
        return 100.0 * self._f_score(mean_precision, mean_recall, empty=0.0)

    def _f_score(self, precision: FloatArray, recall: FloatArray, *, empty: float) -> FloatArray:
        factor = float(self.beta) ** 2
        below = factor * precision + recall
        above = (1.0 + factor) * precision * recall
        return np.divide(above, below, out=np.full_like(below, empty), where=below > 0)


_KINDS: Mapping[str, type[Any]] = {"mean": WeightedMean, "bleu": Bleu, "chrf": Chrf}


def aggregate_record(aggregate: object) -> dict[str, Any] | None:
    """An aggregate of ours as plain values; None for one of the user's own."""
    for kind, known in _KINDS.items():
        if type(aggregate) is known:
            return {"kind": kind, **asdict(aggregate)}  # type: ignore[call-overload]
    return None


def aggregate_of(record: Mapping[str, Any]) -> Any:
    """The inverse of `aggregate_record`. Raises ConfigError if it is none of ours."""
    fields = dict(record)
    try:
        return _KINDS[fields.pop("kind")](**fields)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{dict(record)!r} is no aggregate of scores") from error
