"""Retention for averages that are to be reconstructed after training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.policy import _checks
from holdfast.policy.retention import Judgement, Retention
from holdfast.policy.retention_rules import KeepEverySteps
from holdfast.values import CheckpointInfo


@dataclass(frozen=True, slots=True, repr=False)
class KeepEMASnapshots(Retention):
    """Keep at least `n` checkpoints evenly spaced over the run so far, and at most 2 n.

    For runs whose averages are reconstructed afterwards: `holdfast.decay.plan_snapshots` says what
    n a wanted accuracy needs. The length of the run need not be known: the spacing is a power of
    two and doubles as the run grows, and what a wider spacing keeps, the narrower one had kept.
    Fewer are there only while fewer were saved. Where the length is known, `KeepEverySteps` is as
    good.
    """

    n: int

    def __post_init__(self) -> None:
        _checks.whole_number(self.n, name="KeepEMASnapshots n", at_least=1)

    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """Keep the first at or after each multiple of the spacing."""
        length = max((info.global_step for info in history), default=0)
        spacing = 1
        while length // (2 * spacing) >= self.n:
            spacing *= 2
        return KeepEverySteps(spacing).judge(history, now=now)

    def describe(self) -> str:
        """See `Retention`."""
        return f"{self.n} to {2 * self.n} snapshots evenly spaced over the run"

    def __repr__(self) -> str:
        return f"KeepEMASnapshots({self.n})"
