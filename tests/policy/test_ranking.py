"""Which checkpoint is better."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_records import INF, NAN, STEADY, checkpoint, ids, losses

from holdfast.errors import ConfigError, PolicyError
from holdfast.policy import Metric, best, rank, top_k


@pytest.mark.parametrize(
    ("values", "lower_is_better", "higher_is_better"),
    [
        pytest.param([], "", "", id="no checkpoint"),
        pytest.param([3.0, 1.0, 2.0], "bca", "acb", id="plain"),
        pytest.param([1.0, 1.0, 1.0], "cba", "cba", id="ties go to the later one"),
        pytest.param([2.0, 1.0, 2.0, 1.0], "dbca", "cadb", id="ties at both ends"),
        pytest.param([NAN, 2.0, NAN, 1.0], "db", "bd", id="NaN first does not stick"),
        pytest.param([2.0, 1.0, NAN], "ba", "ab", id="NaN last does not win"),
        pytest.param([None, 2.0, None], "b", "b", id="missing is not zero"),
        pytest.param([INF, 2.0, -INF, 1.0], "db", "bd", id="infinities are not ranked"),
        pytest.param([NAN, None, INF], "", "", id="nothing to rank"),
        pytest.param([0.0, -0.0], "ba", "ba", id="zeros of either sign tie"),
    ],
)
def test_ranking_table(
    values: list[float | None], lower_is_better: str, higher_is_better: str
) -> None:
    """Finite values are ranked in the direction asked for, ties later first; others never are."""
    history = losses(values)
    assert ids(rank(history, "val_loss", "min")) == lower_is_better
    assert ids(rank(history, "val_loss", "max")) == higher_is_better


def test_later_means_by_branch_then_step_then_commit() -> None:
    """Among equals the later is the one further on in the run, not the one with the later time."""
    same = {"val_loss": 1.0}
    history = [
        checkpoint("d", 50, branch=1, sequence=3, time=0.0, metrics=same),
        checkpoint("a", 900, branch=0, sequence=0, time=9.0, metrics=same),
        checkpoint("c", 1000, branch=0, sequence=2, time=7.0, metrics=same),
        checkpoint("b", 1000, branch=0, sequence=1, time=8.0, metrics=same),
    ]
    assert ids(rank(history, "val_loss", "min")) == "dcba"


def test_best_is_the_first_of_the_ranking_or_none() -> None:
    """Where no checkpoint can be ranked, there is no best."""
    winner = best(losses([2.0, 1.0, NAN]), "val_loss", "min")
    assert winner is not None
    assert winner.id == "b"
    assert best(losses([None, NAN, -INF]), "val_loss", "min") is None


def test_top_k_gives_fewer_when_fewer_are_ranked() -> None:
    """Checkpoints that cannot be ranked never fill up the top k."""
    assert ids(top_k(losses([3.0, NAN, 1.0, 2.0, None]), "val_loss", "min", 2)) == "cd"
    assert ids(top_k(losses([3.0, NAN, 1.0, 2.0, None]), "val_loss", "min", 9)) == "cda"


@pytest.mark.parametrize("mode", ["maximum", "MIN", "", None, 1])
def test_a_wrong_mode_is_refused(mode: object) -> None:
    """The direction is min or max and is never guessed; the refusal says which means what."""
    with pytest.raises(PolicyError, match="'min' or 'max'") as refusal:
        rank([], "val_loss", mode)  # type: ignore[arg-type]
    assert isinstance(refusal.value, ConfigError)
    assert refusal.value.fix is not None
    assert "lower is better" in refusal.value.fix


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_metric_needs_a_name(name: object) -> None:
    """A metric without a name is refused."""
    with pytest.raises(PolicyError, match="named by a string"):
        Metric(name, "min")  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_k_must_be_a_positive_whole_number(k: object) -> None:
    """top_k refuses what is no count."""
    with pytest.raises(PolicyError, match="k must be a whole number"):
        top_k([], "val_loss", "min", k)  # type: ignore[arg-type]


@settings(STEADY)
@given(
    values=st.lists(st.none() | st.floats() | st.sampled_from([1.0, 2.0]), max_size=12).flatmap(
        lambda values: st.permutations(losses(values))
    )
)
def test_the_order_of_the_history_does_not_matter(values: list[object]) -> None:
    """The ranking depends on the records, not on the order in which they were found."""
    history = sorted(values, key=lambda info: info.order)  # type: ignore[attr-defined]
    assert rank(values, "val_loss", "min") == rank(history, "val_loss", "min")  # type: ignore[arg-type]
