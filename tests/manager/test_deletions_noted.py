"""What is left to ask of checkpoints that retention deleted."""

from __future__ import annotations

import json
import math
from pathlib import Path

from manager_helpers import new_manager, new_session

from holdfast import KeepLast
from holdfast.engine.events import parse_deletions, read_deletions
from holdfast.storage import LocalRun


def test_each_deletion_is_noted_with_what_the_checkpoint_was_and_why_it_went(
    tmp_path: Path,
) -> None:
    """The line tells name, step, size, metrics, why it was saved, why deleted, and the cost."""
    manager = new_manager(tmp_path, new_session(), retention=KeepLast(1))
    for step in range(1, 4):
        loss = math.nan if step == 1 else 10.0 - step
        manager.save(0, step, {"val_loss": loss})
    sizes = {info.global_step: info.bytes for info in manager.checkpoints()}
    first, second = read_deletions(LocalRun(tmp_path))
    assert (first.global_step, second.global_step) == (1, 2)
    assert first.name == "checkpoint_epoch0000_step00000001"
    assert math.isnan(first.metrics["val_loss"])
    assert second.metrics == {"val_loss": 8.0}
    assert "KeepLast(1)" in second.why
    assert second.reason == "save() was called"
    assert second.bytes > sizes[3] // 2
    assert second.cost["mode"] == "sync"
    assert second.time >= second.saved


def test_a_folder_that_takes_no_lines_does_not_stop_the_rotation(tmp_path: Path) -> None:
    """Where the note cannot be written, on a full disk say, the checkpoint goes all the same."""
    (tmp_path / "events.jsonl").mkdir()
    manager = new_manager(tmp_path, new_session(), retention=KeepLast(1))
    for step in range(1, 4):
        manager.save(0, step, {"val_loss": 10.0 - step})
    assert [info.global_step for info in manager.checkpoints()] == [3]


def test_lines_of_another_form_are_passed_over(tmp_path: Path) -> None:
    """Torn, foreign or absurd lines cost nothing but themselves."""
    manager = new_manager(tmp_path, new_session(), retention=KeepLast(1))
    for step in range(1, 3):
        manager.save(0, step, {"val_loss": 10.0 - step})
    (good,) = (tmp_path / "events.jsonl").read_bytes().splitlines()
    fields = json.loads(good)
    odd = [
        b"",
        b"{",
        b"[]",
        b'{"event": "of the future"}',
        json.dumps({**fields, "time": "yesterday"}).encode(),
        json.dumps({**fields, "metrics": {"val_loss": []}}).encode(),
        json.dumps({**fields, "bytes": True}).encode(),
        b"[" * 5000,
    ]
    assert parse_deletions([*odd, good, *odd]) == parse_deletions([good]) != []
