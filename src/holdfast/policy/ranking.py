"""Which checkpoint is better by a metric.

One rule serves ranking, retention, triggers and early stopping: **only finite values are ranked**.
A missing value says nothing about the model. NaN has no order. An infinity marks an overflow or a
logarithm of zero; in the winning direction it could never be beaten again, so a single broken
evaluation would hold the place of the best for the rest of the run.

Ties go to the later checkpoint (by `CheckpointInfo.order`): the same score after more training.
Were the earlier one preferred, a metric that starts on a floor (BLEU 0.0) or ends on a ceiling
(accuracy 1.0) would name the least trained of all equals the best. Asked for in
Lightning-AI/pytorch-lightning#16504 and #17240; fairseq does the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from holdfast.errors import PolicyError
from holdfast.policy import _checks
from holdfast.values import CheckpointInfo

Mode: TypeAlias = Literal["min", "max"]


def check_mode(mode: object, *, metric: str) -> None:
    """Raise PolicyError unless `mode` is "min" or "max".

    The direction is never guessed from the name of the metric: a wrong guess keeps the worst model
    of the run (huggingface/transformers#31142).
    """
    if mode not in ("min", "max"):
        raise PolicyError(
            f"The direction of the metric {metric!r} must be 'min' or 'max', not {mode!r}",
            fix="use mode='min' if lower is better (a loss), mode='max' if higher is (BLEU)",
        )


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric and its direction: mode "min" if lower is better, "max" if higher is.

    Raises PolicyError for an empty name or another mode.
    """

    name: str
    mode: Mode

    def __post_init__(self) -> None:
        _checks.metric_name(self.name)
        check_mode(self.mode, metric=self.name)

    def __str__(self) -> str:
        return f"{self.name} ({'lower' if self.mode == 'min' else 'higher'} is better)"

    def improves(self, value: float, reference: float | None, *, min_delta: float = 0.0) -> bool:
        """Whether `value` is finite and better than `reference` by more than `min_delta`.

        reference: a finite value, or None if there was none yet: then any finite value improves.
        """
        if not math.isfinite(value):
            return False
        if reference is None:
            return True
        gain = reference - value if self.mode == "min" else value - reference
        return gain > min_delta


def score(info: CheckpointInfo, metric: str) -> float | None:
    """The value of `metric` that `info` can be ranked by: None if missing or not finite."""
    value = info.metrics.get(metric)
    return value if value is not None and math.isfinite(value) else None


def rank(history: Sequence[CheckpointInfo], metric: str, mode: Mode) -> list[CheckpointInfo]:
    """Checkpoints with a finite value of `metric`, best first; ties: the later one first.

    history: in any order. Raises PolicyError for an empty metric name or a mode that is neither
    "min" nor "max".
    """
    wanted = Metric(metric, mode)
    scored = [(value, info) for info in history if (value := score(info, metric)) is not None]
    scored.sort(key=lambda pair: pair[1].order, reverse=True)
    # A second, stable sort leaves equal values in the order of the first: the latest first. The
    # value is negated rather than the sort reversed, because reversing would not change that.
    scored.sort(key=lambda pair: pair[0] if wanted.mode == "min" else -pair[0])
    return [info for _, info in scored]


def best(history: Sequence[CheckpointInfo], metric: str, mode: Mode) -> CheckpointInfo | None:
    """The first of `rank`, or None if no checkpoint has a finite value of `metric`."""
    return next(iter(rank(history, metric, mode)), None)


def top_k(
    history: Sequence[CheckpointInfo], metric: str, mode: Mode, k: int
) -> list[CheckpointInfo]:
    """The first `k` of `rank`: fewer if fewer checkpoints have a finite value of `metric`.

    Raises PolicyError if k is not a whole number of at least 1.
    """
    _checks.whole_number(k, name="k", at_least=1)
    return rank(history, metric, mode)[:k]
