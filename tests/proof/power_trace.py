"""A log of system calls as the operations a file system has to make durable."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from power_program import ACKNOWLEDGED
from proof_ground import cannot, need_program

CALLS = (
    "mkdir,mkdirat,open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,truncate,ftruncate,"
    "fallocate,fsync,fdatasync,sync,syncfs,rename,renameat,renameat2,link,linkat,symlink,symlinkat,"
    "unlink,unlinkat,rmdir,close,lseek"
)
UNSEEN = "mmap,io_uring_setup,copy_file_range,sendfile,splice,sync_file_range"
"""Calls by which data could reach a file without this record; none may occur on a file of a run."""


@dataclass(frozen=True, slots=True)
class NameOp:
    """Names that change in one step: (folder, name, what it leads to from now on or None).

    gone: the file or folder that has no name any more.
    """

    changes: tuple[tuple[int, str, int | None], ...]
    call: str
    gone: int | None = None


@dataclass(frozen=True, slots=True)
class DataOp:
    """Bytes written to a file at an offset; data None: the file is cut or grown to `offset`."""

    node: int
    offset: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class SyncOp:
    """A flush of one node; None: of everything."""

    node: int | None
    path: str


@dataclass(frozen=True, slots=True)
class AckOp:
    """Everything so far was acknowledged under this label."""

    label: str


Op: TypeAlias = NameOp | DataOp | SyncOp | AckOp

ROOT = 0


@dataclass
class Record:
    """What a program did to the folder tree below one root, in order.

    folders: which nodes are folders. links: targets of symbolic links. unseen: calls that would
    have made the record incomplete. found: how many operations at the beginning are not its own.
    """

    ops: list[Op] = field(default_factory=list)
    folders: set[int] = field(default_factory=lambda: {ROOT})
    links: dict[int, str] = field(default_factory=dict)
    unseen: list[str] = field(default_factory=list)
    found: int = 0


def record_program(*arguments: object, root: Path, log: Path, found: Found) -> Record:
    """Run power_program.py with these arguments under strace; return what it did below `root`.

    found: what is there already, which takes part as the record's first operations.
    """
    strace = need_program("strace")
    program = str(Path(__file__).with_name("power_program.py"))
    options = ["-f", "-y", "-xx", "-s", str(1 << 24), "--seccomp-bpf", "-o", str(log)]
    traced = ["-e", f"trace={CALLS},{UNSEEN}", sys.executable, program, *map(str, arguments)]
    done = subprocess.run([strace, *options, *traced], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        if "PTRACE" in done.stderr:
            cannot("strace may not trace here")
        raise RuntimeError(done.stderr[-3000:])
    return _Reader(root, found).read(log)


@dataclass(frozen=True, slots=True)
class Found:
    """What a program finds below the root. durable: the folder whose content was flushed.

    Its own name, and everything else, was left unflushed by a process that was killed.
    """

    tree: dict[str, bytes | None]
    durable: str


_LINE = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)$")
_UNFINISHED = " <unfinished ...>"
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_PLACE = re.compile(r"<((?:\\x[0-9a-f]{2})*)>")
_FD = re.compile(r"^(AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)>")


def _bytes(escaped: str) -> bytes:
    return bytes.fromhex(escaped.replace("\\x", ""))


class _Reader:
    """Follows the calls with a tree of its own, so that every descriptor's path names a node."""

    def __init__(self, root: Path, found: Found) -> None:
        self._root = root
        self._record = Record()
        self._tree: dict[int, dict[str, int]] = {ROOT: {}}
        self._sizes: dict[int, int] = {}
        self._position: dict[str, int] = {}
        self._appending: set[str] = set()
        self._next = ROOT + 1
        self._begin_with(found)

    def read(self, log: Path) -> Record:
        for call, arguments, result in _calls(log):
            handler = getattr(self, f"_on_{call}", None)
            if call in UNSEEN.split(","):
                self._note_unseen(call, arguments)
            elif handler is not None and not result.startswith("-1"):
                handler(arguments, result)
        return self._record

    def _begin_with(self, found: Found) -> None:
        for path, content in sorted(found.tree.items()):
            parts = path.split("/")
            node = self._new()
            if content is None:
                self._tree[node] = {}
                self._record.folders.add(node)
            self._name("found", (parts, node))
            if content is not None:
                self._sizes[node] = len(content)
                self._record.ops.append(DataOp(node, 0, content))
        for path in found.tree:
            node_there = self._node(path.split("/"))
            if path.startswith(found.durable) and node_there is not None:
                self._record.ops.append(SyncOp(node_there, path))
        self._record.found = len(self._record.ops)

    # Where

    def _inside(self, path: str) -> list[str] | None:
        try:
            return list(Path(path).relative_to(self._root).parts)
        except ValueError:
            return None

    def _at(self, arguments: str, which: int = 0) -> list[str] | None:
        """The parts of the which-th path among the arguments, below the root."""
        strings = [_bytes(text).decode() for text in _STRING.findall(arguments)]
        folders = [
            _bytes(text).decode() for text in re.findall(r"<((?:\\x[0-9a-f]{2})*)>", arguments)
        ]
        base = folders[min(which, len(folders) - 1)] if folders else "/"
        return self._inside(str(Path(base, strings[which])))

    def _node(self, parts: list[str]) -> int | None:
        node = ROOT
        for part in parts:
            children = self._tree.get(node, {})
            if part not in children:
                return None
            node = children[part]
        return node

    def _fd_node(self, arguments: str) -> tuple[str, int] | None:
        match = _FD.match(arguments)
        parts = self._inside(_bytes(match[2]).decode()) if match else None
        node = None if parts is None else self._node(parts)
        return None if match is None or node is None else (match[1], node)

    def _name(self, call: str, *changes: tuple[list[str], int | None]) -> None:
        """Change names in the tree and in the record."""
        done = []
        gone = self._node(changes[0][0]) if call == "unlink" else None
        for parts, node in changes:
            folder = self._node(parts[:-1])
            if folder is None:
                raise RuntimeError(f"{call} in an unknown folder {parts}")
            if node is None:
                self._tree[folder].pop(parts[-1], None)
            else:
                self._tree[folder][parts[-1]] = node
            done.append((folder, parts[-1], node))
        self._record.ops.append(NameOp(tuple(done), call, gone))

    def _new(self) -> int:
        self._next += 1
        return self._next - 1

    def _note_unseen(self, call: str, arguments: str) -> None:
        writable = call != "mmap" or ("PROT_WRITE" in arguments and "MAP_SHARED" in arguments)
        paths = [_bytes(text).decode() for text in _PLACE.findall(arguments)]
        if writable and any(self._inside(path) for path in paths):
            self._record.unseen.append(call)

    # Names

    def _on_mkdir(self, arguments: str, _: str) -> None:
        parts = self._at(arguments)
        if parts:
            node = self._new()
            self._tree[node] = {}
            self._record.folders.add(node)
            self._name("mkdir", (parts, node))

    _on_mkdirat = _on_mkdir

    def _on_rename(self, arguments: str, _: str) -> None:
        source, target = self._at(arguments), self._at(arguments, 1)
        if source and target:
            self._name("rename", (source, None), (target, self._node(source)))

    _on_renameat = _on_renameat2 = _on_rename

    def _on_link(self, arguments: str, _: str) -> None:
        source, target = self._at(arguments), self._at(arguments, 1)
        if source and target:
            self._name("link", (target, self._node(source)))

    _on_linkat = _on_link

    def _on_symlink(self, arguments: str, _: str) -> None:
        strings = [_bytes(text).decode() for text in _STRING.findall(arguments)]
        parts = self._inside(strings[1])
        if parts:
            node = self._new()
            self._record.links[node] = strings[0]
            self._name("symlink", (parts, node))

    def _on_unlink(self, arguments: str, _: str) -> None:
        parts = self._at(arguments)
        if parts:
            self._name("unlink", (parts, None))

    _on_unlinkat = _on_rmdir = _on_unlink

    # Data

    def _on_openat(self, arguments: str, result: str) -> None:
        parts = self._at(arguments)
        if not parts:
            return
        node = self._node(parts)
        if "O_CREAT" in arguments and node is None:
            node = self._new()
            self._sizes[node] = 0
            self._name("create", (parts, node))
        elif "O_TRUNC" in arguments and node is not None:
            self._sizes[node] = 0
            self._record.ops.append(DataOp(node, 0, None))
        fd = result.split("<")[0]
        self._position[fd] = 0
        (self._appending.add if "O_APPEND" in arguments else self._appending.discard)(fd)

    def _on_write(self, arguments: str, result: str) -> None:
        if arguments.startswith("1<") and "\\x70\\x69\\x70\\x65" in arguments[:20]:
            text = _bytes(_STRING.findall(arguments)[0]).decode()
            if text.startswith(ACKNOWLEDGED):
                self._record.ops.append(AckOp(text.removeprefix(ACKNOWLEDGED).strip()))
            return
        found = self._fd_node(arguments)
        if found is not None:
            fd, node = found
            offset = self._sizes[node] if fd in self._appending else self._position[fd]
            self._position[fd] = offset + int(result)
            self._data(node, offset, arguments, int(result))

    _on_writev = _on_write

    def _on_lseek(self, arguments: str, result: str) -> None:
        found = self._fd_node(arguments)
        if found is not None:
            self._position[found[0]] = int(result)

    def _on_pwrite64(self, arguments: str, result: str) -> None:
        found = self._fd_node(arguments)
        if found is not None:
            self._data(found[1], int(arguments.rpartition(", ")[2]), arguments, int(result))

    _on_pwritev = _on_pwrite64

    def _on_pwritev2(self, arguments: str, result: str) -> None:
        self._on_pwrite64(arguments.rpartition(", ")[0], result)

    def _data(self, node: int, offset: int, arguments: str, count: int) -> None:
        data = b"".join(_bytes(text) for text in _STRING.findall(arguments))[:count]
        self._sizes[node] = max(self._sizes[node], offset + len(data))
        self._record.ops.append(DataOp(node, offset, data))

    def _on_ftruncate(self, arguments: str, _: str) -> None:
        found = self._fd_node(arguments)
        if found is not None:
            size = int(arguments.rpartition(", ")[2])
            self._sizes[found[1]] = size
            self._record.ops.append(DataOp(found[1], size, None))

    def _on_fsync(self, arguments: str, _: str) -> None:
        found = self._fd_node(arguments)
        if found is not None:
            match = _FD.match(arguments)
            path = _bytes(match[2]).decode() if match else ""
            self._record.ops.append(SyncOp(found[1], path))

    _on_fdatasync = _on_fsync

    def _on_sync(self, _: str, __: str) -> None:
        self._record.ops.append(SyncOp(None, "everything"))

    _on_syncfs = _on_sync


def _calls(log: Path) -> Iterator[tuple[str, str, str]]:
    """Call, arguments and result of each call, at the place where it was complete."""
    begun: dict[str, str] = {}
    for line in log.read_text(encoding="ascii").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        process, call, rest = match.groups()
        if rest.endswith(_UNFINISHED):
            begun[process] = rest[: -len(_UNFINISHED)]
            continue
        if " resumed>" in line:
            rest = begun.pop(process) + rest
        arguments, _, result = rest.rpartition(" = ")
        result = result if "(" not in result or result.startswith("-1") else result.split(" (")[0]
        yield call, arguments.rstrip().removesuffix(")"), result
