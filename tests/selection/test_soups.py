"""Soups: accepted on evidence, never worse than the best member, as written as measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from selection_helpers import damage, save_run, states
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager, greedy_soup, uniform_soup
from holdfast.errors import ConfigError, DamagedError, LoadError
from holdfast.selection import EvaluationError, average_state
from holdfast.selection.evidence import Accept
from holdfast.stats import SufficientStatistics, mean_scores

RULES: tuple[Accept, ...] = ("one-se", "paired", "any")
TARGET = torch.tensor([1.0, -1.0, 0.5, 2.0])


class Point(nn.Module):
    """Four weights, a counter, and dropout that evaluation must not see."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(values.clone())
        self.tied = self.weight
        self.drop = nn.Dropout(0.5)
        self.register_buffer("steps", torch.tensor(0))


def save_points(folder: Path, points: list[Tensor]) -> list[Path]:
    """One checkpoint for each point."""
    model = Point(points[0])
    manager = CheckpointManager(
        CheckpointConfig(str(folder), save_total_limit=None, progress=False, provenance=False),
        model,
    )
    paths = []
    for step, point in enumerate(points):
        with torch.no_grad():
            model.weight.copy_(point)
        path = manager.save(step, step)
        assert path is not None
        paths.append(path)
    return paths


def points(*noise: float) -> list[Tensor]:
    """Points around the target, each off in a direction of its own."""
    generator = torch.Generator().manual_seed(1)
    return [TARGET + n * torch.randn(4, generator=generator) for n in noise]


def losses(model: nn.Module, seed: int = 0) -> Tensor:
    """Loss per example of a linear task that TARGET solves."""
    assert not model.training
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(200, 4, generator=generator)
    weight: Tensor = model.weight  # type: ignore[assignment]
    return (features @ weight.detach() - features @ TARGET).square()


def statistics(model: nn.Module) -> SufficientStatistics:
    """Evidence per example."""
    return mean_scores(losses(model).tolist(), name="loss", higher_is_better=False)


def number(model: nn.Module) -> float:
    """A plain number."""
    return float(losses(model).mean())


def test_a_soup_of_good_members_beats_them_and_is_written_as_measured(tmp_path: Path) -> None:
    """Errors that differ average out; the written soup scores exactly what the search saw."""
    paths = save_points(tmp_path / "run", points(0.3, 0.3, 0.3, 0.3))
    model = Point(torch.zeros(4))
    soup = greedy_soup(paths, model, statistics, output=tmp_path / "soups")
    assert len(soup.members) > 1
    assert soup.score < soup.best_member_score
    assert soup.written is not None
    other = Point(torch.zeros(4))
    other.load_state_dict(average_state([soup.written.path], other))
    assert statistics(other.eval()).score == soup.score
    assert torch.equal(other.weight, model.weight)
    assert model.training


def test_every_turn_is_on_record(tmp_path: Path) -> None:
    """Each member's own score, the soup's with it, and why it was taken or not."""
    paths = save_points(tmp_path / "run", points(0.1, 0.1, 9.0))
    soup = greedy_soup(paths, Point(TARGET), statistics)
    assert [trial.path for trial in soup.trials] == paths
    assert soup.trials[-1].accepted is False
    assert "paired standard error" in soup.trials[-1].reason
    assert paths[2] not in soup.members


def test_no_soup_is_worse_than_its_best_member(tmp_path: Path) -> None:
    """Even with the worst member first, the result is at least the best one on its own."""
    paths = save_points(tmp_path / "run", points(9.0, 0.001, 5.0))
    model = Point(TARGET)
    for accept in RULES:
        soup = greedy_soup(paths, model, statistics, accept=accept)
        assert soup.score <= soup.best_member_score
        assert soup.best_member == paths[1]
    assert (
        torch.equal(model.weight, states([soup.members[0]])[0]["weight"]) or len(soup.members) > 1
    )


def test_luck_is_not_evidence(tmp_path: Path) -> None:
    """An increase within the noise is taken by "any" and by neither of the tests."""
    generator = torch.Generator().manual_seed(2)
    base = torch.randn(300, generator=generator)
    lucky = base + 0.3 * torch.randn(300, generator=generator)
    lucky += base.mean() - lucky.mean() + 0.002
    paths = save_points(tmp_path / "run", [torch.zeros(4), torch.ones(4)])

    def evaluate(model: nn.Module) -> SufficientStatistics:
        weight: Tensor = model.weight  # type: ignore[assignment]
        return mean_scores((base if float(weight[0]) in (0.0, 1.0) else lucky).tolist())

    taken = {
        accept: len(greedy_soup(paths, Point(TARGET), evaluate, accept=accept).members)
        for accept in RULES
    }
    assert taken == {"one-se": 1, "paired": 1, "any": 2}


def test_plain_numbers_are_accepted_on_any_increase_only(tmp_path: Path) -> None:
    """A number shows no evidence and no direction; both must be waived or given on purpose."""
    paths = save_points(tmp_path / "run", points(0.3, 0.3))
    with pytest.raises(EvaluationError, match="no evidence"):
        greedy_soup(paths, Point(TARGET), number)
    soup = greedy_soup(paths, Point(TARGET), number, accept="any", mode="min")
    assert soup.score <= soup.best_member_score


def test_a_second_split_reports_without_choosing(tmp_path: Path) -> None:
    """It is measured for the result and the best member, once each."""
    paths = save_points(tmp_path / "run", points(0.3, 0.3, 0.3))
    asked = []

    def report(model: nn.Module) -> SufficientStatistics:
        asked.append(1)
        return mean_scores(losses(model, seed=7).tolist(), higher_is_better=False)

    soup = greedy_soup(paths, Point(TARGET), statistics, report=report)
    assert len(asked) == 2
    assert soup.report_score is not None
    assert soup.report_best_member_score is not None
    assert soup.report_score != soup.score


def test_the_uniform_soup_is_the_average_of_all(tmp_path: Path) -> None:
    """Measured beside its members, bit for bit the average of all."""
    paths = save_points(tmp_path / "run", points(0.3, 0.3, 0.3))
    model = Point(TARGET)
    soup = uniform_soup(paths, model, statistics)
    assert soup.members == tuple(paths)
    assert torch.equal(model.weight, average_state(paths)["weight"])
    assert soup.best_member_score == min(trial.score for trial in soup.trials)


def test_counters_in_a_soup_are_of_its_newest_member(tmp_path: Path) -> None:
    """As in any average."""
    model = Point(TARGET)
    paths = save_run(tmp_path / "run", model, 3)
    greedy_soup(paths[::-1], model, lambda _: 1.0, accept="any", mode="max")
    assert model.get_buffer("steps") == 3


@pytest.mark.parametrize("outcome", [float("nan"), float("inf"), None, "good"])
def test_an_evaluation_without_a_usable_result_is_an_error_or_an_exclusion(
    tmp_path: Path, outcome: object
) -> None:
    """NaN wins nothing and poisons nothing; the model has its own weights again."""
    paths = save_points(tmp_path / "run", points(0.1, 0.2, 0.3))
    bad = states(paths)[1]["weight"]

    def evaluate(model: nn.Module) -> float:
        weight: Tensor = model.weight  # type: ignore[assignment]
        return outcome if torch.equal(weight, bad) else number(model)  # type: ignore[return-value]

    model = Point(TARGET)
    with pytest.raises(EvaluationError, match="returned"):
        greedy_soup(paths, model, evaluate, accept="any", mode="min")
    assert torch.equal(model.weight, TARGET)
    soup = greedy_soup(paths, model, evaluate, accept="any", mode="min", on_failure="exclude")
    assert list(soup.excluded) == [str(paths[1])]
    assert paths[1] not in soup.members


def test_an_evaluation_that_raises_is_named_and_the_model_put_back(tmp_path: Path) -> None:
    """The cause is kept; with nothing left that could be measured it is an error all the same."""
    paths = save_points(tmp_path / "run", points(0.1, 0.2))

    def evaluate(_: nn.Module) -> float:
        raise RuntimeError("out of memory")

    model = Point(TARGET)
    with pytest.raises(EvaluationError, match="RuntimeError: out of memory") as caught:
        uniform_soup(paths, model, evaluate, mode="min")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert torch.equal(model.weight, TARGET)
    with pytest.raises(EvaluationError, match="No member could be used"):
        greedy_soup(paths, model, evaluate, accept="any", mode="min", on_failure="exclude")


def test_a_damaged_member_is_an_error_or_an_exclusion(tmp_path: Path) -> None:
    """Damage is found before it is averaged."""
    paths = save_points(tmp_path / "run", points(0.1, 0.2, 0.3))
    target = paths[1] / "model.safetensors"
    data = bytearray(target.read_bytes())
    data[-1] ^= 1
    target.write_bytes(data)
    with pytest.raises(LoadError):
        greedy_soup(paths, Point(TARGET), statistics)
    soup = greedy_soup(paths, Point(TARGET), statistics, on_damage="exclude")
    assert list(soup.excluded) == [str(paths[1])]


def test_arguments_that_cannot_work_are_refused(tmp_path: Path) -> None:
    """No candidates, unknown rules, levels that are none."""
    paths = save_points(tmp_path / "run", points(0.1))
    with pytest.raises(ConfigError):
        greedy_soup([], Point(TARGET), statistics)
    with pytest.raises(ConfigError):
        greedy_soup(paths, Point(TARGET), statistics, accept="always")  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        greedy_soup(paths, Point(TARGET), statistics, level=0.0)
    damage(paths[0], "manifest.json")
    with pytest.raises((LoadError, DamagedError)):
        uniform_soup(paths, Point(TARGET), statistics, on_damage="exclude")


def test_preparation_runs_before_every_evaluation(tmp_path: Path) -> None:
    """So that normalisation statistics are those of the weights being scored."""
    paths = save_points(tmp_path / "run", points(0.1, 0.1))
    seen: list[bool] = []
    greedy_soup(paths, Point(TARGET), statistics, prepare=lambda m: seen.append(m.training))
    assert seen == [False] * 3
