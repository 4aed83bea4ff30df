"""Folders where something else lies in place of a file: nothing is followed, nothing blocks."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.engine.state_file import TensorFileEntry
from holdfast.engine.tensor_file import open_tensor_file
from holdfast.errors import (
    CheckpointNotFoundError,
    DamagedError,
    FormatError,
    HoldfastError,
    LoadError,
)
from holdfast.manifest import FileRecord
from holdfast.storage.opened import LocalOpened

FILE = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty checkpoint folder with a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    return checkpoint


def _link_out(path: Path) -> None:
    path.symlink_to("../secret")


def _link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _link_inside(path: Path) -> None:
    (path.parent / "other").write_bytes(b"x")
    path.symlink_to("other")


def _link_loop(path: Path) -> None:
    path.symlink_to(path.name)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # the path of a socket is limited to about 100 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root may make devices")


KINDS: dict[str, Callable[[Path], None]] = {
    "link out of the folder": _link_out,
    "link to a device": _link_to_device,
    "link inside the folder": _link_inside,
    "link to itself": _link_loop,
    "fifo": os.mkfifo,
    "socket": _socket,
    "device": _device,
    "folder": Path.mkdir,
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_only_regular_files_are_read(folder: Path, kind: str) -> None:
    """Every way of reading refuses at once what is no regular file, naming it."""
    KINDS[kind](folder / FILE)
    with LocalOpened(folder) as opened:
        for read in (
            lambda: opened.size(FILE),
            lambda: opened.read_bytes(FILE, 1 << 20),
            lambda: opened.read_into(FILE, 0, memoryview(bytearray(4))),
        ):
            with pytest.raises(FormatError, match=FILE):
                read()
        assert FILE not in opened.files()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "../secret",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\x00b",
        "a\nb",
        "file:///etc/passwd",
        "/proc/self/root/etc/passwd",
        "//etc/passwd",
        "./model.safetensors",
        "n" * 5000,
        "\ud800",
    ],
)
def test_names_that_are_paths_are_refused(folder: Path, name: str) -> None:
    """A file is named by one plain part: nothing outside the folder can be asked for."""
    with LocalOpened(folder) as opened, pytest.raises(FormatError):
        opened.read_bytes(name, 1 << 20)


def test_a_tilde_is_an_ordinary_character(folder: Path) -> None:
    """No shell reads these names."""
    (folder / "~root").write_bytes(b"x")
    with LocalOpened(folder) as opened:
        assert opened.read_bytes("~root", 8) == b"x"


def test_a_missing_file_is_damage(folder: Path) -> None:
    """A file the manifest lists and the folder lacks is named."""
    with LocalOpened(folder) as opened, pytest.raises(DamagedError, match=r"missing.*model"):
        opened.size(FILE)


def test_reading_past_the_end_is_damage(folder: Path) -> None:
    """A short file is an error saying where it ends."""
    (folder / FILE).write_bytes(b"1234")
    with LocalOpened(folder) as opened:
        with pytest.raises(DamagedError, match="ends at byte 4"):
            opened.read_into(FILE, 2, memoryview(bytearray(3)))
        buffer = memoryview(bytearray(2))
        opened.read_into(FILE, 2, buffer)
        assert bytes(buffer) == b"34"


def test_small_files_are_bounded(folder: Path) -> None:
    """A sparse file of 40 GiB in place of a small one is refused before anything is allocated."""
    with (folder / "state.json").open("wb") as stream:
        stream.truncate(40 << 30)
    with LocalOpened(folder) as opened, pytest.raises(FormatError, match="at most"):
        opened.read_bytes("state.json", 1 << 20)


@pytest.mark.timeout(20)
def test_huge_sparse_tensor_files_are_refused_unread(folder: Path) -> None:
    """40 GiB of zeros are neither the size that was committed nor a header."""
    with (folder / FILE).open("wb") as stream:
        stream.truncate(40 << 30)
    entry = TensorFileEntry("xxh3-128:" + "0" * 32, {})
    with LocalOpened(folder) as opened:
        for size in (4096, 40 << 30):
            with pytest.raises(LoadError, match=FILE):
                open_tensor_file(opened, FILE, entry, FileRecord(size, "", 0))


def test_the_folder_itself_must_be_one(tmp_path: Path) -> None:
    """A link, a file or a fifo in place of the checkpoint folder is refused; nothing is missing."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_bytes(b"")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "file", "fifo"):
        with pytest.raises(FormatError, match=name):
            LocalOpened(tmp_path / name)
    with pytest.raises(CheckpointNotFoundError, match="absent"):
        LocalOpened(tmp_path / "absent")


def test_an_open_checkpoint_stays_readable_when_its_name_goes(folder: Path) -> None:
    """Renaming the folder, or putting a link in its place, does not lead the reader elsewhere."""
    (folder / FILE).write_bytes(b"mine")
    with LocalOpened(folder) as opened:
        folder.rename(folder.parent / "moved")
        elsewhere = folder.parent / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / FILE).write_bytes(b"evil")
        folder.symlink_to(elsewhere)
        assert opened.read_bytes(FILE, 8) == b"mine"


def test_a_closed_checkpoint_says_so(folder: Path) -> None:
    """Reading after close is a typed error; closing twice is fine."""
    (folder / FILE).write_bytes(b"x")
    opened = LocalOpened(folder)
    opened.close()
    opened.close()
    with pytest.raises(HoldfastError, match="closed"):
        opened.size(FILE)
