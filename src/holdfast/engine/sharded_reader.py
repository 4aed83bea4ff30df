"""Filling tensors, or the parts of them that lie here, from the pieces of a sharded checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from holdfast.engine._targets import plan_target, synchronize
from holdfast.engine.boxes import whole
from holdfast.engine.cut_reader import read_cuts
from holdfast.engine.pieces import Piece, Whole
from holdfast.engine.ranges import Progress, serialised
from holdfast.engine.reader import check_targets, read_into
from holdfast.engine.tensor_file import TensorFile
from holdfast.engine.windows import route
from holdfast.errors import HoldfastError, InterruptedLoadError, MismatchError
from holdfast.state import local_part
from holdfast.tensorfile import TensorSpec, allocate


def wholes_of_file(file: TensorFile, names: Iterable[str]) -> dict[str, Whole]:
    """Tensors that are stored in one piece each."""
    found = {}
    for name in names:
        shape = tuple(_shell(file, name).shape)
        found[name] = Whole(shape, (Piece(file, whole(shape)),))
    return found


def check_route(wholes: Mapping[str, Whole], targets: Mapping[str, Tensor], place: str) -> None:
    """Prove that every target can take its stored tensor, or its part of it; touches none.

    Raises MismatchError listing every target that cannot.
    """
    problems = [
        f"{name}: {problem}"
        for name, target in targets.items()
        if (problem := _problem(wholes, name, target)) is not None
    ]
    if problems:
        raise MismatchError(
            f"{len(problems)} of {len(targets)} tensors cannot be loaded where they are to go; "
            "nothing was changed:",
            problems=problems,
            where=place,
        )
    for file, here in route(wholes, targets).entire.values():
        check_targets(file, here)


def fill_route(
    wholes: Mapping[str, Whole],
    targets: Mapping[str, Tensor],
    place: str,
    *,
    hashed: bool,
    progress: Progress,
) -> None:
    """Read what each target holds of its stored tensor straight into it.

    hashed: also read, and prove, the rest of pieces that are wanted in part. Pieces wanted whole
    are always hashed on the way. Extra memory: a few MiB per thread.
    Raises MismatchError before anything is written; InterruptedLoadError if bytes differ or cannot
    be read: live tensors may have changed by then.
    """
    check_route(wholes, targets, place)
    plan = route(wholes, targets)
    for file, here in plan.entire.values():
        read_into(file, here, progress=progress)
    if not plan.cuts:
        return
    devices = {cut.target.device for cut in plan.cuts}
    synchronize(devices)
    try:
        read_cuts(plan.cuts, hashed=hashed, progress=serialised(progress))
    except (HoldfastError, OSError, RuntimeError) as error:
        what = error.what if isinstance(error, HoldfastError) else str(error)
        raise InterruptedLoadError(
            f"Reading broke off while live tensors were being written: {what}",
            where=place,
            fix="load a sound checkpoint before going on: some tensors hold new values, some old",
        ) from error
    finally:
        synchronize(devices)


def read_whole(found: Whole, name: str, progress: Progress) -> Tensor:
    """One stored tensor put together in new memory on the CPU, proven."""
    first = found.pieces[0]
    if len(found.pieces) == 1 and first.box == whole(found.shape):
        spec = first.file.specs[name]
        tensor = allocate(spec, first.file.notes.get(name), where=first.file.where)
    else:
        tensor = torch.empty(found.shape, dtype=_shell(first.file, name).dtype)
    fill_route({name: found}, {name: tensor}, first.file.where, hashed=True, progress=progress)
    return tensor


def _problem(wholes: Mapping[str, Whole], name: str, target: Tensor) -> str | None:
    found = wholes.get(name)
    if found is None:
        return "not in the checkpoint"
    if tuple(target.shape) != found.shape:
        return f"stored with shape {list(found.shape)}, the target has {list(target.shape)}"
    local = local_part(target)
    file = found.pieces[0].file
    # The part itself is checked where it is read; here only what a whole tensor shows.
    shape = (*local.shape, *file.specs[name].shape[len(found.shape) :])
    spec = TensorSpec(file.specs[name].dtype, shape, 0, 0)
    note = {k: v for k, v in file.notes.get(name, {}).items() if k == "dtype"}
    planned = plan_target(local, spec, note, cast=False, where=file.where)
    return planned if isinstance(planned, str) else None


def _shell(file: TensorFile, name: str) -> Tensor:
    return allocate(file.specs[name], file.notes.get(name), "meta", where=file.where)
