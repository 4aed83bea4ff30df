"""What each retention rule keeps."""

from __future__ import annotations

import pytest
from policy_records import DAY, GB, HOUR, INF, NAN, checkpoint, kept, losses

from holdfast import policy
from holdfast.errors import PolicyError
from holdfast.policy import (
    KeepAll,
    KeepAnyOf,
    KeepAtMostBytes,
    KeepBest,
    KeepEverySeconds,
    KeepEverySteps,
    KeepLast,
    KeepPinned,
    KeepUnscored,
    KeepWithin,
    Retention,
    plan_prune,
)
from holdfast.values import CheckpointInfo

NOW = 100 * DAY


def at_steps(*steps: int) -> list[CheckpointInfo]:
    """Checkpoints a, b, c, ... at these steps."""
    return [checkpoint(chr(97 + i), step, sequence=i) for i, step in enumerate(steps)]


def at_ages(*ages: float) -> list[CheckpointInfo]:
    """Checkpoints a, b, c, ... saved so many seconds before `NOW`."""
    return [checkpoint(chr(97 + i), i, sequence=i, time=NOW - age) for i, age in enumerate(ages)]


def sized(*sizes: int) -> list[CheckpointInfo]:
    """Checkpoints a, b, c, ... of so many gigabytes."""
    return [checkpoint(chr(97 + i), i, sequence=i, bytes=s * GB) for i, s in enumerate(sizes)]


@pytest.mark.parametrize(
    ("rule", "history", "survivors"),
    [
        pytest.param(KeepAll(), at_steps(1, 2, 3), "abc", id="all"),
        pytest.param(KeepLast(2), at_steps(1, 2, 3, 4), "cd", id="last two"),
        pytest.param(KeepLast(9), at_steps(1, 2), "ab", id="fewer than the limit"),
        pytest.param(KeepLast(2), [], "", id="empty history"),
        pytest.param(
            KeepLast(2),
            [checkpoint("b", 900), checkpoint("c", 10_000), checkpoint("a", 20)],
            "bc",
            id="newest by step, not by name or order of listing",
        ),
        pytest.param(
            KeepLast(2),
            [
                checkpoint("a", 500, branch=0, sequence=0),
                checkpoint("b", 900, branch=0, sequence=1),
                checkpoint("c", 600, branch=1, sequence=2),
            ],
            "bc",
            id="after going back, the new branch is the newest",
        ),
        pytest.param(
            KeepBest(2, "val_loss", mode="min"), losses([2.0, 1.0, 3.0, 4.0]), "abd", id="best two"
        ),
        pytest.param(
            KeepBest(1, "val_loss", mode="max"), losses([2.0, 5.0, 3.0]), "bc", id="higher better"
        ),
        pytest.param(
            KeepBest(1, "val_loss", mode="min"), losses([1.0, 1.0, 9.0]), "bc", id="tie: the later"
        ),
        pytest.param(
            KeepBest(2, "val_loss", mode="min"),
            losses([NAN, 2.0, None, -INF, 3.0, 9.0]),
            "bef",
            id="NaN, missing and infinite never fill a place",
        ),
        pytest.param(
            KeepBest(1, "val_loss", mode="min") | KeepUnscored("val_loss"),
            losses([None, 2.0, NAN, None, 3.0]),
            "abde",
            id="waiting for late scores; NaN is a score",
        ),
        pytest.param(
            KeepEverySteps(1000),
            at_steps(0, 500, 1000, 1500, 2000, 2500),
            "acef",
            id="every multiple, and step 0 where it was saved",
        ),
        pytest.param(
            KeepEverySteps(1000),
            at_steps(250, 750, 1250, 1750, 3250, 3300),
            "cef",
            id="saves beside the multiples: the first after each",
        ),
        pytest.param(
            KeepEverySteps(1000),
            [
                checkpoint("a", 1000, branch=0, sequence=0),
                checkpoint("b", 1500, branch=0, sequence=1),
                checkpoint("c", 1000, branch=1, sequence=2),
                checkpoint("d", 1600, branch=1, sequence=3),
            ],
            "acd",
            id="each branch keeps its own",
        ),
        pytest.param(
            KeepWithin(HOUR),
            at_ages(2 * HOUR, HOUR + 1, HOUR, 10, -50),
            "cde",
            id="within an hour, the limit included, the future too",
        ),
        pytest.param(
            KeepEverySeconds(HOUR),
            at_ages(3 * HOUR, 3 * HOUR - 60, 2 * HOUR, 60, 30),
            "acde",
            id="the first of each hour, for ever",
        ),
        pytest.param(
            KeepEverySeconds(HOUR, within_seconds=DAY)
            | KeepEverySeconds(DAY, within_seconds=30 * DAY),
            at_ages(31 * DAY, 2 * DAY, 2 * DAY - HOUR, 5 * HOUR, 5 * HOUR - 1, 0),
            "bdf",
            id="hourly for a day, daily for a month",
        ),
        pytest.param(
            KeepEverySeconds(HOUR, within_seconds=DAY),
            at_ages(DAY + HOUR, DAY, 0),
            "bc",
            id="the limit of age included",
        ),
        pytest.param(
            KeepPinned(),
            [checkpoint("a", 1, pinned="paper"), checkpoint("b", 2), checkpoint("c", 3)],
            "ac",
            id="pinned",
        ),
        pytest.param(KeepAtMostBytes(5 * GB), sized(1, 2, 1, 2), "bcd", id="newest that fit"),
        pytest.param(
            KeepLast(3) | KeepAtMostBytes(3 * GB), sized(1, 1, 1, 2), "cd", id="a cap on a union"
        ),
        pytest.param(
            KeepLast(3) | KeepAtMostBytes(9 * GB), sized(1, 1, 1, 2), "bcd", id="a cap adds nothing"
        ),
        pytest.param(
            KeepAtMostBytes(4 * GB) | KeepAtMostBytes(2 * GB), sized(1, 1, 1), "bc", id="two caps"
        ),
        pytest.param(
            KeepLast(1) | KeepEverySteps(100) | KeepBest(1, "val_loss", mode="min"),
            [*losses([1.0, 2.0, 3.0]), checkpoint("x", 350), checkpoint("y", 360)],
            "abcy",
            id="a union keeps what any rule keeps",
        ),
    ],
)
def test_survivors(rule: Retention, history: list[CheckpointInfo], survivors: str) -> None:
    """History in, survivors out; the newest always among them."""
    assert kept(plan_prune(history, rule, now=NOW)) == survivors


@pytest.mark.parametrize(
    ("rule", "description"),
    [
        (KeepAll(), "every checkpoint"),
        (KeepLast(1), "the last checkpoint"),
        (KeepLast(5), "the last 5 checkpoints"),
        (
            KeepBest(3, "val_bleu", mode="max"),
            "the 3 best checkpoints by val_bleu (higher is better)",
        ),
        (KeepUnscored("test_bleu"), "every checkpoint that has no test_bleu yet"),
        (KeepEverySteps(10_000), "the first checkpoint at or after every 10000 steps"),
        (KeepEverySeconds(3600, within_seconds=86_400), "one checkpoint in each 1 hour, for 1 day"),
        (KeepEverySeconds(0.5), "one checkpoint in each 0.5 seconds"),
        (KeepWithin(90.0), "every checkpoint no older than 1.5 minutes"),
        (KeepPinned(), "every pinned checkpoint"),
        (KeepAtMostBytes(12_500_000_000), "at most 12.5 GB in total"),
        (
            KeepLast(2) | KeepBest(1, "val_loss", mode="min") | KeepPinned() | KeepAtMostBytes(999),
            "the last 2 checkpoints, the best checkpoint by val_loss (lower is better) and every "
            "pinned checkpoint; at most 999 bytes in total",
        ),
    ],
)
def test_rules_describe_themselves_and_their_repr_makes_them_again(
    rule: Retention, description: str
) -> None:
    """`describe()` is English for people, `repr()` an expression for programs."""
    assert rule.describe() == description
    assert eval(repr(rule), vars(policy)) == rule  # noqa: S307 (the promise under test)


def test_unions_are_flat_and_without_repeats() -> None:
    """However a union was put together, it is the list of its single rules."""
    a, b, c = KeepLast(1), KeepEverySteps(10), KeepPinned()
    assert (a | b) | (c | a) == KeepAnyOf((a, b, c))
    assert repr((a | b) | c) == "KeepLast(1) | KeepEverySteps(10) | KeepPinned()"


@pytest.mark.parametrize(
    "make",
    [
        lambda: KeepLast(0),
        lambda: KeepLast(True),
        lambda: KeepLast(2.0),  # type: ignore[arg-type]
        lambda: KeepBest(0, "val_loss", mode="min"),
        lambda: KeepBest(1, "", mode="min"),
        lambda: KeepBest(1, "val_loss", mode="lowest"),  # type: ignore[arg-type]
        lambda: KeepUnscored(""),
        lambda: KeepEverySteps(0),
        lambda: KeepEverySeconds(0),
        lambda: KeepEverySeconds(NAN),
        lambda: KeepEverySeconds(60, within_seconds=-1),
        lambda: KeepWithin(INF),
        lambda: KeepAtMostBytes(0),
        lambda: KeepAnyOf(()),
        lambda: KeepAnyOf((5,)),  # type: ignore[arg-type]
    ],
)
def test_rules_that_cannot_work_are_refused(make: object) -> None:
    """A rule is checked when it is made, not when it is first needed."""
    with pytest.raises(PolicyError):
        make()  # type: ignore[operator]


def test_only_rules_unite() -> None:
    """A union with anything else is a programming error, as for any operator."""
    with pytest.raises(TypeError):
        KeepLast(1) | 5  # type: ignore[operator]
