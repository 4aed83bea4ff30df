"""Soups: averages whose members earn their place on a selection set.

Wortsman et al. 2022, "Model soups" (2203.05482), algorithm 1. Where this differs: a member is
accepted on evidence rather than on any increase; the sum is kept exactly, so each file is read once
and the soup that is written is the one that was measured; if no soup beats the best member, the
best member is the result; and a second split may report without having chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from holdfast.policy import Mode
from holdfast.selection.averaging import average
from holdfast.selection.evidence import Accept, Evaluate, Judge, score_of
from holdfast.selection.request import Checkpoint, OnDamage
from holdfast.selection.tasting import (
    Members,
    Prepare,
    Soup,
    SoupTrial,
    Standing,
    tensors_of,
)
from holdfast.weights import RunningMean


def greedy_soup(
    checkpoints: Sequence[Checkpoint],
    model: nn.Module,
    evaluate: Evaluate,
    *,
    accept: Accept = "one-se",
    level: float = 0.05,
    mode: Mode | None = None,
    report: Evaluate | None = None,
    prepare: Prepare | None = None,
    output: Checkpoint | None = None,
    on_damage: OnDamage = "raise",
    on_failure: OnDamage = "raise",
) -> Soup:
    """Grow an average member by member, keeping those that make it better.

    checkpoints: best first, as `top_k` gives them. model: takes on each candidate's weights in turn
    and holds the result at the end; if this raises, it has its own again. evaluate: scores the
    model, in eval mode, on the selection set: statistics per example (`holdfast.stats`), or a
    number with accept="any" and `mode`. accept, level: see `Judge`. report: the same on a second
    split, called for the result and the best member only. prepare: called with the model before
    each evaluation, to measure normalisation statistics anew for instance; it is part of every
    score, but not of what is written. output: write the result there, as `average` does.
    on_damage, on_failure: "exclude" leaves out members that are damaged, or whose evaluation raises
    or returns NaN, and says so.

    The result is never worse than its best member on the selection set.
    Raises ConfigError, EvaluationError, and what `average` raises.
    """
    trial = SoupTrial(model, Judge(accept, level, mode), prepare)
    with trial.restoring():
        members = Members(checkpoints, on_damage, on_failure)
        best = members.first(trial, evaluate)
        mean = RunningMean()
        mean.add(tensors_of(best.state))
        soup = best
        chosen = [best.path]
        for standing in members.rest(trial, evaluate):
            grown = members.grown(mean, chosen, standing)
            outcome = trial.measure(grown, evaluate, f"the soup with {standing.path.name}")
            accepted, reason = trial.judge.accepts(soup.outcome, outcome)
            members.note(standing, outcome, accepted, reason)
            if accepted:
                mean.add(tensors_of(standing.state))
                chosen.append(standing.path)
                soup = Standing(standing.path, outcome, grown)
            if trial.judge.gain(best.outcome, standing.outcome) > 0:
                best = standing
        if trial.judge.gain(best.outcome, soup.outcome) < 0:
            soup, chosen = best, [best.path]
        return _finished(members, trial, chosen, soup, best, report, output)


def uniform_soup(
    checkpoints: Sequence[Checkpoint],
    model: nn.Module,
    evaluate: Evaluate,
    *,
    mode: Mode | None = None,
    report: Evaluate | None = None,
    prepare: Prepare | None = None,
    output: Checkpoint | None = None,
    on_damage: OnDamage = "raise",
    on_failure: OnDamage = "raise",
) -> Soup:
    """Average all members and measure the result beside each of them; see `greedy_soup`.

    It is the average whether or not it is better than its best member: compare the two scores.
    """
    trial = SoupTrial(model, Judge("any", mode=mode), prepare)
    with trial.restoring():
        members = Members(checkpoints, on_damage, on_failure)
        best = members.first(trial, evaluate)
        mean = RunningMean()
        mean.add(tensors_of(best.state))
        grown, chosen = best.state, [best.path]
        for standing in members.rest(trial, evaluate):
            grown = members.grown(mean, chosen, standing)
            mean.add(tensors_of(standing.state))
            chosen.append(standing.path)
            members.note(standing, None, True, "every member is part of it")
            if trial.judge.gain(best.outcome, standing.outcome) > 0:
                best = standing
        outcome = trial.measure(grown, evaluate, "the average of all")
        soup = Standing(chosen[-1], outcome, grown)
        return _finished(members, trial, chosen, soup, best, report, output)


def _finished(
    members: Members,
    trial: SoupTrial,
    chosen: Sequence[Path],
    soup: Standing,
    best: Standing,
    report: Evaluate | None,
    output: Checkpoint | None,
) -> Soup:
    """Report on the second split, write the result, and leave it in the model."""
    scores: list[float | None] = [None, None]
    if report is not None:
        plain = Judge("any", mode=trial.judge.mode or "max")
        second = SoupTrial(trial.model, plain, trial.prepare)
        scores = [
            score_of(second.measure(standing.state, report, f"the second split, {what}"))
            for standing, what in ((soup, "the result"), (best, "the best member"))
        ]
    written = None
    if output is not None:
        written = average(chosen, output, on_damage="raise")
    trial.load(soup.state)
    return Soup(
        members=tuple(chosen),
        score=score_of(soup.outcome),
        best_member=best.path,
        best_member_score=score_of(best.outcome),
        trials=tuple(members.trials),
        excluded=dict(members.excluded),
        report_score=scores[0],
        report_best_member_score=scores[1],
        written=written,
    )
