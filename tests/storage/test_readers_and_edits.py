"""Readers, deleters and editors of a local run side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from holdfast.errors import CheckpointNotFoundError, FormatError, SaveError
from holdfast.storage import InUseError, LocalRun
from holdfast.storage.filesystems import boot_tag
from holdfast.storage.leftovers import owned_file
from holdfast.testing.storage_contract import commit, content

READ = (
    "import sys\nfrom holdfast.storage import LocalRun\n"
    "with LocalRun(sys.argv[1]).open('a') as opened:\n"
    "    print('open', flush=True)\n    sys.stdin.read()\n"
    "    print(opened.read_bytes('file', 10).decode(), flush=True)\n"
)


def test_a_reader_in_another_process_holds_off_deletion(tmp_path: Path) -> None:
    """What it opened stays whole to the end, even the files it had not touched before."""
    run = LocalRun(tmp_path)
    commit(run, "a", {"file": b"abc"})
    reader = subprocess.Popen(
        [sys.executable, "-c", READ, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        assert run.in_use("a")
        with pytest.raises(InUseError, match="being read"):
            run.discard("a", owned=["file"])
        assert reader.communicate()[0] == b"abc\n"
    assert not run.in_use("a")
    run.discard("a", owned=["file"])
    assert run.names() == []
    assert not run.in_use("a")


def test_readers_do_not_hinder_each_other_or_a_rename(tmp_path: Path) -> None:
    """Any number may have it open, and quarantine does not wait for them."""
    run = LocalRun(tmp_path)
    commit(run, "a", {"file": b"abc"})
    with run.open("a") as first, run.open("a") as second:
        run.rename("a", "damaged-a")
        assert first.read_bytes("file", 10) == second.read_bytes("file", 10) == b"abc"


def test_opening_and_deleting_at_once_gives_all_or_nothing(tmp_path: Path) -> None:
    """A reader that wins reads every file; one that loses is told there is no checkpoint."""
    run = LocalRun(tmp_path)
    files = {f"file{number}": b"x" * 100 for number in range(20)}
    outcomes: list[str] = []

    def read() -> None:
        try:
            outcomes.append("whole" if content(run, "a") == files else "part")
        except CheckpointNotFoundError:
            outcomes.append("none")

    def delete() -> None:
        try:
            run.discard("a", owned=files)
        except InUseError:
            outcomes.append("kept")

    for _ in range(15):
        if "a" not in run.names():
            commit(run, "a", files)
        threads = [threading.Thread(target=work) for work in (read, delete, read)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert "part" not in outcomes
    assert outcomes.count("whole") + outcomes.count("none") == 30


def test_two_who_delete_at_once_lose_nothing_else(tmp_path: Path) -> None:
    """Each checkpoint goes once; what neither means to delete stays whole."""
    run = LocalRun(tmp_path)
    for number in range(12):
        commit(run, f"c{number:02}", {"file": bytes([number])})
    others: list[BaseException] = []

    def prune() -> None:
        for number in range(9):
            try:
                run.discard(f"c{number:02}", owned=["file"])
            except (CheckpointNotFoundError, SaveError):
                continue
            except OSError as error:
                others.append(error)

    threads = [threading.Thread(target=prune) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not others
    for number in range(9):
        if f"c{number:02}" in run.names():
            run.discard(f"c{number:02}", owned=["file"])
    assert {name: content(run, name) for name in run.names()} == {
        f"c{number:02}": {"file": bytes([number])} for number in range(9, 12)
    }


def test_edits_of_several_threads_all_arrive(tmp_path: Path) -> None:
    """Each sees what the one before it wrote."""
    run = LocalRun(tmp_path)
    commit(run, "a", {"manifest.json": b""})

    def add(letter: bytes) -> None:
        for _ in range(10):
            run.update_bytes("a", "manifest.json", lambda data: data + letter, max_bytes=100)

    threads = [threading.Thread(target=add, args=(letter,)) for letter in (b"x", b"y", b"z")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = content(run, "a")["manifest.json"]
    assert sorted(data) == sorted(b"xyz" * 10)
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_an_edit_that_fails_changes_nothing(tmp_path: Path) -> None:
    """An error in the change, or a file over the limit, leaves the old content."""
    run = LocalRun(tmp_path)
    commit(run, "a", {"manifest.json": b"old"})

    def refuse(data: bytes) -> bytes:
        raise KeyError("no")

    with pytest.raises(KeyError):
        run.update_bytes("a", "manifest.json", refuse, max_bytes=100)
    with pytest.raises(FormatError):
        run.update_bytes("a", "manifest.json", lambda data: data, max_bytes=2)
    with pytest.raises(CheckpointNotFoundError):
        run.update_bytes("b", "manifest.json", lambda data: data, max_bytes=2)
    assert content(run, "a") == {"manifest.json": b"old"}


def test_leftovers_of_killed_editors_are_swept_beside_the_checkpoints(tmp_path: Path) -> None:
    """A replacement half written and a pointer half swapped go; a live editor's file stays."""
    run = LocalRun(tmp_path)
    commit(run, "a", {"manifest.json": b"old"})
    dead = tmp_path / f".holdfast-edit-manifest.json-{boot_tag()}-00"
    dead.write_bytes(b"half")
    link = tmp_path / f".holdfast-edit-latest-{boot_tag()}-00"
    link.symlink_to("a")
    assert run.sweep() == [link.name, dead.name]
    with owned_file(tmp_path, "manifest.json") as (path, _):
        assert run.sweep() == []
        assert path.exists()
    run.update_bytes("a", "manifest.json", lambda data: data + b"er", max_bytes=10)
    assert os.listdir(tmp_path / "a") == ["manifest.json"]


def test_a_sign_is_taken_once(tmp_path: Path) -> None:
    """A touched file is there once and then gone; a folder of that name is no sign."""
    run = LocalRun(tmp_path)
    assert not run.take("save-now")
    (tmp_path / "save-now").touch()
    assert run.take("save-now")
    assert not run.take("save-now")
    (tmp_path / "save-now").mkdir()
    assert not run.take("save-now")
