"""Reading a tensor file in parallel within bounded memory: who reads which bytes. Without torch."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from holdfast.tensorfile import TensorSpec

CHUNK_BYTES = 512 << 10
"""Read and hashed at a time: large enough to hide the call, small enough to stay in cache."""
BATCH_TENSOR_BYTES = 64 << 10
"""Tensors up to this size are read together with their neighbours."""

_THREADS_MAX = 8
_THREADED_MIN_BYTES = 8 << 20

Progress: TypeAlias = Callable[[int], None]
"""Called with the number of bytes just done, from any thread, one call at a time."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unit:
    """Adjacent tensors read as one: either one of any size, or many that fit one chunk together.

    begin, end: byte range in the data section.
    """

    begin: int
    end: int
    names: tuple[str, ...]


def cut_units(specs: Mapping[str, TensorSpec], names: Iterable[str] | None = None) -> list[Unit]:
    """Divide tensors into units, in offset order. specs: in offset order. names: None for all."""
    wanted = specs if names is None else set(names)
    every = names is None or set(wanted).issuperset(specs)
    units: list[Unit] = []
    batch: list[str] = []
    begin = end = 0
    for name, (_, _, first, last) in specs.items():
        if not every and name not in wanted:
            continue
        small = last - first <= BATCH_TENSOR_BYTES
        if batch and (not small or first != end or last - begin > CHUNK_BYTES):
            units.append(Unit(begin, end, tuple(batch)))
            batch = []
        if not small:
            units.append(Unit(first, last, (name,)))
            continue
        if not batch:
            begin = first
        batch.append(name)
        end = last
    if batch:
        units.append(Unit(begin, end, tuple(batch)))
    return units


def chunks(begin: int, end: int, step: int = CHUNK_BYTES) -> Iterator[tuple[int, int]]:
    """Cut a byte range into pieces of at most `step`."""
    for start in range(begin, end, step):
        yield start, min(start + step, end)


def threads_for(units: Sequence[Unit]) -> int:
    """How many threads to `run_units` with: little data is read sooner than threads start."""
    return 1 if sum(unit.end - unit.begin for unit in units) < _THREADED_MIN_BYTES else 0


def run_units(units: list[T], work: Callable[[Iterator[T]], None], *, threads: int = 0) -> None:
    """Let several threads draw from `units`, in order, until none is left.

    work: called once per thread with an iterator over that thread's share, so that it can keep
    its buffers. The first exception stops the others at their next unit and is raised here.
    threads: 0 for one per core, within reason.
    """
    count = min(threads or min(_cores(), _THREADS_MAX), len(units))
    if count <= 1:
        work(iter(units))
        return
    shared = _Shared(units)
    with ThreadPoolExecutor(count, thread_name_prefix="holdfast-read") as pool:
        futures = [pool.submit(work, iter(shared)) for _ in range(count)]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            shared.stop()


class _Shared(Iterable[T]):
    """One sequence that several threads iterate together."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = iter(items)
        self._lock = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        """Give out nothing more."""
        self._stopped = True

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._lock:
                if self._stopped:
                    return
                try:
                    item = next(self._items)
                except StopIteration:
                    return
            yield item


def serialised(progress: Progress | None) -> Progress:
    """`progress` made safe to be called from several threads; None becomes a no-op."""
    if progress is None:
        return lambda _: None
    lock = threading.Lock()

    def report(count: int) -> None:
        with lock:
            progress(count)

    return report


def _cores() -> int:
    """The cores this process may use, which in a container are often fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
