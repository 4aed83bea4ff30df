"""What retention keeps and why, late metrics, and pins."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from manager_helpers import new_manager, new_session

from holdfast import KeepAtMostBytes, KeepBest, KeepLast, KeepUnscored
from holdfast.digest import digest_bytes
from holdfast.errors import CheckpointNotFoundError, ConfigError, HoldfastWarning
from holdfast.manager import CheckpointManager
from holdfast.policy import Retention
from holdfast.storage import LocalRun


def filled(folder: Path, count: int, retention: Retention) -> CheckpointManager:
    """A manager with saves at steps 1 to count, val_loss falling."""
    manager = new_manager(folder, new_session(), retention=retention)
    for step in range(1, count + 1):
        manager.save(0, step, {"val_loss": 10.0 - step})
    return manager


def steps(manager: CheckpointManager) -> list[int]:
    """The global steps of all checkpoints."""
    return [info.global_step for info in manager.checkpoints()]


def name(step: int) -> str:
    """The folder of a step in epoch 0."""
    return f"checkpoint_epoch0000_step{step:08d}"


def test_the_dry_run_explains_every_checkpoint_and_deletes_nothing(tmp_path: Path) -> None:
    """Each folder is kept or deleted with the rule that says so, the untrusted ones included."""
    filled(tmp_path, 4, KeepLast(10))
    (tmp_path / name(2) / "manifest.json").write_text("no longer")
    manager = new_manager(tmp_path, new_session(), retention=KeepLast(1))
    report = manager.plan_prune()
    assert list(report.delete) == [name(1), name(3)]
    assert set(report.keep) == {name(2), name(4)}
    assert "cannot be trusted" in report.keep[name(2)]
    assert "KeepLast(1): number 3 from the newest" in report.delete[name(1)]
    assert str(report).splitlines()[0].startswith(f"delete  {name(1)}")
    assert len(LocalRun(tmp_path).names()) == 4


def test_a_checkpoint_that_is_being_read_stays_until_it_is_not(tmp_path: Path) -> None:
    """A reader, in any process, protects what it has open; others go."""
    manager = filled(tmp_path, 3, KeepLast(3))
    with LocalRun(tmp_path).open(name(1)):
        manager.save(0, 4, {"val_loss": 1.0})
        manager.save(0, 5, {"val_loss": 1.0})
        assert steps(manager) == [1, 3, 4, 5]
        assert "being read" in manager.plan_prune().keep[name(1)]
    manager.prune()
    assert steps(manager) == [3, 4, 5]


def test_what_the_session_was_restored_from_stays(tmp_path: Path) -> None:
    """The newest checkpoint that was read back in full is the last one known to be good."""
    filled(tmp_path, 2, KeepLast(5)).close()
    manager = new_manager(tmp_path, new_session(1), retention=KeepLast(1))
    manager.resume(verbose=False)
    for step in (3, 4, 5):
        manager.save(0, step, {"val_loss": 100.0})
    assert steps(manager) == [2, 5]
    assert "restored from it" in manager.plan_prune().keep[name(2)]


def test_a_pin_exempts_a_checkpoint_with_its_reason(tmp_path: Path) -> None:
    """A pinned checkpoint survives rotation and says why; unpinned it goes."""
    manager = filled(tmp_path, 2, KeepLast(2))
    assert manager.pin(1, "shown to the board").pinned == "shown to the board"
    manager.save(0, 3, {"val_loss": 1.0})
    manager.save(0, 4, {"val_loss": 1.0})
    assert steps(manager) == [1, 3, 4]
    assert "pinned: shown to the board" in manager.plan_prune().keep[name(1)]
    assert manager.unpin(name(1)).pinned is None
    manager.prune()
    assert steps(manager) == [3, 4]
    with pytest.raises(ConfigError, match="reason"):
        manager.pin(4, " ")


def test_late_metrics_rank_and_survive_everywhere(tmp_path: Path) -> None:
    """A recorded metric counts for the best, for retention, in the history and after a load."""
    manager = new_manager(
        tmp_path, new_session(), track={"bleu": "max"}, retention=KeepBest(1, "bleu", mode="max")
    )
    for step in (1, 2):
        manager.save(0, step, {"val_loss": 3.0 - step})
    manager.record(1, {"bleu": 27.1})
    manager.record(tmp_path / name(2), {"bleu": 20.5})
    assert manager.get_best_checkpoint("bleu") == tmp_path / name(1)
    assert os.readlink(tmp_path / "best-bleu") == name(1)
    last = json.loads((tmp_path / "history.jsonl").read_text().splitlines()[-1])
    assert (last["recorded_for"], last["metrics"]) == (name(2), {"bleu": 20.5})
    loaded = new_manager(tmp_path, new_session(1)).load(tmp_path / name(1))
    assert loaded["metrics"] == {"val_loss": 2.0, "bleu": 27.1}
    assert loaded["metrics_history"][-1]["metrics"] == {"bleu": 27.1}


def test_unscored_checkpoints_can_wait_for_their_score(tmp_path: Path) -> None:
    """With KeepUnscored evaluation may come after the save; then the score decides."""
    rule = KeepBest(1, "bleu", mode="max") | KeepUnscored("bleu")
    manager = filled(tmp_path, 4, rule)
    for step, bleu in ((1, 20.0), (2, 25.0), (3, 22.0)):
        manager.record(step, {"bleu": bleu})
    manager.prune()
    assert steps(manager) == [2, 4]


def test_recording_is_repeatable_and_does_not_overwrite_by_accident(tmp_path: Path) -> None:
    """The same value is no change, another one needs to be meant."""
    manager = filled(tmp_path, 1, KeepLast(5))
    manifest = tmp_path / name(1) / "manifest.json"
    manager.record(1, {"bleu": 27.1})
    before = manifest.read_bytes()
    manager.record(1, {"bleu": 27.1})
    assert manifest.read_bytes() == before
    with pytest.raises(ConfigError, match=r"bleu = 27\.1 already"):
        manager.record(1, {"bleu": 28.0})
    assert manager.record(1, {"bleu": 28.0}, overwrite=True).metrics["bleu"] == 28.0
    with pytest.raises(ConfigError, match="must be numbers"):
        manager.record(1, {"bleu": "high"})
    with pytest.raises(CheckpointNotFoundError, match=r"step 9 \(there are: 1"):
        manager.record(9, {"bleu": 1.0})
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint of this run"):
        manager.record("/elsewhere/x", {"bleu": 1.0})


def test_keys_of_a_later_version_survive_an_edit(tmp_path: Path) -> None:
    """What this version does not know is written back as it was, at any depth."""
    manager = filled(tmp_path, 1, KeepLast(5))
    path = tmp_path / name(1) / "manifest.json"
    fields = json.loads(path.read_text())
    del fields["digest"]
    fields["reason"]["mood"] = "hopeful"
    fields["future"] = {"kept": [1, 2.5]}
    covered = json.dumps(fields, indent=2)[: -len("\n}")] + ",\n"
    digest = digest_bytes(covered.encode())
    path.write_text(f'{covered}  "digest": "{digest}"\n}}\n')
    manager.record(1, {"bleu": 27.1})
    edited = json.loads(path.read_text())
    assert (edited["future"], edited["reason"]["mood"]) == ({"kept": [1, 2.5]}, "hopeful")
    assert edited["metrics"]["bleu"] == 27.1


def test_a_cap_that_cannot_be_kept_is_said_once(tmp_path: Path) -> None:
    """What always stays may exceed the cap; that is warned of once, not at every save."""
    manager = new_manager(tmp_path, new_session(), retention=KeepLast(3) | KeepAtMostBytes(10))
    with pytest.warns(HoldfastWarning, match="is exceeded"):
        manager.save(0, 1, {"val_loss": 1.0})
    manager.save(0, 2, {"val_loss": 0.5})
    assert steps(manager) == [2]
