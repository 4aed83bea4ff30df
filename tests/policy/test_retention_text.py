"""Retention rules as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import PolicyError
from holdfast.policy import (
    KeepAll,
    KeepAnyOf,
    KeepAtMostBytes,
    KeepBest,
    KeepEMASnapshots,
    KeepEverySeconds,
    KeepEverySteps,
    KeepLast,
    KeepPinned,
    KeepUnscored,
    KeepWithin,
    Retention,
    parse_retention,
)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("all", KeepAll()),
        ("last", KeepLast(1)),
        ("last 5", KeepLast(5)),
        ("best val_bleu max", KeepBest(1, "val_bleu", mode="max")),
        ("best 3 val_bleu max", KeepBest(3, "val_bleu", mode="max")),
        ("best 3 val_loss", KeepBest(3, "val_loss", mode="min")),
        ("every 10000 steps", KeepEverySteps(10_000)),
        ("every hour for 2 days", KeepEverySeconds(3600.0, within_seconds=172_800.0)),
        ("within 1.5 hours", KeepWithin(5400.0)),
        ("pinned", KeepPinned()),
        ("unscored bleu", KeepUnscored("bleu")),
        ("snapshots 40", KeepEMASnapshots(40)),
        ("at most 1.5 GB", KeepAtMostBytes(1_500_000_000)),
        ("Last 2 + best 1 val_loss + at most 2 GiB", None),
    ],
)
def test_rules_are_said_in_words(text: str, rule: Retention | None) -> None:
    """Each rule has a wording; a plus joins them; the direction may be known from the run."""
    parsed = parse_retention(text, {"val_loss": "min"})
    joined = KeepLast(2) | KeepBest(1, "val_loss", mode="min") | KeepAtMostBytes(2 << 30)
    assert parsed == (joined if rule is None else rule)


_COUNTS = st.integers(1, 10**9)
_SPANS = st.floats(0.001, 1e9)
_NAMES = st.text(min_size=1, max_size=30)
_RULES = st.one_of(
    st.just(KeepAll()),
    st.just(KeepPinned()),
    st.builds(KeepLast, _COUNTS),
    st.builds(KeepBest, _COUNTS, _NAMES, mode=st.sampled_from(["min", "max"])),
    st.builds(KeepEverySteps, _COUNTS),
    st.builds(KeepEverySeconds, _SPANS, within_seconds=st.none() | _SPANS),
    st.builds(KeepWithin, _SPANS),
    st.builds(KeepUnscored, _NAMES),
    st.builds(KeepEMASnapshots, _COUNTS),
    st.builds(KeepAtMostBytes, _COUNTS),
)


@given(st.lists(_RULES, min_size=1, max_size=4))
def test_what_a_rule_prints_makes_it_again(rules: list[Retention]) -> None:
    """The text in a manifest gives back the very rule."""
    rule = rules[0]
    for other in rules[1:]:
        rule = rule | other
    assert KeepAnyOf((parse_retention(repr(rule)),)) == KeepAnyOf((rule,))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lots",
        "last five",
        "best 3 val_bleu",
        "last 0",
        "every 5 parsecs",
        "KeepLast(0)",
        "KeepLast(__import__('os'))",
        "KeepMine(3)",
        "KeepLast(5) & KeepAll()",
        "KeepLast(",
        "KeepLast(" + "(" * 500,
        "last 5 + " * 2000,
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    """Nothing is guessed and nothing is run."""
    with pytest.raises(PolicyError):
        parse_retention(text)
