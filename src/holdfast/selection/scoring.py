"""Candidates on the test set, each once: from the scores on disk where they are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from holdfast.errors import DamagedError, HoldfastError, LoadError
from holdfast.selection.candidates import Candidate, Identified, identify, merged
from holdfast.selection.evaluation import Evaluation, checked, joined
from holdfast.selection.evidence import EvaluationError
from holdfast.selection.request import OnDamage
from holdfast.selection.scores import ScoreCache
from holdfast.selection.state import fitted
from holdfast.stats import SufficientStatistics, require_comparable

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Scored:
    """A candidate with its statistics. cached: they were on disk."""

    candidate: Identified
    statistics: SufficientStatistics
    cached: bool


class Scoring:
    """One test set and what was found on it. excluded: why a candidate was left out, by name.

    on_failure: "exclude" goes on without candidates that cannot be read, built or scored.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        cache: ScoreCache,
        *,
        on_failure: OnDamage,
        tell: Tell,
    ) -> None:
        self._evaluation = evaluation
        self._cache = cache
        self._on_failure = on_failure
        self._tell = tell
        self.excluded: dict[str, str] = {}
        self._unkept = False

    def identify(self, candidates: Sequence[Candidate]) -> list[Identified]:
        """The candidates that can be opened, those of equal weights as one."""
        found: list[Identified] = []
        for candidate in candidates:
            try:
                found.append(identify(candidate, self._on_failure))
            except HoldfastError as error:
                self.leave_out(candidate.name, error)
        return merged(found)

    def score(self, found: Sequence[Identified]) -> list[Scored]:
        """Those that can be scored, with their statistics, in order.

        Raises EvaluationError if none can be, ConfigError if two are not comparable.
        """
        scored: list[Scored] = []
        for one in found:
            try:
                scored.append(self._scored(one))
            except HoldfastError as error:
                self.leave_out(one.name, error)
        if not scored:
            reasons = "; ".join(f"{name}: {why}" for name, why in self.excluded.items())
            raise EvaluationError(
                f"No candidate could be scored: {reasons or 'there are none'}",
                fix="see to the evaluation or the checkpoints",
            )
        require_comparable({one.candidate.name: one.statistics for one in scored})
        return scored

    def empty(self, one: Identified) -> list[nn.Module]:
        """A model for each configuration of the candidate, without its weights."""
        models = []
        for config in one.config_values():
            model = self._run(self._evaluation.build, config, one)
            if not isinstance(model, nn.Module):
                raise EvaluationError(
                    f"The evaluation built a {type(model).__name__}, not a torch module",
                    where=one.name,
                )
            models.append(model)
        return models

    def built(self, one: Identified) -> Any:
        """The candidate as a model in eval mode, its weights proven while they were read."""
        models = self.empty(one)
        for model, state in zip(models, one.states(), strict=True):
            model.load_state_dict(fitted(state, model))
            model.eval()
        if len(models) == 1:
            return models[0]
        whole = joined(self._evaluation, models)
        return whole.eval() if isinstance(whole, nn.Module) else whole

    def _scored(self, one: Identified) -> Scored:
        kept = self._cache.get(one.digest)
        if kept is not None:
            self._tell(f"{one.name}: {kept.score:.4g}, as scored before")
            return Scored(one, kept, cached=True)
        self._tell(f"{one.name}: being scored")
        one, model = self._readable(one)
        with torch.no_grad():
            statistics = checked(self._run(self._evaluation.evaluate, model, one), one.name)
        self._unkept |= not self._cache.put(one.digest, statistics)
        self._tell(f"{one.name}: {statistics.score:.4g}")
        return Scored(one, statistics, cached=False)

    def _readable(self, one: Identified) -> tuple[Identified, Any]:
        """The built candidate; without members whose bytes turn out to be damaged."""
        while True:
            try:
                return one, self.built(one)
            except LoadError as error:
                left = self._left(one, error)
                if left is None:
                    raise
                one = left

    def _left(self, one: Identified, error: LoadError) -> Identified | None:
        """The candidate without its damaged member; None if that cannot be."""
        if self._on_failure == "raise" or not isinstance(error, DamagedError):
            return None
        bad = [path for path in one.paths if str(path.resolve()) in (error.where or "")]
        if len(bad) != 1 or len(one.paths) < 3:
            return None
        self._tell(f"{one.name}: goes on without {bad[0].name}")
        return one.without(bad[0], str(error))

    def _run(self, function: Callable[[Any], object], argument: Any, one: Identified) -> Any:
        try:
            return function(argument)
        except Exception as error:
            what = getattr(function, "__name__", "evaluation")
            raise EvaluationError(
                f"The evaluation failed in {what}: {type(error).__name__}: {error}",
                where=one.name,
                fix="correct it; the other candidates do not depend on this one",
            ) from error

    def notes(self) -> list[str]:
        """What to know of the scores on disk."""
        if not self._cache.keeps:
            return ["scores are not kept: the evaluation has no identity"]
        if self._unkept:
            return ["some scores are not kept: their aggregate is not one of holdfast's"]
        return []

    def leave_out(self, name: str, error: HoldfastError) -> None:
        """Go on without a candidate, or raise if that is not wanted."""
        if self._on_failure == "raise":
            raise error
        self.excluded[name] = str(error)
        self._tell(f"{name}: left out: {error.what}")
