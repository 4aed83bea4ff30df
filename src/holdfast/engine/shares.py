"""Dividing work over ranks by size, so that each can tell its share alone. Without torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

from holdfast.engine.tensor_file import TensorFile

_SHARD = re.compile(r".+-(\d{5})-of-(\d{5})\.safetensors")

T = TypeVar("T")


def share_of(
    wanted: Sequence[tuple[TensorFile, list[str]]], rank: int, size: int, saved_by: int
) -> list[tuple[TensorFile, list[str]]]:
    """The tensors that one of `size` ranks is to prove; together they prove all.

    saved_by: how many ranks saved the checkpoint. If as many read it, each proves what it wrote,
    which is mostly what it will read.
    """
    if size == 1:
        return list(wanted)
    mine: list[tuple[TensorFile, list[str]]] = []
    left: list[tuple[TensorFile, str]] = []
    for file, names in wanted:
        found = _SHARD.fullmatch(file.file)
        if found is not None and saved_by == size == int(found.group(2)):
            if int(found.group(1)) == rank + 1:
                mine.append((file, names))
        else:
            left += [(file, name) for name in names]
    sizes = [file.specs[name].nbytes for file, name in left]
    begin, end = cut_line(sizes, size)[rank : rank + 2]
    by_file: dict[str, tuple[TensorFile, list[str]]] = {}
    for file, name in left[begin:end]:
        by_file.setdefault(file.file, (file, []))[1].append(name)
    return [*mine, *by_file.values()]


def cut_line(sizes: Sequence[int], parts: int) -> list[int]:
    """Cut a line of items into consecutive parts of about equal size.

    Returns parts + 1 indices, from 0 to the number of items; an item goes to the part in which its
    middle lies.
    """
    total = sum(sizes)
    cuts = [0]
    passed = 0
    for index, size in enumerate(sizes):
        while len(cuts) < parts and passed + size / 2 >= total * len(cuts) / parts:
            cuts.append(index)
        passed += size
    return cuts + [len(sizes)] * (parts + 1 - len(cuts))
