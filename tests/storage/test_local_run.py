"""What a local run promises beyond the common contract: order, ownership, strangers, pointers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.errors import NoSpaceError, SaveError
from holdfast.storage import LocalRun, NameTakenError
from holdfast.storage.filesystems import boot_tag, filesystem_type
from holdfast.testing.storage_contract import commit, content

SAVE = """
import sys
from holdfast.storage import LocalRun
run = LocalRun(sys.argv[1])
with run.stage("ck") as staged:
    staged.write_blocks("one", 9_000_000, [bytes(9_000_000)])
    staged.write_bytes("two", b"two")
    staged.publish()
"""

HOLD = """
import os, sys, time
from holdfast.storage import LocalRun
staged = LocalRun(sys.argv[1]).stage("ck")
staged.write_bytes("half", b"half")
print(staged.path.name, flush=True)
time.sleep(600)
"""


def trace_of(tmp_path: Path, script: str, *arguments: str) -> list[str]:
    """The file system calls the script made, in order, with descriptors shown as paths."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: the order of system calls cannot be seen")
    calls = "trace=mkdir,mkdirat,write,pwrite64,pwritev,pwritev2,fsync,fdatasync,rename,renameat2"
    log = tmp_path / "trace"
    command = ["strace", "-f", "-y", "-s", "0", "-e", calls, "-o", str(log)]
    done = subprocess.run([*command, sys.executable, "-c", script, *arguments], check=False)
    if done.returncode != 0:
        pytest.skip("strace may not trace here")
    return log.read_text().splitlines()


def test_every_step_is_durable_before_the_next(tmp_path: Path) -> None:
    """Parents, files, folder, rename, parent: flushed in that order and nothing left out."""
    place = tmp_path / "runs" / "one"
    lines = trace_of(tmp_path, SAVE, str(place))

    def positions(pattern: str) -> list[int]:
        found = [number for number, line in enumerate(lines) if re.search(pattern, line)]
        assert found, pattern
        return found

    made = [positions(rf'mkdir\("{re.escape(str(path))}"')[0] for path in (place.parent, place)]
    hidden = rf"{re.escape(str(place))}/\.holdfast-tmp-ck-[^/>\"]*"
    staged = positions(rf'mkdir\("{hidden}"')[0]
    folder_flush = positions(rf"fsync\(\d+<{hidden}>")[0]
    renamed = positions(rf'rename\("{hidden}", "{re.escape(str(place / "ck"))}"')[0]
    steps = [
        made[0],
        positions(rf"fsync\(\d+<{re.escape(str(tmp_path))}>")[-1],
        made[1],
        positions(rf"fsync\(\d+<{re.escape(str(place.parent))}>")[0],
        staged,
        positions(rf"pwritev?(64|2)?\(\d+<{hidden}/one>")[-1],
        positions(rf"fsync\(\d+<{hidden}/one>")[0],
        positions(rf"pwritev?(64|2)?\(\d+<{hidden}/two>")[-1],
        positions(rf"fsync\(\d+<{hidden}/two>")[0],
        folder_flush,
        renamed,
        positions(rf"fsync\(\d+<{re.escape(str(place))}>")[-1],
    ]
    assert steps == sorted(steps)
    assert len(positions(rf"fsync\(\d+<{hidden}/one>")) == 1


def test_a_leftover_is_swept_once_its_writer_is_dead(tmp_path: Path) -> None:
    """While the writer lives its folder stays; after a SIGKILL it is removed."""
    run = LocalRun(tmp_path)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        name = writer.stdout.readline().strip()
        try:
            assert run.sweep() == []
            assert (tmp_path / name / "half").exists()
        finally:
            writer.send_signal(signal.SIGKILL)
    assert run.names() == []
    assert run.sweep() == [name]
    assert os.listdir(tmp_path) == []


def test_the_own_staging_folder_is_not_swept(tmp_path: Path) -> None:
    """A sweep during a save of this very process leaves the save alone."""
    run = LocalRun(tmp_path)
    with run.stage("a") as staged:
        staged.write_bytes("file", b"abc")
        assert run.sweep() == []
        staged.publish()
    assert content(run, "a") == {"file": b"abc"}


def test_a_sweep_takes_only_hidden_folders_of_holdfast(tmp_path: Path) -> None:
    """Trash of a dead process goes; files, links and other people's hidden folders stay."""
    trash = tmp_path / f".holdfast-trash-a-{boot_tag()}-00ff"
    trash.mkdir()
    (trash / "file").write_bytes(b"")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / ".holdfast-tmp-link").symlink_to(outside)
    (tmp_path / ".holdfast-tmp-file").write_bytes(b"")
    (tmp_path / ".cache").mkdir()
    assert LocalRun(tmp_path).sweep() == [trash.name]
    left = {".holdfast-tmp-link", ".holdfast-tmp-file", ".cache", "outside"}
    assert set(os.listdir(tmp_path)) == left


def test_an_empty_folder_or_a_file_is_not_replaced(tmp_path: Path) -> None:
    """Publishing refuses whatever has the name, even what rename() would replace."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("nowhere")
    with LocalRun(tmp_path).stage("free") as staged:
        for name in ("folder", "file", "link"):
            with pytest.raises(NameTakenError):
                staged.publish(name)
        staged.publish()


def test_a_failed_step_ends_the_attempt(tmp_path: Path) -> None:
    """After one failure the staged checkpoint takes nothing more and is never published."""
    run = LocalRun(tmp_path)
    with run.stage("a") as staged:
        with pytest.raises(SaveError, match="announced"):
            staged.write_blocks("file", 2, [b"1"])
        with pytest.raises(SaveError, match="earlier step failed"):
            staged.write_bytes("other", b"")
        with pytest.raises(SaveError, match="earlier step failed"):
            staged.publish()
    assert os.listdir(tmp_path) == []


def test_the_users_umask_is_respected(tmp_path: Path) -> None:
    """Files and folders get the permissions any other new file would get."""
    previous = os.umask(0o027)
    try:
        commit(LocalRun(tmp_path), "a", {"file": b""})
    finally:
        os.umask(previous)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "a" / "file").stat().st_mode & 0o777 == 0o640


def test_what_is_not_ours_is_moved_out_before_deleting(tmp_path: Path) -> None:
    """Folders, links and unknown files are kept as they are; links are not followed."""
    outside = tmp_path / "outside.txt"
    outside.write_bytes(b"mine")
    run = LocalRun(tmp_path / "run")
    commit(run, "a", {"ours": b"abc", "notes.txt": b"mine"})
    (run.path / "a" / "plots").mkdir()
    (run.path / "a" / "plots" / "loss.png").write_bytes(b"png")
    (run.path / "a" / "link").symlink_to(outside)
    (run.path / "kept-from-a").mkdir()
    kept = [Path(path) for path in run.discard("a", owned=["ours"])]
    assert [path.name for path in kept] == ["link", "notes.txt", "plots"]
    assert (kept[2] / "loss.png").read_bytes() == b"png"
    assert outside.read_bytes() == b"mine"
    assert not (run.path / "a").exists()


def test_links_share_the_bytes(tmp_path: Path) -> None:
    """A linked file costs no space; a symlink put in its place is not taken over."""
    run = LocalRun(tmp_path)
    commit(run, "a", {"file": b"abc"})
    (tmp_path / "a" / "link").symlink_to("file")
    with run.stage("b") as staged:
        assert staged.link_from("a", "file")
        assert not staged.link_from("a", "link")
        staged.publish()
    assert (tmp_path / "a" / "file").samefile(tmp_path / "b" / "file")


def test_a_torn_line_neither_counts_nor_spoils_the_next(tmp_path: Path) -> None:
    """A line cut off by a crash is ignored, and the next one starts on its own line."""
    run = LocalRun(tmp_path)
    run.append_line("history.jsonl", b"one")
    with (tmp_path / "history.jsonl").open("ab") as stream:
        stream.write(b"tor")
    assert run.read_lines("history.jsonl") == [b"one"]
    run.append_line("history.jsonl", b"two")
    assert run.read_lines("history.jsonl") == [b"one", b"tor", b"two"]


def test_pointers_are_relative_links_and_never_replace_what_is_not_one(tmp_path: Path) -> None:
    """A pointer moves with the run's folder; a user's own file of that name stays."""
    run = LocalRun(tmp_path)
    commit(run, "a", {})
    assert run.point("latest", "a")
    assert os.readlink(tmp_path / "latest") == "a"
    (tmp_path / "best").write_text("my best recipe\n")
    (tmp_path / "folder").mkdir()
    assert not run.point("best", "a")
    assert not run.point("best", None)
    assert not run.point("folder", "a")
    assert (tmp_path / "best").read_text() == "my best recipe\n"
    (tmp_path / "text").write_text("a\n")
    assert run.point("text", "a")


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """Looking at a run that does not exist does not create its folder."""
    run = LocalRun(tmp_path / "runs" / "none")
    assert run.names() == []
    assert run.sweep() == []
    assert run.read_lines("history.jsonl") == []
    free = run.free_bytes()
    assert free is not None
    assert free > 0
    assert os.listdir(tmp_path) == []


def test_the_file_system_is_recognised() -> None:
    """The type comes from the mount that holds the path, not from one with a similar name."""
    if not Path("/proc/self/mountinfo").exists():
        pytest.skip("no mount table on this system")
    assert filesystem_type(Path("/proc/self")) == "proc"
    assert filesystem_type(Path("/procession")) == filesystem_type(Path("/"))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Path:
    """A file system of one mebibyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    return disk


def test_a_full_disk_says_how_much_was_missing(tiny_disk: Path) -> None:
    """The save fails with figures, its leftover is gone and the earlier checkpoint stands."""
    try:
        run = LocalRun(tiny_disk)
        commit(run, "a", {"file": b"abc"})
        with pytest.raises(NoSpaceError) as caught, run.stage("b") as staged:
            staged.write_blocks("large", 3 << 20, [bytes(1 << 19)] * 6)
        assert caught.value.needed_bytes == 3 << 20
        assert caught.value.available_bytes < 1 << 20
        assert "large" in str(caught.value)
        assert content(run, "a") == {"file": b"abc"}
        assert os.listdir(tiny_disk) == ["a"]
        with pytest.raises(NoSpaceError):
            run.stage("b", needed_bytes=2 << 20)
    finally:
        subprocess.run(["umount", str(tiny_disk)], check=True)
