"""Comparing two checkpoints: by digest where digests suffice, else streamed, in parallel.

Memory: about 25 MiB for each of at most eight threads, and the descriptions of both sides.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.compare.pairing import Pairs, pair_parts
from holdfast.compare.records import Comparison, TensorChange, TreeChange
from holdfast.compare.sources import open_side
from holdfast.compare.stored import Side, Stored
from holdfast.compare.trees import tree_changes
from holdfast.errors import ConfigError
from holdfast.jsontext import Json

if TYPE_CHECKING:
    from holdfast.compare.records import Numbers

_THREADS_MAX = 8
_TOLD_ELSEWHERE = frozenset({"epoch", "global_step", "metrics", "metrics_history", "triggers"})

OnBytes = Callable[[int, int], None]
"""Called with bytes read and bytes to be read, one call at a time."""


def compare(
    left: str | os.PathLike[str],
    right: str | os.PathLike[str],
    *,
    tolerance: float = 0.0,
    components: Iterable[str] | None = None,
    progress: OnBytes | None = None,
) -> Comparison:
    """Compare two checkpoints of any known layout; nothing of either is ever held as a whole.

    tolerance: elements that differ by no more than this, absolutely, count as the same. components:
    only these. Tensors with equal digests are not read. Raises CheckpointNotFoundError, LoadError,
    or DamagedError where what is read is not what was committed.
    """
    if not 0 <= tolerance < float("inf"):
        raise ConfigError(f"The tolerance is {tolerance!r}", fix="give a number of 0 or more")
    before = open_side(Path(left))
    try:
        after = open_side(Path(right))
        try:
            return compare_sides(before, after, tolerance, components, progress)
        finally:
            after.close()
    finally:
        before.close()


def compare_sides(
    left: Side,
    right: Side,
    tolerance: float,
    components: Iterable[str] | None,
    progress: OnBytes | None,
) -> Comparison:
    """As `compare`, of opened sides."""
    names, not_compared = _components(left, right, components)
    found: dict[str, Pairs] = {
        name: pair_parts(left.parts.get(name), right.parts.get(name)) for name in names
    }
    to_read = [pair for pairs in found.values() for pair in pairs.to_read]
    numbers = _read_all([(a, b) for _, a, b in to_read], tolerance, progress)
    read = iter(numbers)
    tensors: list[TensorChange] = []
    for pairs in found.values():
        tensors += pairs.settled
        tensors += [replace(change, numbers=next(read)) for change, _, _ in pairs.to_read]
    trees, more = _trees(left, right, names)
    steps = (left.global_step, right.global_step)
    return Comparison(
        left=left.place,
        right=right.place,
        steps=None if None in steps else steps[1] - steps[0],  # type: ignore[operator]
        tolerance=tolerance,
        tensors=tensors,
        trees=trees,
        more_trees=more,
        not_compared=not_compared,
        bytes_read=sum(a.nbytes + b.nbytes for _, a, b in to_read),
    )


def _components(
    left: Side, right: Side, wanted: Iterable[str] | None
) -> tuple[list[str], dict[str, str]]:
    there = list(dict.fromkeys((*left.parts, *right.parts)))
    if wanted is not None:
        chosen = list(dict.fromkeys(wanted))
        unknown = [name for name in chosen if name not in there]
        if unknown:
            raise ConfigError(
                f"Neither side has a component {unknown[0]!r}", fix=f"there are: {', '.join(there)}"
            )
        return chosen, {}
    if "safetensors" in (left.layout, right.layout) and left.layout != right.layout:
        other = {name: "the other side is a model only" for name in there if name != "model"}
        return [name for name in there if name == "model"], other
    if left.layout != right.layout and "optimizer" in there:
        why = "one side stores it by name, the other by number"
        return [name for name in there if name not in ("optimizer", "rng")], {
            name: why for name in there if name in ("optimizer", "rng")
        }
    return there, {}


def _trees(left: Side, right: Side, names: list[str]) -> tuple[list[TreeChange], dict[str, int]]:
    common = set(left.facts) & set(right.facts)
    keys = set(left.facts) | set(right.facts) if left.layout == right.layout else common
    facts = [{key: side.facts[key] for key in side.facts if key in keys} for side in (left, right)]
    changes, more = _named_changes("checkpoint", facts[0], facts[1])
    beyond = {"checkpoint": more} if more else {}
    for name in names:
        before, after = left.parts.get(name), right.parts.get(name)
        if before is None or after is None:
            changes.append(
                TreeChange(
                    name,
                    "",
                    None if before is None else before.kind,
                    None if after is None else after.kind,
                )
            )
            continue
        ignore = _TOLD_ELSEWHERE if name == "run" else frozenset()
        found, more = tree_changes(name, before.tree, after.tree, ignore=ignore)
        ties, more_ties = _named_changes(name, dict(before.aliases), dict(after.aliases), "alias ")
        changes += found + ties
        if more + more_ties:
            beyond[name] = more + more_ties
    return changes, beyond


def _named_changes(
    component: str, left: dict[str, Json], right: dict[str, Json], prefix: str = ""
) -> tuple[list[TreeChange], int]:
    found, more = tree_changes(component, left, right)
    return [replace(change, path=f"{prefix}{change.path}") for change in found], more


def _read_all(
    pairs: list[tuple[Stored, Stored]], tolerance: float, progress: OnBytes | None
) -> list[Numbers]:
    """The numbers of every pair, in order; the largest are read first so that none is left over."""
    if not pairs:
        return []
    from holdfast.compare.arithmetic import Comparer

    total = sum(a.nbytes + b.nbytes for a, b in pairs)
    lock = threading.Lock()
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        with lock:
            done += count
            if progress is not None:
                progress(done, total)

    found: dict[int, Numbers] = {}
    queue = iter(sorted(range(len(pairs)), key=lambda i: -pairs[i][0].nbytes))
    stop = threading.Event()

    def work() -> None:
        comparer = Comparer(tolerance, advance)
        while not stop.is_set():
            with lock:
                index = next(queue, None)
            if index is None:
                return
            try:
                found[index] = comparer.compare(*pairs[index])
            except BaseException:
                stop.set()
                raise

    threads = min(_THREADS_MAX, 2 * (os.cpu_count() or 1), len(pairs))
    with ThreadPoolExecutor(threads, thread_name_prefix="holdfast-compare") as pool:
        for future in [pool.submit(work) for _ in range(threads)]:
            future.result()
    return [found[index] for index in range(len(pairs))]
