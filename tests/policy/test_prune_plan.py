"""Every checkpoint of a prune plan stays or goes for a stated reason."""

from __future__ import annotations

import pytest
from policy_records import GB, INF, NAN, checkpoint, kept, losses

from holdfast.errors import PolicyError
from holdfast.policy import (
    KeepAll,
    KeepAtMostBytes,
    KeepBest,
    KeepEverySteps,
    KeepLast,
    KeepPinned,
    Metric,
    default_retention,
    plan_prune,
)

VAL_LOSS = Metric("val_loss", "min")


def test_reasons_name_the_rule_and_what_it_saw() -> None:
    """Each item says which rule decided, with the place or the value that decided it."""
    rule = KeepLast(2) | KeepBest(1, "val_loss", mode="min") | KeepEverySteps(200)
    plan = plan_prune(losses([2.0, 1.0, NAN, 4.0, None]), rule, now=0.0)
    last, best, spaced = "KeepLast(2)", "KeepBest(1, 'val_loss', mode='min')", "KeepEverySteps(200)"
    assert plan.keep == {
        "b": "the best by val_loss (lower is better): 1; "
        f"{best}: val_loss 1 is rank 1 of 3; {spaced}: the first at or after step 200",
        "d": f"{last}: number 2 from the newest; {spaced}: the first at or after step 400",
        "e": f"the newest; {last}: number 1 from the newest",
    }
    assert plan.delete == {
        "a": f"{last}: number 5 from the newest; {best}: val_loss 2 is rank 2 of 3; "
        f"{spaced}: comes before step 200",
        "c": f"{last}: number 3 from the newest; {best}: val_loss is nan, so it is not ranked; "
        f"{spaced}: step 200 already stands for step 200",
    }
    assert plan.warnings == ()


def test_the_newest_stays_under_any_rule() -> None:
    """Keeping only the best does not cost the one to resume from."""
    plan = plan_prune(losses([1.0, 2.0, 3.0]), KeepBest(1, "val_loss", mode="min"), now=0.0)
    assert kept(plan) == "ac"
    assert plan.keep["c"] == "the newest"


def test_the_best_of_each_tracked_metric_stays_under_any_rule() -> None:
    """Metrics that the run tracks protect their best even if the rule does not rank."""
    history = [
        checkpoint("a", 1, metrics={"val_loss": 1.0, "bleu": 20.0}),
        checkpoint("b", 2, metrics={"val_loss": 2.0, "bleu": 30.0}),
        checkpoint("c", 3, metrics={"val_loss": 3.0, "bleu": 10.0}),
        checkpoint("d", 4),
    ]
    plan = plan_prune(history, KeepLast(1), now=0.0, tracked=[VAL_LOSS, Metric("bleu", "max")])
    assert kept(plan) == "abd"
    assert plan.keep["a"] == "the best by val_loss (lower is better): 1"
    assert plan.keep["b"] == "the best by bleu (higher is better): 30"


def test_pinned_and_protected_stay_under_any_rule() -> None:
    """A pin is for good; protection lasts as long as its reason. Both are named."""
    history = [checkpoint(id, step) for step, id in enumerate("bcd", start=2)]
    history.append(checkpoint("a", 1, pinned="for the paper"))
    plan = plan_prune(
        history, KeepLast(1), now=0.0, protected={"b": "being read", "gone": "being read"}
    )
    assert plan.keep == {
        "a": "pinned: for the paper",
        "b": "protected: being read",
        "d": "the newest; KeepLast(1): number 1 from the newest",
    }
    assert list(plan.delete) == ["c"]


def test_a_cap_drops_the_oldest_but_never_what_always_stays() -> None:
    """Over the cap the oldest go first; what always stays may exceed it, with a warning."""
    history = [
        checkpoint("a", 1, metrics={"val_loss": 1.0}),
        checkpoint("b", 2, pinned="demo"),
        checkpoint("c", 3),
        checkpoint("d", 4),
        checkpoint("e", 5, metrics={"val_loss": 9.0}),
    ]
    rule = KeepAll() | KeepAtMostBytes(4 * GB)
    plan = plan_prune(history, rule, now=0.0, tracked=[VAL_LOSS])
    assert kept(plan) == "abde"
    assert plan.delete["c"] == (
        "KeepAtMostBytes(4000000000): with this one 5 GB would be kept, "
        "and it is the oldest that may go"
    )
    assert plan.warnings == ()

    tight = plan_prune(history, KeepAtMostBytes(2 * GB), now=0.0, tracked=[VAL_LOSS])
    assert kept(tight) == "abe"
    assert tight.warnings == (
        "KeepAtMostBytes(2000000000) is exceeded: the checkpoints that always stay take 3 GB "
        "(the newest, the best, pinned and protected ones).",
    )


def test_a_rule_that_only_ranks_by_an_unknown_metric_deletes_nothing() -> None:
    """A misspelt metric costs disk space, not checkpoints, and is pointed out."""
    plan = plan_prune(losses([1.0, 2.0]), KeepBest(1, "val_los", mode="min"), now=0.0)
    assert kept(plan) == "ab"
    assert plan.keep["a"] == (
        "KeepBest(1, 'val_los', mode='min') cannot tell which are good, so all are kept"
    )
    assert plan.warnings == (
        "No checkpoint has a finite value of 'val_los', so none is best; recorded are val_loss.",
    )


@pytest.mark.parametrize("values", [[None] * 4, [NAN] * 4, [INF, -INF, NAN, None]])
def test_an_unranked_metric_does_not_stop_rotation(values: list[float | None]) -> None:
    """If another rule keeps something, that rule goes on working; the warning remains."""
    plan = plan_prune(losses(values), default_retention(1, [VAL_LOSS]), now=0.0)
    assert kept(plan) == "d"
    assert len(plan.warnings) == 1


def test_default_retention_keeps_the_best_besides_the_limit() -> None:
    """save_total_limit counts rotated checkpoints; the best of each metric is extra."""
    rule = default_retention(2, [VAL_LOSS, Metric("bleu", "max")])
    assert rule == (
        KeepLast(2) | KeepBest(1, "val_loss", mode="min") | KeepBest(1, "bleu", mode="max")
    )
    assert kept(plan_prune(losses([1.0, 5.0, 4.0, 3.0]), rule, now=0.0)) == "acd"
    assert default_retention() == KeepLast(5)
    assert default_retention(None, [VAL_LOSS]) == KeepAll()


@pytest.mark.parametrize("limit", [0, -1, True, 2.5])
def test_a_limit_that_could_mean_all_or_none_is_refused(limit: object) -> None:
    """To keep all, say None."""
    with pytest.raises(PolicyError, match="save_total_limit") as refusal:
        default_retention(limit)  # type: ignore[arg-type]
    assert refusal.value.fix == "use None to keep every checkpoint"


def test_an_empty_history_gives_an_empty_plan() -> None:
    """A run without checkpoints has nothing to keep, delete or warn about."""
    plan = plan_prune([], default_retention(5, [VAL_LOSS]), now=0.0, protected={"x": "read"})
    assert (plan.keep, plan.delete, plan.warnings) == ({}, {}, ())


def test_plans_list_the_oldest_first() -> None:
    """Deletion in the order of the plan removes the oldest first, whatever order was given."""
    history = list(reversed(losses([1.0, 2.0, 3.0, 4.0])))
    assert list(plan_prune(history, KeepLast(1), now=0.0).delete) == ["a", "b", "c"]
    assert list(plan_prune(history, KeepPinned() | KeepLast(3), now=0.0).keep) == ["b", "c", "d"]


def test_histories_and_times_that_cannot_be_are_refused() -> None:
    """Two records with one id, or a time that is not finite, are a caller's error."""
    with pytest.raises(PolicyError, match="same id"):
        plan_prune([checkpoint("a", 1), checkpoint("a", 2)], KeepAll(), now=0.0)
    with pytest.raises(PolicyError, match="now must be a finite number"):
        plan_prune([], KeepAll(), now=NAN)
