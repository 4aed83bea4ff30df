"""What to keep: rules that combine with `|`; `holdfast.policy.retention_rules` has the single ones.

    KeepLast(5) | KeepBest(3, "val_bleu", mode="max") | KeepEverySteps(10_000)
    KeepEverySeconds(3600, within_seconds=86_400)            # hourly for a day
        | KeepEverySeconds(86_400, within_seconds=30 * 86_400)   # daily for a month

A union keeps what any of its rules keeps. `KeepAtMostBytes` in a union is no reason to keep
anything: it caps what the other rules keep (`plan_prune` says how). Rules are frozen, compare by
value, and their `repr` is the expression that makes them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.errors import PolicyError
from holdfast.policy import _checks
from holdfast.policy._text import listing, size
from holdfast.values import CheckpointInfo


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one rule says of one checkpoint; `why` completes a sentence that names the rule."""

    keep: bool
    why: str


class Retention(ABC):
    """A rule of what to keep. `a | b` keeps what either keeps."""

    __slots__ = ()

    @abstractmethod
    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """Judge each checkpoint; the result is parallel to `history`.

        history: committed checkpoints, ascending by `order`. now: seconds since the epoch, UTC.
        """

    @abstractmethod
    def describe(self) -> str:
        """What the rule keeps, in words that complete "keep ..."."""

    def __or__(self, other: Retention) -> Retention:
        if not isinstance(other, Retention):
            return NotImplemented
        return KeepAnyOf((self, other))


@dataclass(frozen=True, slots=True)
class KeepAll(Retention):
    """Keep every checkpoint."""

    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """Keep all of them."""
        return [Judgement(True, "every checkpoint is kept")] * len(history)

    def describe(self) -> str:
        """See `Retention`."""
        return "every checkpoint"


@dataclass(frozen=True, slots=True, repr=False)
class KeepAtMostBytes(Retention):
    """Cap what is kept at `max_bytes` in total; alone it caps `KeepAll`.

    In a union it applies to the whole union: `plan_prune` drops the oldest of what the other rules
    keep until the rest fits, but never the newest, the best of a tracked metric, a pinned or a
    protected checkpoint: these may exceed the cap, and the plan warns when they do. Sizes are
    `CheckpointInfo.bytes`: files shared between checkpoints count each time.
    """

    max_bytes: int

    def __post_init__(self) -> None:
        _checks.whole_number(self.max_bytes, name="max_bytes", at_least=1)

    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """A cap holds on to nothing: each checkpoint is left to the other rules."""
        return [Judgement(False, "a cap is no reason to keep")] * len(history)

    def describe(self) -> str:
        """See `Retention`."""
        return f"at most {size(self.max_bytes)} in total"

    def __repr__(self) -> str:
        return f"KeepAtMostBytes({self.max_bytes})"


@dataclass(frozen=True, slots=True, repr=False)
class KeepAnyOf(Retention):
    """Keep what any of `rules` keeps: `a | b`. Nested unions are flattened, repeats dropped."""

    rules: tuple[Retention, ...]

    def __post_init__(self) -> None:
        flat: list[Retention] = []
        for rule in self.rules:
            if not isinstance(rule, Retention):
                raise PolicyError(f"A union takes retention rules, not {rule!r}")
            parts = rule.rules if isinstance(rule, KeepAnyOf) else (rule,)
            flat.extend(part for part in parts if part not in flat)
        if not flat:
            raise PolicyError("A union needs at least one rule", fix="use KeepAll() to keep all")
        object.__setattr__(self, "rules", tuple(flat))

    def judge(self, history: Sequence[CheckpointInfo], *, now: float) -> list[Judgement]:
        """Keep what any rule keeps: with the reasons of those that do, or of all if none does."""
        columns = [rule.judge(history, now=now) for rule in self.rules]
        return [self._join(row) for row in zip(*columns, strict=True)]

    def _join(self, row: Sequence[Judgement]) -> Judgement:
        keep = any(judgement.keep for judgement in row)
        said = [
            f"{rule!r}: {judgement.why}"
            for rule, judgement in zip(self.rules, row, strict=True)
            if judgement.keep == keep
        ]
        return Judgement(keep, "; ".join(said))

    def describe(self) -> str:
        """See `Retention`."""
        keepers = [rule for rule in self.rules if not isinstance(rule, KeepAtMostBytes)]
        caps = [rule for rule in self.rules if isinstance(rule, KeepAtMostBytes)]
        kept = listing([rule.describe() for rule in keepers or [KeepAll()]])
        return "; ".join([kept, *(rule.describe() for rule in caps)])

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.rules))
