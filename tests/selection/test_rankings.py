"""Rankings: ties and exclusions named, constraints, Pareto sets, smoothing."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selection_helpers import info

from holdfast.errors import PolicyError
from holdfast.policy import Metric
from holdfast.selection import Constraint, pareto_set, rank_checkpoints, smoothed


def names(infos: object) -> list[str]:
    """Their names."""
    return [item.name for item in infos]  # type: ignore[attr-defined]


def test_best_first_with_ties_named_and_the_rest_explained() -> None:
    """Equal values: the later first, and each names the others. NaN and missing never rank."""
    history = [
        info(1, loss=2.0),
        info(2, loss=1.0),
        info(3, loss=math.nan),
        info(4, loss=1.0),
        info(5),
        info(6, loss=-math.inf),
    ]
    ranking = rank_checkpoints(history, "loss", "min")
    assert names(ranking.infos) == ["step4", "step2", "step1"]
    assert [place.tied_with for place in ranking.places] == [("step2",), ("step4",), ()]
    assert ranking.excluded == {
        "step3": "loss is nan, not finite",
        "step5": "loss is missing",
        "step6": "loss is -inf, not finite",
    }


def test_constraints_bound_what_qualifies() -> None:
    """The lowest loss subject to a BLEU of at least 30; who fails is told by how much."""
    history = [info(1, loss=1.0, bleu=29.0), info(2, loss=1.5, bleu=30.0), info(3, loss=0.5)]
    ranking = rank_checkpoints(history, "loss", "min", subject_to=["bleu >= 30"])
    assert names(ranking.infos) == ["step2"]
    assert ranking.excluded == {"step1": "bleu is 29, not >= 30", "step3": "bleu is missing"}
    assert not rank_checkpoints(history, "loss", "min", subject_to=["bleu > 99"]).places


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("val_bleu >= 30", Constraint("val_bleu", ">=", 30.0)),
        ("val_loss<2e-1", Constraint("val_loss", "<", 0.2)),
        ("val loss <= -1", Constraint("val loss", "<=", -1.0)),
    ],
)
def test_constraints_are_read_from_text(text: str, parsed: Constraint) -> None:
    """A metric, a comparison, a number."""
    assert Constraint.parse(text) == parsed


@pytest.mark.parametrize("text", ["", "bleu", "bleu = 3", ">= 3", "bleu >= x", "bleu >= nan"])
def test_text_that_is_no_constraint_is_refused(text: str) -> None:
    """With an example of how to write one."""
    with pytest.raises(PolicyError, match="no constraint"):
        Constraint.parse(text)


def test_a_metric_that_nobody_has_is_an_error_that_names_those_there_are() -> None:
    """Most likely it is misspelt; a ranking of nothing would hide that."""
    history = [info(1, val_loss=1.0), info(2, val_loss=2.0, bleu=math.nan)]
    for call in (
        lambda: rank_checkpoints(history, "loss", "min"),
        lambda: rank_checkpoints(history, "bleu", "max"),
        lambda: rank_checkpoints(history, "val_loss", "min", subject_to=["blue > 1"]),
        lambda: pareto_set(history, [Metric("val_loss", "min"), Metric("bleu", "max")]),
        lambda: rank_checkpoints([], "val_loss", "min"),
    ):
        with pytest.raises(PolicyError, match="has a finite value"):
            call()


def test_directions_and_windows_that_cannot_work_are_refused() -> None:
    """A wrong mode or an even window is an error, not a guess."""
    history = [info(1, loss=1.0)]
    with pytest.raises(PolicyError):
        rank_checkpoints(history, "loss", "lower")  # type: ignore[arg-type]
    for window in (0, 2, -1, True):
        with pytest.raises(PolicyError, match="smooth"):
            rank_checkpoints(history, "loss", "min", smooth=window)
    with pytest.raises(PolicyError):
        pareto_set(history, [])


def test_smoothing_ranks_a_lucky_outlier_by_its_neighbours() -> None:
    """One good validation between bad ones is noise; the means decide, the raw value is kept."""
    history = [info(s, loss=v) for s, v in enumerate([5.0, 1.0, 5.0, 2.0, 2.0, 2.0])]
    assert names(rank_checkpoints(history, "loss", "min").infos)[0] == "step1"
    ranking = rank_checkpoints(history, "loss", "min", smooth=3)
    assert names(ranking.infos)[0] == "step5"
    assert next(p for p in ranking.places if p.info.name == "step1").raw == 1.0


def test_smoothing_does_not_cross_branches_or_invent_values() -> None:
    """Neighbours are those of the same branch; a checkpoint without a value gets none."""
    history = [info(1, loss=1.0), info(2), info(3, loss=3.0), info(2, branch=1, loss=100.0)]
    means = smoothed(history, "loss", 3)
    assert means == {"0-1": 2.0, "0-3": 2.0, "1-2": 100.0}


def test_the_pareto_set_is_what_nothing_beats() -> None:
    """A checkpoint drops out only if another is at least as good in all and better in one."""
    history = [
        info(1, loss=1.0, bleu=20.0),
        info(2, loss=2.0, bleu=30.0),
        info(3, loss=2.0, bleu=20.0),
        info(4, loss=2.0, bleu=30.0),
        info(5, loss=0.1),
    ]
    found = pareto_set(history, [Metric("loss", "min"), Metric("bleu", "max")])
    assert names(found.front) == ["step1", "step2", "step4"]
    assert set(found.dominated) == {"step3"}
    assert found.excluded == {"step5": "bleu is missing"}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_every_checkpoint_is_on_the_front_or_beaten_by_one_that_is_no_worse(
    points: list[tuple[int, int]],
) -> None:
    """The two sets are a partition, and each reason given is true."""
    history = [info(i, a=float(a), b=float(b)) for i, (a, b) in enumerate(points)]
    found = pareto_set(history, [Metric("a", "min"), Metric("b", "max")])
    assert sorted([*names(found.front), *found.dominated]) == sorted(names(history))
    by_name = {item.name: item.metrics for item in history}
    for loser, winner in found.dominated.items():
        one, other = by_name[winner], by_name[loser]
        assert one["a"] <= other["a"]
        assert one["b"] >= other["b"]
        assert one != other


def test_ranking_needs_no_torch() -> None:
    """The command line ranks without the wait of importing it."""
    code = (
        "import sys\n"
        "from holdfast.selection import rank_checkpoints, top_k, last_k, spaced, pareto_set\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
