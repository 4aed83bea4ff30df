"""Choosing a model from the command line: what is refused, what is written, what is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_harness import document, invoke

from holdfast.selection import verify_recipe

TRIAL = ["--evaluate", "trial.py:make"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rank", "runs/translate", "--metric", "loss"], "direction of 'loss' is not known"),
        (["average", "runs/translate", "--top", "2", "--last", "2"], "chosen in two ways"),
        (["average", "runs/translate", "--dtype", "int8"], "cannot be written"),
        (["average", "runs/translate", "--dtype", "half-ish"], "--dtype is"),
        (["select", "runs/translate", "--evaluate", "trial"], "write MODULE:FUNCTION"),
        (["select", "runs/translate", "--evaluate", "no_such:make"], "could not be imported"),
        (["select", "runs/translate", "--evaluate", "trial.py:mkae"], "no 'mkae' in trial.py"),
        (["select", "runs/translate", "--evaluate", "other.py:number"], "is a int"),
        (["select", "runs/translate", "--evaluate", "other.py:fails"], "ValueError: of course"),
        (["select", "runs/translate", *TRIAL, "--write", "speed"], "--write is 'speed'"),
        (["select", "runs/translate", *TRIAL, "--strategy", "bset"], "'bset' is no strategy"),
        (["compare", "runs/translate@best", *TRIAL], "one checkpoint to compare"),
        (["ema", "sweep", "runs/ema", *TRIAL, "--lengths", "x"], "--lengths is 'x'"),
    ],
)
def test_what_cannot_work_is_wrong_use(arguments: list[str], message: str, world: Path) -> None:
    """Exit code 2, with what to write instead."""
    (world / "other.py").write_text(
        "number = 3\n\ndef fails():\n    raise ValueError('of course')\n"
    )
    result = invoke(arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output


def test_a_trial_run_of_an_average_writes_nothing(world: Path) -> None:
    """It names the members it would take."""
    found = document(["average", "runs/translate", "--last", "2", "--dry-run"])
    assert found["path"] is None
    assert len(found["members"]) == 2
    assert not (world / "runs" / "translate" / "averages").exists()


def test_a_selection_writes_what_it_recommends(world: Path) -> None:
    """The document is that of the report, and progress goes to standard error."""
    strategy = ["--strategy", "average:3", "--write", "quality"]
    arguments = ["select", "runs/translate", *TRIAL, *strategy]
    found = document(arguments)
    assert found["recommendation"]["name"] == "average of 3 by val_loss"
    assert verify_recipe(found["written"]).holds
    result = invoke(arguments)
    assert "as scored before" in result.stderr
    assert "candidate" in result.stdout
    assert "as scored before" not in result.stdout


def test_comparing_a_checkpoint_with_a_copy_finds_no_difference(world: Path) -> None:
    """Equal weights are one system; another is better or worse by a corrected test."""
    same = document(["compare", "runs/translate@latest", "runs/translate@step:6000", *TRIAL])
    assert len(same["candidates"]) == 1
    other = document(["compare", "runs/translate@step:1000", "runs/translate@latest", *TRIAL])
    assert other["baseline"].endswith("step00001000")
    assert other["comparisons"][0]["verdict"] in (
        "better",
        "worse",
        "no evidence of a difference",
    )
    assert not (world / "runs" / "translate" / "selection").exists() or not list(
        (world / "runs" / "translate" / "selection").glob("*.json")
    )


def test_a_reconstructed_ema_is_a_checkpoint_and_can_be_tried_first(world: Path) -> None:
    """The trial says how exact it would be; the checkpoint is known to other commands."""
    tried = document(["ema", "reconstruct", "runs/ema", "--length", "0.05", "--dry-run"])
    assert tried["path"] is None
    assert tried["predicted_error"] == pytest.approx(0.0, abs=1e-9)
    made = document(["ema", "reconstruct", "runs/ema", "--length", "0.05"])
    assert invoke(["verify", made["path"]]).exit_code == 0
    listed = document(["ema", "list", "runs/ema"])
    assert {one["component"] for one in listed["averages"]} == {"ema", "ema-2"}
    scored = document(
        ["select", "runs/ema", *TRIAL, "--strategy", "ema", "--strategy", made["path"]]
    )
    first = next(row for row in scored["candidates"] if row["name"] == "EMA 0.05")
    assert first["also"] == [Path(made["path"]).name], "equal weights are one candidate"
