"""What is left to ask of checkpoints that retention deleted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from manager_helpers import new_manager, new_session

from holdfast import KeepLast
from holdfast.engine.events import read_events
from holdfast.errors import HoldfastWarning
from holdfast.storage import LocalRun


def test_each_deletion_is_noted_with_what_the_checkpoint_was_and_why_it_went(
    tmp_path: Path,
) -> None:
    """The line tells name, step, size, metrics, why it was saved, why deleted, and the cost."""
    manager = new_manager(tmp_path, new_session(), retention=KeepLast(1))
    for step in range(1, 4):
        loss = math.nan if step == 1 else 10.0 - step
        manager.save(0, step, {"val_loss": loss})
    first, second = read_events(LocalRun(tmp_path))
    assert (first.kind, first.global_step, second.global_step) == ("deleted", 1, 2)
    assert first.name == "checkpoint_epoch0000_step00000001"
    assert first.facts["metrics"] == {"val_loss": "NaN"}
    assert second.facts["metrics"] == {"val_loss": 8.0}
    assert second.facts["reason"] == "save() was called"
    assert second.rule == "KeepLast(1)"
    assert "KeepLast(1)" in second.why
    assert second.time >= str(second.facts["saved"])


def test_a_checkpoint_that_is_in_use_has_no_line_until_it_goes(tmp_path: Path) -> None:
    """What is being read is planned to stay, so nothing is said of it."""
    manager = new_manager(tmp_path, new_session(), retention=KeepLast(1))
    manager.save(0, 1, {"val_loss": 1.0})
    run = LocalRun(tmp_path)
    with run.open("checkpoint_epoch0000_step00000001"):
        manager.save(0, 2, {"val_loss": 0.5})
        assert read_events(run) == []
    manager.save(0, 3, {"val_loss": 0.4})
    assert [event.global_step for event in read_events(run)] == [1, 2]


def test_a_folder_that_takes_no_lines_does_not_stop_the_rotation(tmp_path: Path) -> None:
    """Where the note cannot be written, as on a full disk, it goes anyway, with one warning."""
    (tmp_path / "events.jsonl").mkdir()
    manager = new_manager(tmp_path, new_session(), retention=KeepLast(1))
    manager.save(0, 1, {"val_loss": 9.0})
    with pytest.warns(HoldfastWarning, match="could not be written down"):
        manager.save(0, 2, {"val_loss": 8.0})
    manager.save(0, 3, {"val_loss": 7.0})
    assert [info.global_step for info in manager.checkpoints()] == [3]


def test_lines_of_another_form_are_passed_over(tmp_path: Path) -> None:
    """Torn, foreign or absurd lines cost nothing but themselves."""
    manager = new_manager(tmp_path, new_session(), retention=KeepLast(1))
    for step in range(1, 3):
        manager.save(0, step, {"val_loss": 10.0 - step})
    events = read_events(LocalRun(tmp_path))
    (good,) = (tmp_path / "events.jsonl").read_bytes().splitlines()
    fields = json.loads(good)
    odd = [
        b"",
        b"{",
        b"[]",
        b'{"event": "of the future"}',
        json.dumps({**fields, "time": 5}).encode(),
        json.dumps({**fields, "checkpoints": [{"name": 5}, []]}).encode(),
        b"[" * 5000,
    ]
    (tmp_path / "events.jsonl").write_bytes(b"\n".join([*odd, good, *odd, b""]))
    assert read_events(LocalRun(tmp_path)) == events != []
