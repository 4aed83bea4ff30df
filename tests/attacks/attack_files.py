"""Files of a checkpoint made into other things, swapped, or joined by strangers."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from attack_forge import (
    MANIFEST,
    STATE,
    read_manifest,
    read_state,
    replace,
    seal,
    write_manifest,
    write_plain,
    write_state,
    write_tensors,
)
from attack_leaves import ESCAPES
from attack_session import OLDER
from attack_trial import Attack, Range

Case = tuple[str, Attack, frozenset[str]]

FILES = (MANIFEST, STATE, "model.safetensors", "optimizer.safetensors", "state.safetensors")
SPARSE_BYTES = 40 << 30
# More than may be allocated, and read in a moment: what is rightly claimed is read.
CLAIMED_BYTES = 1 << 30
REFUSED = frozenset({"FormatError", "DamagedError", "LoadError", "MismatchError"})
LOADED = frozenset({"ok"})


def cases(target: Range) -> Iterator[Case]:
    """Every attack on files with the outcomes a load may have."""
    for file in FILES:
        for name, become in _things(target).items():
            yield f"{file}: {name}", partial(_become, file=file, become=become), REFUSED
    yield from _swaps()
    yield from _strangers()
    yield from _forged()


def _become(folder: Path, *, file: str, become: Callable[[Path], object]) -> None:
    path = folder / file
    shutil.copy(path, folder / "inside.copy")
    path.unlink()
    become(path)


def _things(target: Range) -> dict[str, Callable[[Path], object]]:
    payload = b"cposix\nsystem\n(S'touch %s'\ntR." % os.fsencode(target.folder / "executed")
    return {
        "missing": lambda path: None,
        "link outside": lambda path: path.symlink_to(target.secret),
        "link inside": lambda path: path.symlink_to("inside.copy"),
        "link to the older": lambda path: path.symlink_to(f"../{OLDER}/{path.name}"),
        "link to itself": lambda path: path.symlink_to(path.name),
        "link to zeros": lambda path: path.symlink_to("/dev/zero"),
        "fifo": os.mkfifo,
        "folder": os.mkdir,
        "socket": _bind,
        "empty": lambda path: path.write_bytes(b""),
        "sparse": _sparse,
        "pickle": lambda path: path.write_bytes(payload),
        "protocol 4 pickle": lambda path: path.write_bytes(b"\x80\x04" + payload),
        "of the older": lambda path: shutil.copy(path.parents[1] / OLDER / path.name, path),
    }


def _bind(path: Path) -> None:
    """A socket under the name, made from within the folder: its path may be too long to bind."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, SPARSE_BYTES)


def _swaps() -> Iterator[Case]:
    first, second = "model.safetensors", "state.safetensors"

    def swap(folder: Path) -> None:
        a, b = (folder / first).read_bytes(), (folder / second).read_bytes()
        replace(folder / first, b)
        replace(folder / second, a)

    def swap_digested(folder: Path) -> None:
        a, b = (folder / first).read_bytes(), (folder / second).read_bytes()
        write_tensors(folder, first, b)
        write_tensors(folder, second, a)

    def swap_entries(folder: Path) -> None:
        state, fields = read_state(folder), read_manifest(folder)
        for component in ("model", "optimizer"):
            other = {"model": "optimizer", "optimizer": "model"}[component]
            state["components"][component]["file"] = f"{other}.safetensors"
            fields["components"][component]["file"] = f"{other}.safetensors"
        write_manifest(folder, fields)
        write_state(folder, state)

    yield "swapped files", swap, REFUSED
    yield "swapped files, digested", swap_digested, REFUSED
    yield "swapped components", swap_entries, REFUSED


def _strangers() -> Iterator[Case]:
    names = ["json.py", "torch.py", "-rf", "x" * 255, ESCAPES.replace("\0", ""), "manifest.json~"]

    def add(folder: Path) -> None:
        for name in names:
            (folder / name).write_text("raise SystemExit('imported')", encoding="utf-8")
        os.fsencode(folder)
        with open(os.fsencode(folder) + b"/\xff\xfe", "wb") as stream:
            stream.write(b"x")
        (folder / "link").symlink_to("/dev/zero")
        os.mkfifo(folder / "fifo")
        (folder / "folder").mkdir()

    yield "extra files", add, LOADED


def _forged() -> Iterator[Case]:
    yield "deep manifest", partial(_manifest_text, body=b"[" * 150_000 + b"]" * 150_000), REFUSED
    yield "huge manifest", partial(_manifest_text, body=b'{"a": "' + b"a" * (20 << 20)), REFUSED
    yield "manifest of values", partial(_manifest_text, body=b"{%s}" % _many(400_000)), REFUSED
    yield "deep state", partial(_state_tree, tree='{"a":' * 150_000 + "1" + "}" * 150_000), REFUSED
    yield "wide state", partial(_state_tree, tree="[" + "0," * 6_000_000 + "0]"), REFUSED
    yield "colliding keys", partial(_state_tree, tree=_colliding(60_000)), REFUSED
    yield "sparse and consistent", _sparse_consistent, REFUSED
    yield "beyond memory", _sparse_extra, REFUSED


def _manifest_text(folder: Path, body: bytes) -> None:
    replace(folder / MANIFEST, seal(body + b"}"))


def _many(count: int) -> bytes:
    return b",".join(b'"%d":0' % n for n in range(count))


def _state_tree(folder: Path, tree: str) -> None:
    """A state.json whose counter has this tree, which json itself could not write."""
    state = read_state(folder)
    state["components"]["counter"]["tree"] = "7f3a-tree"
    write_plain(folder, STATE, json.dumps(state).replace('"7f3a-tree"', tree).encode())


def _colliding(count: int) -> str:
    """A dict whose keys all have the hash 0 in Python."""
    pairs = (f'[{{"$":"int","v":"{hex((2**61 - 1) * n)}"}},0]' for n in range(1, count))
    return '{"$":"dict","v":[' + ",".join(pairs) + "]}"


def _claim(folder: Path, file: str, name: str) -> None:
    """Make one tensor of the file 1 GiB long, all of it a hole, with a header that says so."""
    path = folder / file
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    table = json.loads(data[8 : 8 + length])
    huge = {"dtype": "U8", "shape": [CLAIMED_BYTES], "data_offsets": [0, CLAIMED_BYTES]}
    text = json.dumps({"__metadata__": table["__metadata__"], name: huge}).encode()
    write_tensors(folder, file, len(text).to_bytes(8, "little") + text)
    total = 8 + len(text) + CLAIMED_BYTES
    os.truncate(path, total)
    fields = read_manifest(folder)
    fields["files"][file]["bytes"] = total
    write_manifest(folder, fields)


def _sparse_consistent(folder: Path) -> None:
    _claim(folder, "model.safetensors", "embed.weight")


def _sparse_extra(folder: Path) -> None:
    state = read_state(folder)
    state["components"]["run"]["tree"]["extra_state"] = {"$": "tensor", "v": "run/huge"}
    for component in ("counter", "rng"):
        state["components"][component]["tree"] = {}
    state["files"]["state.safetensors"]["notes"] = {}
    write_state(folder, state)
    _claim(folder, "state.safetensors", "run/huge")
