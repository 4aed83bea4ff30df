"""Several models asked as one: means of distributions, members together or one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast import ModelEnsemble
from holdfast.ensemble import require_one_vocabulary
from holdfast.errors import ConfigError, MismatchError


def members(count: int = 3, hidden: int = 5) -> list[nn.Module]:
    """Classifiers of one architecture, features [..., 4] -> logits [..., 6], in eval mode."""
    torch.manual_seed(count)
    return [
        nn.Sequential(nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 6))
        for _ in range(count)
    ]


def asked(ensemble: nn.Module, features: Tensor) -> Tensor:
    """Its answer in eval mode, without gradients."""
    with torch.no_grad():
        answer: Tensor = ensemble.eval()(features)
    return answer


def probabilities(models: list[nn.Module], features: Tensor) -> Tensor:
    """What each member says, float64 [members, n, classes]."""
    with torch.no_grad():
        return torch.stack([m.eval()(features).double().softmax(-1) for m in models])


@pytest.mark.parametrize("vectorise", [True, False])
def test_probabilities_are_averaged(vectorise: bool) -> None:
    """The answer is the logarithm of the mean distribution."""
    models, features = members(), torch.randn(7, 4)
    expected = probabilities(models, features).mean(0)
    ensemble = ModelEnsemble(models, vectorise=vectorise)
    for _ in range(2):
        torch.testing.assert_close(asked(ensemble, features).exp().double(), expected)
    assert ensemble.vectorised is vectorise


@pytest.mark.parametrize("vectorise", [True, False])
def test_log_probabilities_are_averaged_and_normalised_again(vectorise: bool) -> None:
    """The weighted geometric mean sums to one, whatever the weights sum to."""
    models, features = members(2), torch.randn(5, 4)
    logs = probabilities(models, features).log()
    expected = (0.25 * logs[0] + 0.75 * logs[1]).softmax(-1)
    ensemble = ModelEnsemble(
        models, weights=[1, 3], combine="log_probabilities", vectorise=vectorise
    )
    torch.testing.assert_close(asked(ensemble, features).exp().double(), expected)


def test_a_class_that_one_member_rules_out_is_not_ruled_out_by_the_mean() -> None:
    """Means of probabilities survive zeros; a member of weight zero has no say at all."""

    class Says(nn.Module):
        def __init__(self, logits: list[float]) -> None:
            super().__init__()
            self.logits = torch.tensor(logits)

        def forward(self, rows: Tensor) -> Tensor:
            return self.logits.expand(len(rows), -1)

    sure, unsure = Says([0.0, -math.inf]), Says([0.0, 0.0])
    row = torch.zeros(1)
    assert asked(ModelEnsemble([sure, unsure]), row).exp().tolist() == [[0.75, 0.25]]
    without = ModelEnsemble([sure, unsure], weights=[0, 1], combine="log_probabilities")
    assert asked(without, row).exp().tolist() == [[0.5, 0.5]]


def test_members_of_other_architectures_are_asked_one_by_one() -> None:
    """Only the classes must be the same."""
    models, features = [*members(2), *members(1, hidden=9)], torch.randn(3, 4)
    ensemble = ModelEnsemble(models, vectorise=True)
    expected = probabilities(models, features).mean(0)
    torch.testing.assert_close(asked(ensemble, features).exp().double(), expected)
    assert ensemble.vectorised is False


def test_differences_that_shapes_do_not_show_are_found_by_trying() -> None:
    """Members that look alike but compute something else are never run as one."""

    class Scaled(nn.Linear):
        def __init__(self, scale: float) -> None:
            super().__init__(4, 6)
            self.scale = scale

        def forward(self, features: Tensor) -> Tensor:
            return self.scale * super().forward(features)

    models: list[nn.Module] = [Scaled(1.0), Scaled(5.0)]
    features = torch.randn(3, 4)
    ensemble = ModelEnsemble(models, vectorise=True)
    for _ in range(2):
        expected = probabilities(models, features).mean(0)
        torch.testing.assert_close(asked(ensemble, features).exp().double(), expected)
    assert ensemble.vectorised is False


def test_members_run_together_follow_their_own_weights() -> None:
    """Stacked parameters are those of the members: nothing is held twice, changes are seen."""
    models, features = members(2), torch.randn(3, 4)
    ensemble = ModelEnsemble(models, vectorise=True)
    asked(ensemble, features)
    asked(ensemble, features)
    assert ensemble.vectorised
    ensemble.load_state_dict({k: torch.ones_like(v) for k, v in ensemble.state_dict().items()})
    expected = probabilities(models, features).mean(0)
    torch.testing.assert_close(asked(ensemble, features).exp().double(), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": []}, "0 models"),
        ({"weights": [1.0]}, "2 models and 1 weights"),
        ({"weights": [1.0, -1.0]}, "not weights"),
        ({"weights": [0.0, 0.0]}, "not weights"),
        ({"weights": [1.0, math.nan]}, "not weights"),
        ({"combine": "votes"}, "log_probabilities"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    """Each says what is wrong."""
    with pytest.raises(ConfigError, match=message):
        ModelEnsemble(**{"models": members(2), **options})


def test_answers_over_other_classes_are_refused() -> None:
    """Vocabularies of different sizes have no mean."""
    ensemble = ModelEnsemble([nn.Linear(4, 6), nn.Linear(4, 7)])
    with pytest.raises(ConfigError, match=r"\[6, 7\]"):
        ensemble(torch.randn(2, 4))


def test_vocabularies_are_compared_by_content() -> None:
    """Equal sizes do not make equal vocabularies, and the order of words matters."""
    same = {"target": {"pieces": ["<pad>", "a", "b"]}}
    require_one_vocabulary({"one": same, "two": dict(same), "without": {}})
    with pytest.raises(MismatchError, match="target of two"):
        require_one_vocabulary({"one": same, "two": {"target": {"pieces": ["<pad>", "b", "a"]}}})
