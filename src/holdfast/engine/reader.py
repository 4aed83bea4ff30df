"""Bytes of a tensor file into tensors: hashed on the way, without a second copy of the state."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from holdfast.digest import Hasher, raw_digest
from holdfast.engine._targets import (
    Stage,
    Target,
    chunk_views,
    plan_direct,
    plan_target,
    synchronize,
)
from holdfast.engine.ranges import (
    CHUNK_BYTES,
    Progress,
    Unit,
    chunks,
    cut_units,
    run_units,
    serialised,
    threads_for,
)
from holdfast.engine.tensor_file import TensorFile
from holdfast.engine.verify import tensor_damage
from holdfast.errors import FormatError, HoldfastError, InterruptedLoadError, MismatchError
from holdfast.tensorfile import allocate, torch_dtype


def check_targets(
    file: TensorFile, targets: Mapping[str, Tensor], *, cast: bool = False
) -> dict[str, Target]:
    """Prove that every target can take the stored tensor of its name; touches none.

    cast: allow another dtype where torch.can_cast does (never float to integer).
    Returns how each is to be written. Raises MismatchError listing every target that cannot.
    """
    return _plan(file, targets, cast=cast)


def read_into(
    file: TensorFile,
    targets: Mapping[str, Tensor],
    *,
    cast: bool = False,
    checked: Mapping[str, Target] | None = None,
    progress: Progress | None = None,
) -> None:
    """Read stored tensors into live ones, by name, hashing the bytes again on the way.

    Contiguous CPU targets are read into where they lie; all others through 512 KiB chunks, pinned
    for CUDA. Extra memory: two chunks per thread. Devices are synchronised before and after.
    checked: what `check_targets` returned, to save doing that again.
    Raises MismatchError before anything is written if a target does not fit; InterruptedLoadError
    if bytes differ or cannot be read, naming what failed: live tensors may have changed by then.
    """
    plan = _checked(targets, checked) or _plan(file, targets, cast=cast)
    try:
        _fill(file, plan, progress)
    except (HoldfastError, OSError, RuntimeError) as error:
        what = error.what if isinstance(error, HoldfastError) else str(error)
        raise InterruptedLoadError(
            f"Reading broke off while live tensors were being written: {what}",
            where=file.where,
            fix="load a sound checkpoint before going on: some tensors hold new values, some old",
        ) from error


def read_fresh(
    file: TensorFile,
    targets: Mapping[str, Tensor],
    *,
    checked: Mapping[str, Target] | None = None,
    progress: Progress | None = None,
) -> None:
    """As `read_into`, where nobody uses the targets yet: one pass reads and proves.

    Raises DamagedError if bytes are not what was committed; the targets then hold no values.
    """
    _fill(file, _checked(targets, checked) or _plan(file, targets, cast=False), progress)


def read_new(
    file: TensorFile,
    names: Iterable[str] | None = None,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Read tensors (all, or `names` in their order) into new memory, proven in the same pass.

    They have the dtype, shape and memory order that was saved. Raises DamagedError if bytes are
    not what was committed, FormatError for an unknown name or a note that fits no tensor.
    """
    chosen = list(file.specs if names is None else names)
    tensors = {name: _allocate(file, name, device) for name in chosen}
    _fill(file, _plan(file, tensors, cast=False), progress)
    return tensors


def iter_tensors(
    file: TensorFile,
    names: Iterable[str] | None = None,
    *,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors one at a time, each proven before it is yielded; as `read_new` otherwise."""
    for name in list(file.specs if names is None else names):
        yield name, read_new(file, [name], device=device)[name]


def _allocate(file: TensorFile, name: str, device: torch.device | str) -> Tensor:
    spec = file.specs.get(name)
    if spec is None:
        raise FormatError(f"The file holds no tensor {name[:200]!r}", where=file.where)
    return allocate(
        spec, file.notes.get(name), device, where=f"{file.where}, tensor {name[:200]!r}"
    )


def _checked(
    targets: Mapping[str, Tensor], checked: Mapping[str, Target] | None
) -> dict[str, Target] | None:
    """The part of an earlier check that these targets are, None if it does not hold any more."""
    if checked is None:
        return None
    plan: dict[str, Target] = {}
    for name, tensor in targets.items():
        target = checked.get(name)
        if target is None or target.tensor is not tensor:
            return None
        # Memory can be freed behind a view of it.
        if target.direct and tensor.untyped_storage().nbytes() < target.reach:
            return None
        plan[name] = target
    return plan


def _plan(file: TensorFile, targets: Mapping[str, Tensor], *, cast: bool) -> dict[str, Target]:
    plan: dict[str, Target] = {}
    problems: list[str] = []
    place = file.where
    specs, notes = file.specs, file.notes
    dtypes: dict[str, torch.dtype] = {}
    for name, tensor in targets.items():
        spec, note = specs.get(name), notes.get(name)
        if spec is None:
            problems.append(f"{name}: not in the file")
            continue
        if note is None:
            dtype = dtypes.get(spec.dtype)
            if dtype is None:
                dtype = dtypes[spec.dtype] = torch_dtype(spec.dtype, where=place)
            direct = plan_direct(tensor, spec, dtype)
            if direct is not None:
                plan[name] = direct
                continue
        where = f"{place}, tensor {name[:200]!r}" if note else place
        planned = plan_target(tensor, spec, note, cast=cast, where=where)
        if isinstance(planned, str):
            problems.append(f"{name}: {planned}")
        else:
            plan[name] = planned
    if problems:
        raise MismatchError(
            f"{len(problems)} of {len(targets)} tensors cannot be loaded where they are to go; "
            "nothing was changed:",
            problems=problems,
            where=file.where,
        )
    return plan


def _fill(file: TensorFile, plan: Mapping[str, Target], progress: Progress | None) -> None:
    report = serialised(progress)
    devices = {target.tensor.device for target in plan.values() if not target.direct}
    synchronize(devices)

    def work(units: Iterator[Unit]) -> None:
        stage = Stage(CHUNK_BYTES, pinned=any(device.type == "cuda" for device in devices))
        with torch.no_grad():
            for unit in units:
                _fill_unit(file, unit, plan, stage, report)

    try:
        units = cut_units(file.specs, plan)
        run_units(units, work, threads=threads_for(units))
    finally:
        synchronize(devices)
        direct = [target.tensor for target in plan.values() if target.direct]
        # Autograd and the torn-copy detector must see that these were written.
        torch.autograd.graph.increment_version(t for t in direct if not t.is_inference())


def _fill_unit(
    file: TensorFile,
    unit: Unit,
    plan: Mapping[str, Target],
    stage: Stage,
    report: Progress,
) -> None:
    if unit.end - unit.begin <= CHUNK_BYTES:
        _fill_batch(file, unit, plan, stage)
        report(unit.end - unit.begin)
        return
    name = unit.names[0]
    target = plan[name]
    fill = _fill_direct if target.direct else _fill_staged
    found = fill(file, unit, target, stage, report)
    if found != file.digests[name]:
        raise tensor_damage(file, name, found).error(file.opened.place)


def _fill_batch(file: TensorFile, unit: Unit, plan: Mapping[str, Target], stage: Stage) -> None:
    """Read small neighbours in one go; each is proven before its target is touched."""
    buffer = stage.acquire()
    data = buffer.view[: unit.end - unit.begin]
    address = buffer.tensor.data_ptr()
    file.opened.read_into(file.file, file.data_start + unit.begin, data)
    specs, digests, first = file.specs, file.digests, unit.begin
    for name in unit.names:
        spec = specs[name]
        begin, end = spec.begin - first, spec.end - first
        found = raw_digest(data[begin:end])
        if found != digests[name]:
            raise tensor_damage(file, name, found).error(file.opened.place)
        target = plan[name]
        if target.direct:
            ctypes.memmove(target.tensor.data_ptr(), address + begin, end - begin)
        elif begin != end:
            stage.copy(buffer, begin, end, target, target.tensor)


def _fill_direct(
    file: TensorFile, unit: Unit, target: Target, stage: Stage, report: Progress
) -> bytes:
    """Read into the target's own memory and return the digest of what then lies there."""
    memory = target.memory()
    hasher = Hasher()
    for begin, end in chunks(unit.begin, unit.end):
        part = memory[begin - unit.begin : end - unit.begin]
        file.opened.read_into(file.file, file.data_start + begin, part)
        hasher.update(part)
        report(len(part))
    return hasher.raw()


def _fill_staged(
    file: TensorFile, unit: Unit, target: Target, stage: Stage, report: Progress
) -> bytes:
    hasher = Hasher()
    begin = file.data_start + unit.begin
    for piece in chunk_views(target.tensor.detach(), CHUNK_BYTES // target.stored.itemsize):
        buffer = stage.acquire()
        size = piece.numel() * target.stored.itemsize
        part = buffer.view[:size]
        file.opened.read_into(file.file, begin, part)
        hasher.update(part)
        stage.copy(buffer, 0, size, target, piece)
        begin += size
        report(size)
    return hasher.raw()
