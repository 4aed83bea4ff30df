"""What can be on the disk after the power went, by two models of file systems.

strict: POSIX promises no more. Every change of names waits for a flush of its folder, every write
for a flush of its file, and until then each is there or not, on its own, in any order; a write may
also be there in part, or as zeros. A rename is one change (every file system journals it as one),
durable when the folder it arrives in is flushed.

journal: ext4, XFS. Changes of names are durable in order, and a flush of anything makes all
earlier ones durable; data that was not flushed is as in the strict model.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from power_trace import ROOT, AckOp, DataOp, NameOp, Op, Record, SyncOp

Model = Literal["strict", "journal"]
Tree: TypeAlias = "dict[str, bytes | str | None]"
"""Path below the root -> the bytes of a file, `-> target` of a link, None for a folder."""

_WHOLE, _ABSENT, _TORN, _ZEROS = "whole", "absent", "torn", "zeros"
_OUTCOMES = (_WHOLE, _ABSENT, _TORN, _ZEROS)


@dataclass(frozen=True, slots=True)
class Crash:
    """One state of the disk after a crash. acks: labels acknowledged before it."""

    acks: tuple[str, ...]
    tree: Tree


def crashes(
    record: Record, ops: Sequence[Op], model: Model, *, most: int, seed: int = 0
) -> Iterator[Crash]:
    """Crash states of the operations: after each of them, with every legal loss.

    Where there are over `most` combinations at one instant, these: all and nothing of what was not
    flushed, each one thing alone lost, each one thing alone there, every beginning, and some at
    random. A tree that was given for the same acknowledgements is not given again.
    """
    chooser = random.Random(seed)
    given: set[int] = set()
    acks: tuple[str, ...] = ()
    base = _Disk(record)
    for end, pending in enumerate(_pending(ops, model)):
        last = ops[end - 1] if end else None
        if isinstance(last, AckOp):
            acks = (*acks, last.label)
        if end < record.found:
            continue
        base.apply_up_to(ops, min(pending, default=end))
        tried: set[tuple[tuple[int, str], ...]] = set()
        for outcome in _choices(ops, pending, model, most, chooser):
            lost = tuple(sorted(item for item in outcome.items() if item[1] != _WHOLE))
            if lost in tried:
                continue
            tried.add(lost)
            tree = base.after(ops[:end], outcome)
            key = hash((len(acks), tuple(sorted(tree.items(), key=lambda item: item[0]))))
            if key not in given:
                given.add(key)
                yield Crash(acks, tree)


def tree_of(record: Record, ops: Sequence[Op]) -> Tree:
    """The tree after the operations, nothing lost."""
    return _Disk(record).after(ops, {})


def lay_out(tree: Tree, folder: Path) -> None:
    """Make the tree in an empty folder."""
    for path, content in tree.items():
        place = folder / path
        if content is None:
            place.mkdir()
        elif isinstance(content, str):
            place.symlink_to(content.removeprefix("-> "))
        else:
            place.write_bytes(content)


def _pending(ops: Sequence[Op], model: Model) -> Iterator[list[int]]:
    """Indices of operations that are not durable, before the first, after each and at the end."""
    waiting: list[int] = []
    yield waiting
    for index, op in enumerate(ops):
        if isinstance(op, (NameOp, DataOp)):
            waiting = [*waiting, index]
        elif isinstance(op, SyncOp):
            durable = [ops[i] for i in waiting if _flushed(ops[i], op, model)]
            gone = {done.gone for done in durable if isinstance(done, NameOp)}
            waiting = [
                i
                for i in waiting
                if not _flushed(ops[i], op, model) and not _places(ops[i]) <= gone
            ]
        yield waiting


def _places(op: Op) -> set[int | None]:
    """The nodes it changes; once they are gone for good nothing of it can be seen."""
    if isinstance(op, NameOp):
        return {folder for folder, _, _ in op.changes}
    return {op.node} if isinstance(op, DataOp) else set()


def _flushed(op: Op, sync: SyncOp, model: Model) -> bool:
    if sync.node is None:
        return True
    if isinstance(op, NameOp):
        return model == "journal" or sync.node == op.changes[-1][0]
    return isinstance(op, DataOp) and op.node == sync.node


def _choices(
    ops: Sequence[Op], pending: Sequence[int], model: Model, most: int, chooser: random.Random
) -> Iterator[dict[int, str]]:
    """Outcomes of the pending operations, by index; those that are not named are whole."""
    names = [index for index in pending if isinstance(ops[index], NameOp)]
    data = [index for index in pending if isinstance(ops[index], DataOp)]
    if model == "journal":
        named = [dict.fromkeys(names[kept:], _ABSENT) for kept in range(len(names) + 1)]
    elif 2 ** len(names) <= most:
        named = [
            {index: _ABSENT for index, there in zip(names, bits, strict=True) if not there}
            for bits in itertools.product((True, False), repeat=len(names))
        ]
    else:
        named = list(_telling(names, (_WHOLE, _ABSENT), most, chooser))
    if len(_OUTCOMES) ** len(data) * len(named) <= most:
        written = [
            dict(zip(data, outcome, strict=True))
            for outcome in itertools.product(_OUTCOMES, repeat=len(data))
        ]
        yield from ({**n, **w} for n in named for w in written)
        return
    written = list(_telling(data, _OUTCOMES, most, chooser))
    yield from named
    yield from written
    for _ in range(most):
        yield {**chooser.choice(named), **chooser.choice(written)}


def _telling(
    items: Sequence[int], outcomes: Sequence[str], most: int, chooser: random.Random
) -> Iterator[dict[int, str]]:
    """The combinations that tell most, and up to `most` random ones."""
    yield {}
    yield dict.fromkeys(items, _ABSENT)
    for item in items:
        yield from ({item: outcome} for outcome in outcomes[1:])
        yield {other: _ABSENT for other in items if other != item}
    yield from (dict.fromkeys(items[kept:], _ABSENT) for kept in range(len(items)))
    for _ in range(most):
        yield {item: chooser.choice(outcomes) for item in items}


class _Disk:
    """Names and files after the first `done` operations, all of them whole."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._names: dict[int, dict[str, int]] = {folder: {} for folder in record.folders}
        self._files: dict[int, bytes] = {}
        self._done = 0

    def apply_up_to(self, ops: Sequence[Op], end: int) -> None:
        """Go on to the first `end` operations; never back."""
        for op in ops[self._done : end]:
            _do(op, _WHOLE, self._names, self._files)
        self._done = max(self._done, end)

    def after(self, ops: Sequence[Op], outcome: dict[int, str]) -> Tree:
        """The tree after all of `ops`, those told of in `outcome` as it says."""
        names = {folder: dict(children) for folder, children in self._names.items()}
        files = dict(self._files)
        for index in range(self._done, len(ops)):
            _do(ops[index], outcome.get(index, _WHOLE), names, files)
        tree: Tree = {}
        self._walk(names, files, ROOT, "", tree)
        return tree

    def _walk(
        self,
        names: dict[int, dict[str, int]],
        files: dict[int, bytes],
        folder: int,
        prefix: str,
        tree: Tree,
    ) -> None:
        for name, node in names[folder].items():
            path = f"{prefix}{name}"
            if node in self._record.folders:
                tree[path] = None
                self._walk(names, files, node, f"{path}/", tree)
            elif node in self._record.links:
                tree[path] = f"-> {self._record.links[node]}"
            else:
                tree[path] = files.get(node, b"")


def _do(op: Op, what: str, names: dict[int, dict[str, int]], files: dict[int, bytes]) -> None:
    if what == _ABSENT:
        return
    if isinstance(op, NameOp):
        for folder, name, node in op.changes:
            if node is None:
                names[folder].pop(name, None)
            else:
                names[folder][name] = node
    elif isinstance(op, DataOp):
        files[op.node] = _written(files.get(op.node, b""), op, what)


def _written(content: bytes, op: DataOp, what: str) -> bytes:
    """A file's content after one write, as far as it reached the disk."""
    content += bytes(max(0, op.offset - len(content)))
    if op.data is None:
        return content[: op.offset]
    data = op.data
    if what == _TORN:
        data = data[: len(data) // 2]
    elif what == _ZEROS:
        data = bytes(len(data))
    return content[: op.offset] + data + content[op.offset + len(data) :]
