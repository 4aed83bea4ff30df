"""Choosing a model: every way to get one, compared on the test set, nothing claimed too much."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from select_world import METRICS, Trial, classifier, copied, save_run
from selection_helpers import damage
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager, jsontext, select_model
from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    DamagedError,
    FormatError,
    HoldfastWarning,
)
from holdfast.selection import (
    EvaluationError,
    Selection,
    average,
    read_ensemble,
    read_recipe,
    read_selections,
    verify_recipe,
    write_chosen,
)
from holdfast.selection.candidates import Identified
from holdfast.stats import mean_scores


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run: checkpoints 0 to 4, the best by val_loss is 2, by val_acc it is 1."""
    folder = tmp_path_factory.mktemp("run") / "run"
    save_run(folder)
    return folder


@pytest.fixture(scope="module")
def selection(run: Path) -> Selection:
    """The default candidates, chosen among once."""
    return select_model(run, Trial())


def steps(one: Identified) -> list[int]:
    """The global steps of a candidate's members."""
    return [member.global_step for member in one.members]


def test_every_way_to_get_a_model_is_a_candidate(selection: Selection) -> None:
    """Best by each tracked metric, average and ensemble of the top by validation loss, last, EMA;
    a NaN is nobody's best, and means of segments are no EMAs."""
    found = {row.name: steps(row.candidate) for row in selection.rows}
    assert found == {
        "best val_loss": [9],
        "best val_acc": [6],
        "average of 4 by val_loss": [9, 12, 6, 3],
        "last": [15],
        "EMA 0.05": [15],
        "EMA 0.1": [15],
        "ensemble of 3 by val_loss": [9, 12, 6],
    }
    assert selection.baseline == "best val_loss"


def test_scores_are_those_of_the_weights_and_rows_go_by_score(selection: Selection) -> None:
    """Each row's score is what the evaluation says of the stored weights."""
    trial = Trial()
    scores = [row.score for row in selection.rows]
    assert scores == sorted(scores, reverse=True)
    for name, file in (("last", "model"), ("EMA 0.05", "ema"), ("EMA 0.1", "ema-2")):
        row = selection.row(name)
        model = classifier().eval()
        model.load_state_dict(load_file(row.candidate.paths[0] / f"{file}.safetensors"))
        with torch.no_grad():
            assert trial.evaluate(model).score == row.score


def test_claims_are_those_of_the_tests(selection: Selection) -> None:
    """Verdicts come from the corrected test, stars from the tie set, the advice from both."""
    for row in selection.rows:
        if row.comparison is not None:
            assert row.comparison.comparisons == len(selection.rows) - 1
            assert row.verdict(0.05) == row.comparison.verdict(0.05)
        assert row.standing.tied == (row.name in selection.best.tie_set)
    quality = selection.recommendations[0]
    assert quality.candidate == selection.best.best
    assert {quality.candidate, *quality.tied_with} == set(selection.best.tie_set)
    assert quality.evidence is (len(selection.best.tie_set) == 1)
    assert "better than all others" in quality.reason or "no evidence" in quality.reason


def test_a_latency_critical_model_answers_in_one_pass(selection: Selection) -> None:
    """The ensemble is never advised where latency matters, and its price is shown."""
    row = selection.recommended("latency-critical")
    assert row.cost.forward_passes == 1
    assert selection.row("ensemble of 3 by val_loss").cost.forward_passes == 3
    parameters = sum(p.numel() for p in classifier().parameters())
    assert selection.row("ensemble of 3 by val_loss").cost.parameters == 3 * parameters


def test_what_cannot_be_told_apart_is_said_to_be_so(run: Path) -> None:
    """Where scores do not depend on the weights there is no evidence of any difference."""

    def same(model: nn.Module) -> Any:
        return mean_scores([0.0, 1.0, 0.5, 0.25] * 8)

    found = select_model(run, same, model=classifier(), save=False)
    assert {row.verdict(0.05) for row in found.rows} == {"baseline", "no evidence of a difference"}
    assert len(found.best.tie_set) == len(found.rows)
    assert all("no evidence of a difference" in one.reason for one in found.recommendations)
    assert not any(one.evidence for one in found.recommendations)
    assert found.best.luck == 0.0


def test_a_second_call_reads_scores_from_disk(run: Path, tmp_path: Path) -> None:
    """By weights and evaluation: equal weights under another name are not scored again either."""
    mine = copied(run, tmp_path / "run")
    trial = Trial("another test set")
    first = select_model(mine, trial)
    assert trial.scored == len(first.rows)
    again = select_model(mine, trial)
    assert trial.scored == len(first.rows)
    assert [row.score for row in again.rows] == [row.score for row in first.rows]
    assert all(row.cached for row in again.rows)
    newest = again.row("last").candidate.paths[0]
    moved = newest.rename(tmp_path / newest.name)
    other = Trial("another test set")
    found = select_model(mine, other, strategies=["last", str(moved)], save=False)
    assert found.row(newest.name).cached
    assert other.scored == 1
    for file in (mine / "selection" / "scores").glob("*.json"):
        file.write_bytes(file.read_bytes().replace(b'"values": "', b'"values": "AAAA'))
    select_model(mine, other, strategies=["last"], save=False)
    assert other.scored == 2


def test_without_an_identity_nothing_is_kept_and_that_is_said(run: Path, tmp_path: Path) -> None:
    """Scores of an evaluation that might have changed are never believed."""
    mine = copied(run, tmp_path / "run")
    before = sorted((mine / "selection").rglob("*"))
    found = select_model(mine, Trial(None), strategies=["last"], save=False)
    assert any("not kept" in note for note in found.notes)
    assert not found.rows[0].cached
    assert sorted((mine / "selection").rglob("*")) == before


def test_equal_weights_are_one_candidate(run: Path) -> None:
    """The newest may be the best: it is scored once and has both names."""
    trial = Trial(None)
    found = select_model(run, trial, strategies=["best:val_acc", "best", "last"], save=False)
    assert [row.candidate.also for row in found.rows if row.name == "best val_acc"] == [
        ("best val_acc",)
    ]
    assert trial.scored == 3
    assert found.row("last").name == "last"


def test_the_json_is_strict_and_saved_for_the_report(run: Path, selection: Selection) -> None:
    """One document a call, atomically; it reads back as it was."""
    saved = read_selections(run)
    assert selection.as_json() in saved
    document = jsontext.parse(json.dumps(selection.as_json()).encode(), where="test")
    assert isinstance(document, dict)
    assert document["schema"] == "holdfast-select/1"
    assert document["recommendation"]["name"] == selection.best.best
    table = selection.table()
    assert all(row.name in table for row in selection.rows)
    assert "For quality: " in table


@pytest.mark.parametrize("name", ["average of 4 by val_loss", "EMA 0.1", "last"])
def test_the_chosen_model_scores_the_same_from_its_checkpoint(
    run: Path, selection: Selection, name: str, tmp_path: Path
) -> None:
    """What is written is bit for bit what was scored, and its recipe can be verified."""
    trial = Trial()
    written = write_chosen(selection, candidate=name, output=tmp_path / "out", pin=False)
    model = classifier().eval()
    CheckpointManager(CheckpointConfig(str(written.parent)), model).load(
        written, components=["model"]
    )
    with torch.no_grad():
        assert trial.evaluate(model).score == selection.row(name).score
    if name != "last":
        assert verify_recipe(written, search=[run]).holds
        assert read_recipe(written).component == selection.row(name).candidate.candidate.component


def test_a_chosen_ensemble_is_a_recipe_of_pinned_members(run: Path, tmp_path: Path) -> None:
    """The recipe moves with the run; a member with other weights is noticed."""
    mine = copied(run, tmp_path / "run")
    found = select_model(mine, Trial(), strategies=["best", "ensemble:2"], save=False)
    recipe = write_chosen(found, candidate="ensemble of 2 by val_loss")
    moved = mine.rename(tmp_path / "moved")
    members = read_ensemble(moved / recipe.relative_to(mine))
    assert [member.digest for member in members] == [
        member.digest for member in found.row("ensemble of 2 by val_loss").candidate.members
    ]
    manager = CheckpointManager(CheckpointConfig(str(moved)), classifier())
    pins = {info.global_step: info.pinned for info in manager.checkpoints() if info.pinned}
    assert pins == dict.fromkeys((9, 12), "chosen as ensemble of 2 by val_loss")
    values = json.loads((moved / recipe.relative_to(mine)).read_text())
    values["members"][0]["digest"] = "xxh3-128:" + "0" * 32
    (moved / "selection" / "other.json").write_text(json.dumps(values))
    with pytest.raises(FormatError, match="the recipe says"):
        read_ensemble(moved / "selection" / "other.json")


def test_one_damaged_member_is_reported_and_left_out(run: Path, tmp_path: Path) -> None:
    """Single candidates of damaged weights are excluded, averages and ensembles go on without."""
    mine = copied(run, tmp_path / "run")
    damage(mine / "checkpoint_epoch0001_step00000006")
    found = select_model(mine, Trial("of its own"), save=False)
    assert "model.safetensors" in found.excluded["best val_acc"]
    assert steps(found.row("average of 4 by val_loss").candidate) == [9, 12, 3]
    assert steps(found.row("ensemble of 3 by val_loss").candidate) == [9, 12]
    assert sum("is without checkpoint_epoch0001" in note for note in found.notes) == 2
    with pytest.raises(DamagedError):
        select_model(mine, Trial("other"), save=False, on_failure="raise")
    known = select_model(mine, Trial(), strategies=["best:val_acc"], save=False)
    assert known.rows[0].cached
    with pytest.raises(DamagedError):
        write_chosen(known)


def test_an_evaluation_that_fails_is_reported_by_candidate(run: Path) -> None:
    """It may raise, or return NaN, a bare number or statistics of another test set."""

    class Broken(Trial):
        def evaluate(self, model: Any) -> Any:
            found = super().evaluate(model)
            if self.scored == 2:
                raise RuntimeError("out of luck")
            if self.scored == 3:
                return mean_scores([math.nan])
            return found.score if self.scored == 4 else found

    found = select_model(run, Broken(None), save=False)
    assert len(found.rows) == 4
    reasons = " ".join(found.excluded.values())
    assert "RuntimeError: out of luck" in reasons
    assert "nan" in reasons
    assert "returned a float, from which no difference can be tested" in reasons
    with pytest.raises(EvaluationError, match="out of luck"):
        select_model(run, Broken(None), save=False, on_failure="raise")


def test_no_candidate_at_all_is_an_error_with_all_reasons(run: Path, tmp_path: Path) -> None:
    """An empty run, strategies without members, an evaluation that never works."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointNotFoundError, match="holds no checkpoint"):
        select_model(tmp_path / "empty", Trial())
    with pytest.raises(CheckpointNotFoundError, match="no such run"):
        select_model(tmp_path / "nothing", Trial())

    def fail(model: nn.Module) -> Any:
        raise RuntimeError("never")

    with pytest.raises(EvaluationError, match=r"No candidate could be scored.*never"):
        select_model(run, fail, model=classifier(), save=False)


def test_a_metric_that_is_missing_everywhere_excludes_its_strategies(run: Path) -> None:
    """Named with the metrics there are; the others go on."""
    found = select_model(
        run, Trial(), strategies=["best:val_bleu:max", "average:3:val_blue:max", "last"], save=False
    )
    assert [row.name for row in found.rows] == ["last"]
    assert all("val_acc, val_loss" in why for why in found.excluded.values())
    assert len(found.excluded) == 2


def test_mixed_architectures_have_no_average(run: Path, tmp_path: Path) -> None:
    """The average is left out with every difference, single checkpoints are built by their own
    configuration, and an ensemble of them is possible."""
    mine = copied(run, tmp_path / "run")
    config = CheckpointConfig(str(mine), save_total_limit=None, progress=False, provenance=False)
    wide = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3))
    with (
        CheckpointManager(config, wide) as manager,
        pytest.warns(HoldfastWarning, match="beside|newer"),
    ):
        manager.save(9, 99, {"val_loss": 0.1, "val_acc": 1.0}, model_config={"hidden": 9})

    class Sized(Trial):
        def build(self, config: Any) -> nn.Module:
            hidden = config.get("hidden", 6)
            return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 3))

    found = select_model(
        mine, Sized(), strategies=["best:val_loss", "average:3", "ensemble:3"], save=False
    )
    assert "has shape [6, 4], not [9, 4]" in found.excluded["average of 3 by val_loss"]
    assert steps(found.row("ensemble of 3 by val_loss").candidate) == [99, 9, 12]


@pytest.mark.parametrize("text", ["bset", "average", "average:x", "average:1", "last:3", "ema:2"])
def test_a_strategy_that_means_nothing_is_refused_at_once(run: Path, text: str) -> None:
    """A misspelt strategy is an error, not an exclusion."""
    with pytest.raises(ConfigError):
        select_model(run, Trial(), strategies=["last", text])


@pytest.mark.parametrize(
    ("evaluate", "options", "message"),
    [
        (3, {}, "cannot score"),
        (len, {}, "needs a model"),
        (Trial(), {"model": classifier()}, "Both a model"),
        (Trial(" "), {}, "identity"),
        (Trial(), {"baseline": "first"}, "not among the candidates"),
    ],
)
def test_options_that_cannot_work_are_refused(
    run: Path, evaluate: Any, options: Any, message: str
) -> None:
    """Each says what to give instead."""
    with pytest.raises(ConfigError, match=message):
        select_model(run, evaluate, strategies=["last"], save=False, **options)


def test_latency_is_measured_where_the_evaluation_has_a_request(run: Path) -> None:
    """One that fails costs the latencies, not the selection."""

    class Served(Trial):
        fails = False

        def request(self, model: Any) -> object:
            if self.fails:
                raise ValueError("no such thing")
            return model(self.features[:1])

    served = Served()
    found = select_model(run, served, strategies=["last", "ensemble:2"], save=False)
    assert all(row.cost.latency is not None for row in found.rows)
    assert "ms" in found.table()
    served.fails = True
    found = select_model(run, served, strategies=["last"], save=False)
    assert found.rows[0].cost.latency is None
    assert any("no such thing" in note for note in found.notes)


def test_models_divided_over_files_are_averaged_whole(tmp_path: Path) -> None:
    """A frozen part in a file of its own is a part of the average like any other."""
    frozen, trained = nn.Linear(8, 8).requires_grad_(False), nn.Linear(8, 8)
    model = nn.Sequential(frozen, trained)
    config = CheckpointConfig(str(tmp_path), progress=False, split_frozen_bytes=64)
    paths = []
    with CheckpointManager(config, model) as manager:
        for step in range(2):
            with torch.no_grad():
                trained.weight.fill_(float(step))
            path = manager.save(0, step, METRICS[0])
            assert path is not None
            paths.append(path)
    assert (paths[0] / "model.safetensors.index.json").exists()
    made = load_file(average(paths).path / "model.safetensors")
    assert made.keys() == model.state_dict().keys()
    assert torch.equal(made["1.weight"], torch.full((8, 8), 0.5))
    assert torch.equal(made["0.weight"], frozen.weight)
