"""A flipped bit anywhere in a checkpoint is found, and said where it is."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attack_session import NEWER, save_run, session

from holdfast.cli.checking import check
from holdfast.errors import LoadError

FLIPS_OF_A_FILE = 40


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A checkpoint of a small run, in memory where that can be had."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="holdfast-flipped-", dir=place) as made:
        save_run(Path(made))
        yield Path(made) / NEWER


def files(folder: Path) -> list[str]:
    """Every file of the checkpoint."""
    return sorted(path.name for path in folder.iterdir())


def unnoticed(folder: Path, file: str, bits: Iterator[int]) -> list[str]:
    """The bits of the file whose flip `verify` does not report with the file's name."""
    path = folder / file
    sound = path.read_bytes()
    found = []
    try:
        for bit in bits:
            data = bytearray(sound)
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)
            lines = check(folder.parent).found[folder.name]
            if not lines or not all(file in line for line in lines):
                found.append(f"{file} bit {bit}: {lines}")
    finally:
        path.write_bytes(sound)
    return found


def sample(folder: Path, file: str) -> list[int]:
    """Bits from every region of the file: its ends, and places drawn by a fixed seed."""
    count = 8 * (folder / file).stat().st_size
    ends = [*range(0, 80, 8), *range(count - 80, count, 9)]
    return sorted(
        {*ends, *random.Random(5).sample(range(count), FLIPS_OF_A_FILE)} & {*range(count)}
    )


def test_flipped_bits_are_found_and_located(folder: Path) -> None:
    """Flips at the ends and all over every file are reported with the file they are in."""
    for file in files(folder):
        assert unnoticed(folder, file, iter(sample(folder, file))) == []


def test_a_flip_in_the_data_is_located_to_the_tensor(folder: Path) -> None:
    """The report names the tensor whose bytes differ, and no other."""
    path = folder / "model.safetensors"
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    try:
        (line,) = check(folder).found[folder.name]
    finally:
        path.write_bytes(sound)
    assert "model.safetensors" in line
    assert "norm." in line


def test_a_flipped_checkpoint_is_refused_and_changes_nothing(folder: Path, tmp_path: Path) -> None:
    """Loading any flip of any file fails, or did not need the file, with nothing live changed."""
    for file in files(folder):
        copy = tmp_path / file / NEWER
        shutil.copytree(folder, copy)
        data = bytearray((copy / file).read_bytes())
        data[len(data) // 2] ^= 1
        (copy / file).write_bytes(data)
        live = session(copy.parent, 4)
        before = live.fingerprint()
        if file == "config.json":
            live.manager.load(copy)
            continue
        with pytest.raises(LoadError, match=file):
            live.manager.load(copy)
        assert live.fingerprint() == before


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_bit_of_every_file(folder: Path) -> None:
    """No bit of the checkpoint may flip unnoticed."""
    for file in files(folder):
        bits = iter(range(8 * (folder / file).stat().st_size))
        assert unnoticed(folder, file, bits) == []
