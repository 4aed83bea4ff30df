"""A staged checkpoint that another process joins."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import SaveError
from holdfast.storage import LocalRun
from holdfast.storage.protocol import SharedRun


def test_files_of_both_are_published_together(tmp_path: Path) -> None:
    """What the one who joined wrote is seen by the one who staged, and committed with the rest."""
    first, second = LocalRun(tmp_path), LocalRun(tmp_path)
    assert isinstance(first, SharedRun)
    with first.stage("checkpoint_a") as staged:
        with second.join(staged.handle) as joined:
            joined.write_bytes("one", b"1")
            joined.write_blocks("two", 3, [b"2", b"22"])
            joined.settle()
        staged.write_bytes("three", b"3")
        assert staged.sizes() == {"one": 1, "two": 3, "three": 1}
        staged.publish()
    with first.open("checkpoint_a") as opened:
        assert opened.files() == ["one", "three", "two"]


def test_leaving_removes_nothing(tmp_path: Path) -> None:
    """Only the one who staged it publishes or removes it; nobody else sweeps it meanwhile."""
    first, second = LocalRun(tmp_path), LocalRun(tmp_path)
    staged = first.stage("checkpoint_a")
    with second.join(staged.handle) as joined:
        joined.write_bytes("one", b"1")
    assert second.sweep() == []
    assert staged.sizes() == {"one": 1}
    staged.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("handle", ["checkpoint_a", "../x", ".holdfast-tmp-x/../y", ""])
def test_only_staged_folders_can_be_joined(tmp_path: Path, handle: str) -> None:
    """A committed checkpoint, or anything elsewhere, is refused."""
    (tmp_path / "checkpoint_a").mkdir()
    with pytest.raises(SaveError, match="no staged checkpoint"):
        LocalRun(tmp_path).join(handle)


def test_a_folder_that_is_not_shared_is_told(tmp_path: Path) -> None:
    """The usual cause is that every rank has a disk of its own."""
    staged = LocalRun(tmp_path / "here").stage("checkpoint_a")
    (tmp_path / "there").mkdir()
    with pytest.raises(SaveError, match="file system that all ranks share"):
        LocalRun(tmp_path / "there").join(staged.handle)
    staged.abort()
