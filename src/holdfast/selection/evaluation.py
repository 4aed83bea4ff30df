"""How candidates are built and scored: what `select_model` asks of its caller."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from holdfast.ensemble import ModelEnsemble
from holdfast.errors import ConfigError
from holdfast.selection.evidence import EvaluationError
from holdfast.stats import SufficientStatistics


@runtime_checkable
class Evaluation(Protocol):
    """A test set and how to score a model on it.

    It may have three attributes more. identity: a text that changes whenever scores might, such as
    the digest of the test set with the settings of the search; scores are kept on disk under it,
    and not at all without it. ensemble(models): the model that stands for several of them, by
    default `holdfast.ensemble.ModelEnsemble`. request(model): one request as it will be served, to
    be timed.
    """

    def build(self, config: Any) -> nn.Module:
        """An untrained model for a checkpoint's `model_config` (None where it has none)."""
        ...

    def evaluate(self, model: Any) -> SufficientStatistics:
        """Score a model, in eval mode and without gradients: statistics per test example."""
        ...


@dataclass(frozen=True)
class PlainEvaluation:
    """A bare function as an `Evaluation`; every candidate gets a copy of `model`."""

    model: nn.Module
    function: Callable[[nn.Module], SufficientStatistics]
    identity: str | None = None

    def build(self, config: Any) -> nn.Module:
        """A copy of the model; the configuration is not looked at."""
        return copy.deepcopy(self.model)

    def evaluate(self, model: Any) -> SufficientStatistics:
        """Call the function."""
        return self.function(model)


def evaluation_of(
    evaluate: Evaluation | Callable[[nn.Module], SufficientStatistics], model: nn.Module | None
) -> Evaluation:
    """What the caller gave, as an `Evaluation`. Raises ConfigError if it cannot be one."""
    if isinstance(evaluate, Evaluation):
        if model is not None:
            raise ConfigError(
                "Both a model and an evaluation that builds models were given",
                fix="leave out model=, or give the evaluation as a function",
            )
        return evaluate
    if not callable(evaluate):
        raise ConfigError(
            f"The evaluation is a {type(evaluate).__name__}, which cannot score a model",
            fix="give an object with build(config) and evaluate(model), or a function and model=",
        )
    if model is None:
        raise ConfigError(
            "An evaluation that is a function needs a model to put the candidates' weights into",
            fix="pass model=, or an object with build(config) and evaluate(model)",
        )
    return PlainEvaluation(model, evaluate, getattr(evaluate, "identity", None))


def identity_of(evaluation: Evaluation) -> str | None:
    """What scores are kept under, None if they are not. Raises ConfigError if it is no text."""
    identity = getattr(evaluation, "identity", None)
    if identity is not None and not (isinstance(identity, str) and identity.strip()):
        raise ConfigError(
            f"The identity of the evaluation is {identity!r}",
            fix="make it a text that changes whenever scores might, or None",
        )
    return identity


def joined(evaluation: Evaluation, models: Sequence[nn.Module]) -> Any:
    """The ensemble of several models, as the evaluation wants it."""
    own = getattr(evaluation, "ensemble", None)
    return ModelEnsemble(models) if own is None else own(models)


def request_of(evaluation: Evaluation) -> Callable[[Any], object] | None:
    """What to time, raising EvaluationError; None if the evaluation has nothing of the kind."""
    own: Callable[[Any], object] | None = getattr(evaluation, "request", None)
    if own is None:
        return None

    def request(model: Any) -> object:
        try:
            return own(model)
        except Exception as error:
            raise EvaluationError(
                f"The evaluation failed in request: {type(error).__name__}: {error}"
            ) from error

    return request


def checked(outcome: object, what: str) -> SufficientStatistics:
    """The statistics. Raises EvaluationError for anything else."""
    if isinstance(outcome, SufficientStatistics):
        return outcome
    raise EvaluationError(
        f"The evaluation returned a {type(outcome).__name__}, from which no difference can be "
        "tested",
        where=what,
        fix="return statistics per example: holdfast.stats.mean_scores(...), or bleu and chrf",
    )
