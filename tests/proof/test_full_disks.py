"""Real small file systems that fill up while a training saves."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from proof_ground import Tell, cannot, need_program
from proof_sequence import STYLES, Training, begin
from proof_world import leftovers, look

from holdfast.errors import NoSpaceError, SaveError

_SIZE_BYTES = 2 << 20
ROOMS = {"sync": range(0, 112 << 10, 8 << 10), "async": range(0, 320 << 10, 20 << 10)}
"""Bytes left for a save, of too few for anything to enough."""


@contextlib.contextmanager
def mounted(kind: str, ground: Path) -> Iterator[Path]:
    """A file system of two mebibytes."""
    disk = ground / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={_SIZE_BYTES}", "none"]
    if kind == "ext4":
        image = ground / "image"
        image.write_bytes(bytes(_SIZE_BYTES))
        make = [need_program("mkfs.ext4"), "-q", "-F", "-m", "0", "-O", "^has_journal", str(image)]
        subprocess.run(make, check=True)
        options = ["-o", "loop", str(image)]
    done = subprocess.run(
        ["mount", *options, str(disk)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        cannot(f"a small {kind} cannot be mounted here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, free_bytes: int) -> None:
    """Leave about so much room."""
    found = _STATVFS(disk)
    room = found.f_bavail * found.f_frsize
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as stream:
        stream.write(bytes(max(0, room - free_bytes)))


_STATVFS = os.statvfs


def plenty(path: object) -> SimpleNamespace:
    """What a disk says whose room is taken by others while we write."""
    return SimpleNamespace(f_bavail=1 << 30, f_frsize=1 << 12)


def refusal(training: Training, step: int) -> SaveError | None:
    """Save; the refusal if there was one, which must have changed nothing."""
    before = look(training.run)[0]
    training.go_to(step)
    state, error = training.state(), None
    try:
        training.manager.save(0, step, {"val_loss": 1.0})
        training.manager.wait()
    except SaveError as caught:
        error = caught
    after, problems = look(training.run)
    assert problems == []
    assert training.state() == state
    assert error is None or after == before
    return error


@pytest.mark.parametrize("told", [True, False], ids=["told", "by surprise"])
@pytest.mark.parametrize(
    ("kind", "style"), [("tmpfs", "sync"), ("ext4", "sync"), ("ext4", "async")]
)
def test_a_full_disk_refuses_and_loses_nothing(
    kind: str, style: str, told: bool, ground: Path, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever room is left: whole or refused with figures, nothing lost, and saving goes on.

    By surprise: there seemed to be room before the first byte, and the disk fills up in the midst.
    """
    refused = 0
    with mounted(kind, ground) as disk:
        training = begin(disk / "run", STYLES[style])
        if not told:
            monkeypatch.setattr(os, "statvfs", plenty)
        rooms = ROOMS[style]
        for step, free_bytes in enumerate(rooms, 4):
            fill(disk, free_bytes)
            error = refusal(training, 2 * step)
            refused += error is not None
            assert error is None or isinstance(error, NoSpaceError), error
            training.manager.close()
            training.run.sweep()
            assert leftovers(disk / "run") == []
            (disk / "filler").unlink()
            assert training.save(2 * step + 1) is not None
            training.manager.close()
        training.manager.load(training.manager.get_best_checkpoint())
        training.manager.close()
    how = "told" if told else "by surprise"
    tell(f"full disk, {kind}, {style}, {how}: {len(rooms)} saves, {refused} refused, 0 lost")
    assert 0 < refused < len(rooms)
