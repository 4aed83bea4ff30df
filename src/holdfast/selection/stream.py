"""The bytes of an average, one chunk after the other, never a whole tensor in memory.

The next chunk of every member is read and hashed while the present one is summed. What was read is
proven against the committed digests tensor by tensor; nothing made of unproven bytes is kept,
because the checkpoint being written is abandoned at the first difference.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from holdfast.digest import Hasher, raw_digest
from holdfast.errors import ConfigError, LoadError
from holdfast.selection.members import Member
from holdfast.selection.plan import AveragePlan, Task
from holdfast.weights import NotFiniteIn, mean_bytes, real_dtype
from holdfast.weights.mean import BLOCK_ELEMENTS, Bytes

_READ_BYTES_MAX = 1 << 20
_BUFFERS_BYTES = 64 << 20
_ELEMENTS_MIN = 4096
_THREADS_MAX = 4
_READERS_MAX = 8


class MemberFailed(Exception):
    """A member cannot be used. index: which; error: why, ready to be raised."""

    def __init__(self, index: int, error: LoadError) -> None:
        self.index = index
        self.error = error
        super().__init__(index)


@dataclass(frozen=True, slots=True)
class _Unit:
    """Tensors treated alike that lie side by side in every file; or one of any size.

    sources: members that are read. elements: numbers (complex ones count as two).
    """

    tasks: tuple[Task, ...]
    sources: tuple[int, ...]
    elements: int


@dataclass(frozen=True, slots=True)
class _Step:
    """A range of elements of one unit."""

    unit: _Unit
    begin: int
    end: int


class AverageStream:
    """Computes one average. digests: raw digest by name, complete once `blocks` is exhausted.

    replaced: tensors whose bytes are given instead of computed (statistics measured anew).
    """

    def __init__(
        self,
        members: Sequence[Member],
        weights: Sequence[int],
        plan: AveragePlan,
        *,
        replaced: Mapping[str, Bytes] | None = None,
    ) -> None:
        self._members = members
        self._weights = weights
        self._plan = plan
        self._replaced = replaced or {}
        self._made = Hasher()
        self._read: dict[int, Hasher] = {}
        self.digests: dict[str, bytes] = {}

    def blocks(self) -> Generator[memoryview, None, None]:
        """The data section in file order; no block changes once it was yielded.

        Raises MemberFailed for a member whose bytes are damaged or not finite, ConfigError if a
        mean is beyond the dtype asked for.
        """
        units = list(self._units())
        steps = _ahead(self._steps(units))
        readers = min(_READERS_MAX, len(self._members))
        with (
            ThreadPoolExecutor(readers, thread_name_prefix="holdfast-read") as pool,
            ThreadPoolExecutor(_cores(), thread_name_prefix="holdfast-average") as summing,
        ):
            reading: list[Future[None]] = []
            spare = _Buffers(), _Buffers()
            current: _Step | None = None
            for turn, (step, after) in enumerate(steps):
                if step is not current:
                    reading = self._submit(pool, step, spare[turn % 2])
                self._settle(step, reading)
                if after is not None:
                    reading = self._submit(pool, after, spare[(turn + 1) % 2])
                    current = after
                try:
                    made = self._compute(step, spare[turn % 2], summing)
                    if made.nbytes:
                        yield made
                except BaseException:
                    _drain(reading)
                    raise

    def _units(self) -> Iterator[_Unit]:
        share = _BUFFERS_BYTES // (16 * len(self._members))
        together = max(_ELEMENTS_MIN, min(share, BLOCK_ELEMENTS))
        waiting: list[Task] = []
        elements = 0
        for task in self._plan.tasks:
            own = self._elements(task)
            if waiting and not (
                elements + own <= together and self._side_by_side(waiting[-1], task)
            ):
                yield self._unit(waiting, elements)
                waiting, elements = [], 0
            waiting.append(task)
            elements += own
        if waiting:
            yield self._unit(waiting, elements)

    def _unit(self, tasks: list[Task], elements: int) -> _Unit:
        first = tasks[0]
        if first.name in self._replaced:
            sources: tuple[int, ...] = ()
        elif first.source is not None:
            sources = (first.source,)
        else:
            sources = tuple(range(len(self._members)))
        return _Unit(tuple(tasks), sources, elements)

    def _elements(self, task: Task) -> int:
        """Numbers in a tensor to be averaged; bytes in one to be copied."""
        spec = self._plan.file.specs[task.name]
        return spec.nbytes // (1 if self._verbatim(task) else _real(task.dtype).itemsize)

    def _verbatim(self, task: Task) -> bool:
        return task.source is not None or task.name in self._replaced

    def _side_by_side(self, one: Task, next_one: Task) -> bool:
        """Whether two tensors to be averaged can be read and summed as one, in every member."""
        if self._verbatim(one) or self._verbatim(next_one) or one.dtype != next_one.dtype:
            return False
        for member in self._members:
            facts = member.tensors[one.name]
            begin, other = member.position(one.name), member.position(next_one.name)
            if begin is None or other is None or begin + facts.nbytes != other:
                return False
            if facts.dtype != member.tensors[next_one.name].dtype:
                return False
        return True

    def _steps(self, units: Iterable[_Unit]) -> Iterator[_Step]:
        for unit in units:
            size = self._elements_per_step(unit)
            for begin in range(0, max(unit.elements, 1), size):
                yield _Step(unit, begin, min(begin + size, unit.elements))

    def _elements_per_step(self, unit: _Unit) -> int:
        if len(unit.tasks) > 1:
            return unit.elements
        width = max((self._width(unit, index) for index in unit.sources), default=1)
        fitting = _BUFFERS_BYTES // (2 * max(len(unit.sources), 1) * width)
        return max(min(fitting, _READ_BYTES_MAX // width), _ELEMENTS_MIN)

    def _width(self, unit: _Unit, index: int) -> int:
        """Bytes of one element of this unit in a member."""
        task = unit.tasks[0]
        if self._verbatim(task):
            return 1
        return _real(self._members[index].tensors[task.name].dtype).itemsize

    def _submit(
        self, pool: ThreadPoolExecutor, step: _Step, buffers: _Buffers
    ) -> list[Future[None]]:
        """Start reading a step. Those of one member follow one another: its hash goes on."""
        if step.begin == 0:
            self._read = {index: Hasher() for index in step.unit.sources}
        jobs = []
        for slot, index in enumerate(step.unit.sources):
            nbytes = (step.end - step.begin) * self._width(step.unit, index)
            buffers.prepare(slot, nbytes)
            jobs.append(pool.submit(self._fetch, step, slot, index, buffers, self._read[index]))
        return jobs

    def _fetch(self, step: _Step, slot: int, index: int, buffers: _Buffers, hasher: Hasher) -> None:
        member, tasks = self._members[index], step.unit.tasks
        data = buffers.view(slot)
        width = self._width(step.unit, index)
        member.read_into(tasks[0].name, step.begin * width, data.data)
        if len(tasks) == 1:
            hasher.update(data.data)
            if step.end == step.unit.elements:
                member.prove(tasks[0].name, hasher.raw())
            return
        begin = 0
        for task in tasks:
            end = begin + member.tensors[task.name].nbytes
            member.prove(task.name, raw_digest(data[begin:end].data))
            begin = end

    def _settle(self, step: _Step, reading: Sequence[Future[None]]) -> None:
        for index, job in zip(step.unit.sources, reading, strict=True):
            try:
                job.result()
            except LoadError as error:
                _drain(reading)
                raise MemberFailed(index, error) from error

    def _compute(self, step: _Step, buffers: _Buffers, pool: ThreadPoolExecutor) -> memoryview:
        unit = step.unit
        task = unit.tasks[0]
        if task.name in self._replaced:
            made = self._replaced[task.name][step.begin : step.end]
        elif task.source is not None:
            made = buffers.view(0).copy()
        else:
            sources = [buffers.view(slot) for slot in range(len(unit.sources))]
            made = self._mean(unit, sources, pool)
        self._note(step, made)
        return made.data

    def _mean(self, unit: _Unit, sources: Sequence[Bytes], pool: ThreadPoolExecutor) -> Bytes:
        name = unit.tasks[0].name
        dtypes = [_real(member.tensors[name].dtype) for member in self._members]
        wanted = _real(unit.tasks[0].dtype)
        elements = sources[0].nbytes // dtypes[0].itemsize
        made = np.empty(elements * wanted.itemsize, np.uint8)

        def fill(begin: int) -> None:
            end = min(begin + share, elements)
            parts = [
                source[begin * kind.itemsize : end * kind.itemsize]
                for source, kind in zip(sources, dtypes, strict=True)
            ]
            out = made[begin * wanted.itemsize : end * wanted.itemsize]
            mean_bytes(parts, dtypes, self._weights, wanted, out)

        share = max(BLOCK_ELEMENTS, -(-elements // _cores()))
        try:
            for job in [pool.submit(fill, begin) for begin in range(0, elements, share)]:
                job.result()
            return made
        except NotFiniteIn as error:
            names = name if len(unit.tasks) == 1 else f"{name} or one of the next"
            if error.source is None:
                raise ConfigError(
                    f"The mean of {names} is beyond {unit.tasks[0].dtype}",
                    fix="write the average with dtype=torch.float32",
                ) from error
            member = self._members[error.source]
            raise MemberFailed(
                error.source,
                LoadError(
                    f"The tensor {names} holds NaN or infinity",
                    where=member.place,
                    fix='leave this checkpoint out, or pass on_damage="exclude"',
                ),
            ) from error

    def _note(self, step: _Step, made: Bytes) -> None:
        """Hash what was made, per tensor."""
        if len(step.unit.tasks) == 1:
            name = step.unit.tasks[0].name
            if step.begin == 0:
                self._made = Hasher()
            self._made.update(made.data)
            if step.end == step.unit.elements:
                self.digests[name] = self._made.raw()
            return
        begin = 0
        for task in step.unit.tasks:
            end = begin + self._plan.file.specs[task.name].nbytes
            self.digests[task.name] = raw_digest(made[begin:end].data)
            begin = end


class _Buffers:
    """One reusable buffer per member read at a time."""

    def __init__(self) -> None:
        self._memory: dict[int, Bytes] = {}
        self._used: dict[int, int] = {}

    def prepare(self, slot: int, nbytes: int) -> None:
        """Make room; called before any thread uses the slot."""
        if slot not in self._memory or self._memory[slot].nbytes < nbytes:
            self._memory[slot] = np.empty(nbytes, np.uint8)
        self._used[slot] = nbytes

    def view(self, slot: int) -> Bytes:
        """The part in use."""
        return self._memory[slot][: self._used[slot]]


def _real(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the numbers of a tensor that is averaged."""
    found = real_dtype(dtype)
    return dtype if found is None else found


def _ahead(steps: Iterator[_Step]) -> Iterator[tuple[_Step, _Step | None]]:
    """Each step with the one after it."""
    current = next(steps, None)
    while current is not None:
        after = next(steps, None)
        yield current, after
        current = after


def _drain(reading: Iterable[Future[None]]) -> None:
    """Wait for reads whose outcome no longer matters, so that their files can be closed."""
    for job in reading:
        job.cancel()
        if not job.cancelled():
            job.exception()


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, _THREADS_MAX))
