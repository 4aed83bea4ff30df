"""The demo from end to end, for a few seconds."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from holdfast.demo import DemoOptions
from holdfast.demo.corpus import Direction
from holdfast.demo.flow import run_demo
from holdfast.demo.plan import RunPlan
from holdfast.demo.worker import main
from holdfast.errors import ConfigError, FormatError
from holdfast.selection import read_selections


def test_the_demo_trains_is_killed_resumes_and_judges(tmp_path: Path) -> None:
    """All of it happens and is shown: kill, checklist, equal losses, checkpoints, scores."""
    file = io.StringIO()
    out = tmp_path / "run"
    options = DemoOptions(steps=60, threads=1, pairs=400, out=out, export=False)
    assert run_demo(options, Console(file=file, width=160)) == 0
    text = file.getvalue()
    for wanted in (
        "Corpus embedded (de-en): 360 pairs",
        "SIGKILL at step",
        "Resumed from checkpoint_",
        "batch order verified",
        "bit for bit",
        "newest 5",
        "best val_loss",
        "On the 20 test sentences",
        "tok:13a",
        "average of 5 by val_loss",
        "EMA 0.05",
        "ensemble of 3 by val_loss",
        "For quality: ",
        "Translations",
        "Scored again from what was written: ",
        ", the same.",
        f"Report: {out / 'report.html'}",
        f"Run folder: {out / 'checkpoints'}",
    ):
        assert wanted in text
    newest = sorted((out / "checkpoints").glob("checkpoint_*"))[-1]
    config = json.loads((newest / "config.json").read_text(encoding="utf-8"))
    assert config["width"] == 128
    assert "ensemble of 3 by val_loss" in (out / "report.html").read_text(encoding="utf-8")
    (saved,) = read_selections(out / "checkpoints")
    assert len(saved["samples"]) == 4
    assert set(saved["samples"][0]["outputs"]) == {c["name"] for c in saved["candidates"]}


def test_a_folder_in_use_is_refused_before_anything_happens(tmp_path: Path) -> None:
    """A second run never mixes with the first."""
    (tmp_path / "something").touch()
    with pytest.raises(ConfigError, match="not empty"):
        run_demo(DemoOptions(out=tmp_path), Console(file=io.StringIO()))


@pytest.mark.parametrize(
    ("name", "value"),
    [("minutes", 0), ("minutes", -1), ("threads", 0), ("seed", -1), ("pairs", 3), ("steps", 0)],
)
def test_options_that_cannot_work_are_refused(name: str, value: int) -> None:
    """The error names the option and its bounds."""
    with pytest.raises(ConfigError, match=name):
        DemoOptions(**{name: value})  # type: ignore[arg-type]


def test_a_plan_reads_as_it_was_written(tmp_path: Path) -> None:
    """The worker is told the same before and after the kill."""
    plan = RunPlan.for_budget(tmp_path, Direction("de", "en"), minutes=5, seed=1, threads=2)
    assert RunPlan.read(plan.write(tmp_path)) == plan
    assert (plan.save_every_seconds, plan.evaluate_every_seconds) == (15.0, 30.0)


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    """A worker started by hand on another file says so."""
    path = tmp_path / "plan.json"
    path.write_text('{"corpus": "x"}', encoding="utf-8")
    with pytest.raises(FormatError, match="Not a plan"):
        RunPlan.read(path)


def test_a_worker_reports_a_corpus_that_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its message goes to standard error, and its status is not zero."""
    plan = RunPlan.for_budget(tmp_path, Direction("de", "en"), minutes=1, seed=1, threads=1)
    assert main([str(plan.write(tmp_path))]) == 1
    assert "There is no corpus" in capsys.readouterr().err
    assert main([]) == 2
