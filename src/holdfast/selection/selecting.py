"""The recommended workflow as one call: candidates, test set, comparison, recommendation.

The practice it follows: the best single checkpoint by each metric, the average of the last or best
few (Vaswani et al. 2017, 1706.03762, section 6.1), an EMA and an ensemble, compared on a test set
that chose none of them. What is claimed of the differences: `holdfast.stats`.
"""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import nn

from holdfast.engine.catalog import read_catalog
from holdfast.errors import CheckpointNotFoundError, ConfigError
from holdfast.selection.costs import Cost, costs_of
from holdfast.selection.evaluation import (
    Evaluation,
    evaluation_of,
    identity_of,
    request_of,
)
from holdfast.selection.evidence import EvaluationError
from holdfast.selection.recommending import recommend
from holdfast.selection.request import Checkpoint, OnDamage
from holdfast.selection.scores import ScoreCache
from holdfast.selection.scoring import Scored, Scoring
from holdfast.selection.selected import SELECTION_FOLDER, Row, Selection
from holdfast.selection.strategies import DEFAULT_STRATEGIES, Ground, candidates_of
from holdfast.stats import BestOf, SufficientStatistics, best_of, compare_to_baseline
from holdfast.storage import LocalRun

RESAMPLES = 1000


def select_model(
    run: Checkpoint,
    evaluate_test: Evaluation | Callable[[nn.Module], SufficientStatistics],
    *,
    model: nn.Module | None = None,
    strategies: Sequence[str] = DEFAULT_STRATEGIES,
    baseline: str | None = None,
    level: float = 0.05,
    seed: int = 0,
    on_failure: OnDamage = "exclude",
    save: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Selection:
    """Score every way to get a model out of a run on the test set, compare, and recommend.

    run: a run folder, finished or still being written. evaluate_test: an `Evaluation`, or a
    function that scores a model, copies of `model` then taking on the candidates' weights. It must
    return statistics per example (`holdfast.stats`), of a test set that has chosen nothing yet.
    strategies: see `holdfast.selection.strategies`; candidates of equal weights are scored and
    listed once. baseline: the candidate all others are compared with, by default the best single
    checkpoint by the deciding metric. level: of every claim. seed: of every resampling.
    on_failure: "exclude" goes on without candidates that cannot be read, built or scored, and says
    so; "raise" does not. save: write the outcome to `<run>/selection/`, for the report. progress:
    told in a sentence what is being done.

    Each candidate is scored once; with an `identity` of the evaluation the scores are kept in
    `<run>/selection/scores/`, so that a second call is quick. The chosen one is written by
    `write_chosen`. Memory: the models of one candidate at a time.

    Raises CheckpointNotFoundError if there is no checkpoint, ConfigError for options that cannot
    work, EvaluationError if no candidate could be scored.
    """
    evaluation = evaluation_of(evaluate_test, model)
    folder = Path(run)
    cache = ScoreCache(folder / SELECTION_FOLDER / "scores", identity_of(evaluation))
    scoring = Scoring(evaluation, cache, on_failure=on_failure, tell=progress or (lambda _: None))
    scored = _scored(scoring, _ground(folder), strategies)
    costs, notes = _costs(scoring, evaluation, scored)
    statistics = {one.candidate.name: one.statistics for one in scored}
    against = _baseline(scored, baseline)
    best = best_of(statistics, level=level, resamples=RESAMPLES, seed=seed)
    selection = Selection(
        run=folder,
        rows=_rows(scored, against, best, costs),
        baseline=against,
        best=best,
        recommendations=recommend(statistics, costs, best, resamples=RESAMPLES),
        excluded=scoring.excluded,
        notes=(*notes, *scoring.notes(), *_left_out(scored)),
        identity=identity_of(evaluation),
        time=clock.time(),
    )
    if save:
        selection.save()
    return selection


def _scored(scoring: Scoring, ground: Ground, strategies: Sequence[str]) -> list[Scored]:
    candidates, without = candidates_of(ground, strategies)
    for text, error in without.items():
        scoring.leave_out(text, error)
    return scoring.score(scoring.identify(candidates))


def _ground(run: Path) -> Ground:
    if not run.is_dir():
        raise CheckpointNotFoundError("There is no such run folder", where=str(run))
    catalog = read_catalog(LocalRun(run))
    if not catalog.entries:
        raise CheckpointNotFoundError(
            "The run folder holds no checkpoint", where=str(run), fix="give the folder of a run"
        )
    return Ground(run, catalog)


def _baseline(scored: Sequence[Scored], given: str | None) -> str:
    """The baseline's own name. Raises ConfigError if no candidate is called that."""
    if given is None:
        singles = [one for one in scored if one.candidate.candidate.kind == "checkpoint"]
        return (singles or scored)[0].candidate.name
    for one in scored:
        if given == one.candidate.name or given in one.candidate.also:
            return one.candidate.name
    raise ConfigError(
        f"The baseline {given!r} is not among the candidates that were scored",
        fix=f"use one of {', '.join(one.candidate.name for one in scored)}",
    )


def _rows(
    scored: Sequence[Scored], baseline: str, best: BestOf, costs: Mapping[str, Cost]
) -> tuple[Row, ...]:
    statistics = {one.candidate.name: one.statistics for one in scored}
    compared = compare_to_baseline(statistics, baseline, resamples=RESAMPLES, seed=best.seed)
    by_name = {one.candidate.name: one for one in scored}
    return tuple(
        Row(
            candidate=by_name[standing.name].candidate,
            standing=standing,
            comparison=compared.get(standing.name),
            cost=costs[standing.name],
            cached=by_name[standing.name].cached,
        )
        for standing in best.standings
    )


def _costs(
    scoring: Scoring, evaluation: Evaluation, scored: Sequence[Scored]
) -> tuple[dict[str, Cost], list[str]]:
    """Costs, without latencies and with a note if a request cannot be timed."""
    found = [one.candidate for one in scored]
    request = request_of(evaluation)
    try:
        return costs_of(found, scoring.empty, scoring.built, request), []
    except EvaluationError as error:
        note = f"latency was not measured: {error.what}"
        return costs_of(found, scoring.empty, scoring.built, None), [note]


def _left_out(scored: Sequence[Scored]) -> list[str]:
    return [
        f"{one.candidate.name} is without {Path(path).name}: {why}"
        for one in scored
        for path, why in one.candidate.excluded.items()
    ]
