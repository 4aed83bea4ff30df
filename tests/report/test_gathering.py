"""What is gathered of a run, from files that may be long, torn, old or somebody's attack."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from report_runs import EVIL, add_release, add_selection, make_hostile_run, make_run
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.errors import CheckpointNotFoundError
from holdfast.report import gather_run, measure_changes
from holdfast.report.gather_history import read_history
from holdfast.report.lines import read_small, read_tail
from holdfast.report.text import clean, number, seconds, size
from holdfast.report.thin import thin
from holdfast.report.values import Point


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a resume, deletions, a selection and a release; not to be changed."""
    folder = make_run(tmp_path_factory.mktemp("gathered") / "translate")
    add_selection(folder)
    add_release(folder)
    return folder


def test_everything_a_run_left_behind_is_found(run: Path) -> None:
    """Kept, deleted, best, pinned, resumed from; curves, selection and card."""
    found = gather_run(run)
    assert [c.step for c in found.checkpoints] == list(range(10, 161, 10))
    assert {c.step for c in found.kept} == {80, 140, 150, 160}
    by_step = {c.step: c for c in found.checkpoints}
    assert by_step[80].pinned == "before the change of data"
    assert by_step[80].resumed == 1
    assert by_step[160].best_by == ("val_loss", "val_bleu")
    assert "KeepLast(3)" in by_step[10].why
    assert by_step[10].reason == "save() was called"
    assert by_step[10].cost["mode"] == "sync"
    assert by_step[10].deleted_at is not None
    assert by_step[90].parents == (("resumed_from", by_step[80].id),)
    assert found.directions == {"val_loss": "min", "val_bleu": "max"}
    assert [p.step for p in found.series["train_loss"]] == list(range(10, 161, 10))
    assert [r.step for r in found.resumes] == [80]
    assert found.selections[0].chosen == "average of 3 by val_loss"
    assert ("checks, parity", "yes") in found.releases[0].rows
    assert found.notes == ()


def test_gathering_and_listing_need_no_torch(run: Path) -> None:
    """A machine without torch can write the report, layers left out."""
    code = (
        "import sys; from pathlib import Path; from holdfast.report import gather_run\n"
        f"assert len(gather_run(Path({str(run)!r})).kept) == 4\n"
        "import holdfast.report.serve, holdfast.report.page\n"
        "assert 'torch' not in sys.modules and 'vl_convert' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_that_is_missing_is_an_error_and_an_empty_one_is_not(tmp_path: Path) -> None:
    """A run that has not saved yet has an empty report."""
    with pytest.raises(CheckpointNotFoundError):
        gather_run(tmp_path / "none")
    assert gather_run(tmp_path).checkpoints == ()


def test_the_card_of_a_release_is_told_in_the_rows_that_matter(tmp_path: Path) -> None:
    """What was released, from which step, which formats passed, and what was refused and why."""
    card = {
        "schema": "holdfast-card/1",
        "name": "translator",
        "version": "1.0.0",
        "provenance": {"name": "checkpoint_epoch0001_step00000080", "global_step": 80},
        "weights": {"numbers": 1000, "bytes": 4000, "dtypes": ["float32"]},
        "metrics": [{"name": "BLEU", "value": 34.5}],
        "artifacts": [
            {
                "graph": "step",
                "format": "onnx",
                "passed": True,
                "cases": [{}, {}],
                "max_difference": 1.5e-6,
            }
        ],
        "refused": [{"graph": "step", "format": "torchscript-trace", "reasons": ["it branches"]}],
        "limits": ["at most 128 tokens"],
        "graphs": [{"name": "step", "example": {"x": [1] * 1000}}],
    }
    elsewhere = tmp_path / "releases" / "1.0.0"
    elsewhere.mkdir(parents=True)
    (elsewhere / "card.json").write_text(json.dumps(card))
    (tmp_path / "run").mkdir()
    (release,) = gather_run(tmp_path / "run", releases=[elsewhere]).releases
    assert release.rows == (
        ("release", "translator 1.0.0"),
        ("made of", "checkpoint_epoch0001_step00000080, step 80"),
        ("weights", "1000 numbers, 4 kB, float32"),
        ("BLEU", "34.5"),
        ("step as onnx", "passed its gate: 2 cases, differs by 1.5e-06 at most"),
        ("step as torchscript-trace", "refused: it branches"),
        ("limit", "at most 128 tokens"),
    )


def line(step: int, **fields: object) -> str:
    """A line of the history."""
    return json.dumps({"time": "2026-11-23T14:00:00.000000Z", "global_step": step, **fields})


def test_values_that_a_resume_computed_anew_are_marked(tmp_path: Path) -> None:
    """What lies beyond the checkpoint of any later resume is superseded, the rest is not."""
    steps = [1, 2, 3, 4]
    lines = [line(s, epoch=0, metrics={"loss": float(s)}) for s in steps]
    lines.append(line(3, resumed_from="c3"))
    lines += [line(s, epoch=0, metrics={"loss": s / 2}) for s in (4, 5)]
    lines.append(line(1, resumed_from="c1"))
    lines.append(line(2, epoch=0, metrics={"loss": 0.5}))
    (tmp_path / "history.jsonl").write_text("\n".join(lines) + "\n")
    history = read_history(tmp_path)
    kept = [(p.step, p.value, p.session) for p in history.series["loss"] if not p.superseded]
    assert kept == [(1, 1.0, 0), (2, 0.5, 2)]
    assert [(r.step, r.lost_steps) for r in history.resumes] == [(3, 1), (1, 4)]


def test_lines_that_cannot_be_read_are_counted_and_said(tmp_path: Path) -> None:
    """Torn, foreign and absurd lines cost nothing but themselves."""
    good = line(1, epoch=0, metrics={"loss": 1.0, "odd": "NaN", "text": "x", "big": 10**400})
    bad = ["{", "[]", "[" * 9000, line(-1, metrics={}), '{"global_step": 1}', "\x00"]
    (tmp_path / "history.jsonl").write_text("\n".join([*bad, good, *bad]) + "\n{torn")
    history = read_history(tmp_path)
    assert [p.value for p in history.series["loss"]] == [1.0]
    assert math.isnan(history.series["odd"][0].value)
    assert "text" not in history.series
    assert history.notes == ["12 lines of history.jsonl could not be read and were left out."]


def test_long_files_are_read_at_their_end_and_odd_ones_not_at_all(tmp_path: Path) -> None:
    """Memory is bounded by the limit; links and folders in place of a file count as none."""
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"first\n" + b"second\n" * 3)
    assert read_tail(path, max_bytes=15) == ([b"second", b"second"], True)
    assert read_small(path, max_bytes=5) is None
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").mkdir()
    for odd in ("link", "folder", "none"):
        assert read_tail(tmp_path / odd) == ([], False)
        assert read_small(tmp_path / odd) is None


def test_a_hostile_run_is_gathered_in_bounds(tmp_path: Path) -> None:
    """No control character and no endless text comes through, and what is unreadable is said."""
    found = gather_run(make_hostile_run(tmp_path / "run"))
    told = repr(found)
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert len(told) < 200_000
    assert any("torn.json" in note for note in found.notes)
    assert max(len(name) for name in found.series) < 200


def test_damaged_checkpoints_are_shown_as_such(tmp_path: Path) -> None:
    """A manifest that cannot be trusted is named, not hidden."""
    run = make_run(tmp_path / "run")
    newest = max(run.glob("checkpoint_*"))
    (newest / "manifest.json").write_text("{}")
    found = gather_run(run)
    assert [c.name for c in found.checkpoints if c.status == "damaged"] == [newest.name]
    assert any("cannot be trusted" in note for note in found.notes)


def two_checkpoints(folder: Path) -> None:
    """Two checkpoints: one layer scaled by 1.1 between them, one untouched, one now infinite."""
    model = nn.Module()
    model.scaled = nn.Linear(4, 4)
    model.same = nn.Linear(4, 4)
    model.blown = nn.Linear(4, 4)
    config = CheckpointConfig(str(folder), save_total_limit=None, progress=False)
    with CheckpointManager(config, model) as manager:
        manager.save(0, 1)
        with torch.no_grad():
            for parameter in model.scaled.parameters():
                parameter.mul_(1.1)
            model.blown.weight.fill_(math.inf)
        manager.save(0, 2)


def test_the_change_of_a_layer_is_measured(tmp_path: Path) -> None:
    """Scaled by 1.1 is a change of a tenth, untouched is none, infinite is no number."""
    two_checkpoints(tmp_path)
    changes, notes = measure_changes(tmp_path)
    found = {c.layer: c.relative for c in changes}
    assert found["scaled"] == pytest.approx(0.1, rel=1e-6)
    assert found["same"] == 0.0
    assert found["blown"] is None
    assert notes == ()


def test_what_would_be_read_beyond_the_limit_is_left_out_and_said(tmp_path: Path) -> None:
    """Large models are not read for a picture: the note says how to compare them instead."""
    two_checkpoints(tmp_path)
    changes, notes = measure_changes(tmp_path, read_bytes_max=100)
    assert changes == ()
    assert "holdfast diff" in notes[0]


def test_thinning_keeps_the_ends_and_every_peak() -> None:
    """Of many points few are left, among them the first, the last, the highest and the lowest."""
    values = [math.sin(i / 50) for i in range(10_000)]
    values[4321], values[8765] = 99.0, -99.0
    points = [Point(i, v, 0, None, 0, superseded=False) for i, v in enumerate(values)]
    left = thin(points, 200)
    assert len(left) <= 200
    assert [left[0].step, left[-1].step] == [0, 9_999]
    assert {99.0, -99.0} <= {p.value for p in left}
    assert [p.step for p in left] == sorted(p.step for p in left)


def test_values_are_written_for_people() -> None:
    """Numbers, sizes and spans have few digits and a unit; foreign text has no power."""
    assert [number(v) for v in (3.0, 0.123456, 1e-9, 123456, math.nan, None)] == [
        *("3", "0.1235", "1e-09", "123,456", "nan", "")
    ]
    assert [size(v) for v in (0, 999, 1000, 1.5e9, 4e15)] == [
        *("0 B", "999 B", "1 kB", "1.5 GB", "4e+03 TB")
    ]
    assert [seconds(v) for v in (0.0123, 5, 125, 7300, 4e5)] == [
        *("12.3 ms", "5 s", "2 min 5 s", "2 h 1 min", "4 d 15 h")
    ]
    shown = clean(EVIL + "y" * 1000)
    assert shown.isprintable()
    assert len(shown) < 500
