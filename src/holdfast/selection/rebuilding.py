"""Making an average again from its recipe, and proving that it is what the recipe says."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from holdfast.engine.checkpoint_files import open_files
from holdfast.errors import CheckpointNotFoundError, DamagedError, FormatError, LoadError
from holdfast.manifest import is_checkpoint_name
from holdfast.selection.averaging import Averaged, average
from holdfast.selection.members import file_digest, open_member, weights_digest
from holdfast.selection.record import MemberRecord, Recipe, recipe_of
from holdfast.selection.request import Checkpoint, Prepared, attempt, requested
from holdfast.selection.stream import AverageStream
from holdfast.storage import LocalRun

_Make: TypeAlias = "Callable[[Prepared], RecipeCheck]"
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
}


@dataclass(frozen=True, slots=True)
class RecipeCheck:
    """The outcome of `verify_recipe`.

    tensors: how many were computed again. different: those that came out otherwise. unverifiable:
    statistics that were measured by running the model, which the recipe cannot repeat.
    """

    tensors: int
    different: tuple[str, ...]
    unverifiable: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether every tensor that can be computed again is the same bit for bit."""
        return not self.different


def read_recipe(checkpoint: Checkpoint) -> Recipe:
    """The recipe of a written average. Raises LoadError if it has none or cannot be trusted."""
    real = Path(checkpoint).resolve()
    with open_files(LocalRun(real.parent), real.name) as files:
        return recipe_of(files.manifest, where=files.place)


def verify_recipe(checkpoint: Checkpoint, *, search: Sequence[Checkpoint] = ()) -> RecipeCheck:
    """Compute an average again from its members, and compare every tensor; writes nothing.

    search: folders to look for members in, besides where they were and the average's own run
    folder; members are known by their digests, wherever they are now.
    Raises CheckpointNotFoundError if a member is gone, LoadError if one or the average itself is
    damaged.
    """
    path = Path(checkpoint)
    recipe = read_recipe(path)
    found = _locate(recipe, path, search)
    committed = _digests(path)

    def make(prepared: Prepared) -> RecipeCheck:
        stream = AverageStream(prepared.members, prepared.weights, prepared.plan)
        for _ in stream.blocks():
            pass
        computed = stream.digests
        skipped = set(recipe.recalibrated)
        names = computed.keys() | committed.keys()
        different = sorted(
            name
            for name in names
            if computed.get(name) != committed.get(name) and name not in skipped
        )
        return RecipeCheck(len(computed.keys() - skipped), tuple(different), recipe.recalibrated)

    return _run(recipe, found, make)


def rebuild(
    checkpoint: Checkpoint, output: Checkpoint, *, search: Sequence[Checkpoint] = ()
) -> Averaged:
    """Write the average of this recipe again, into `output`: the same bits from the same members.

    Raises as `verify_recipe` and `average` do, and FormatError if statistics were measured by
    running the model.
    """
    path = Path(checkpoint)
    recipe = read_recipe(path)
    if recipe.recalibrated:
        raise FormatError(
            f"{len(recipe.recalibrated)} statistics of this average were measured by running it",
            where=str(path),
            fix="average the members again, with recalibrate= on the same data",
        )
    found = _locate(recipe, path, search)
    return average(
        found,
        output,
        weights=recipe.weights,
        only=recipe.only,
        rules=dict(recipe.rules),
        dtype=_dtype(recipe, str(path)),
        check_config=False,
        component=recipe.component,
    )


def _run(recipe: Recipe, found: Sequence[Path], make: _Make) -> RecipeCheck:
    request = requested(
        found,
        recipe.weights,
        recipe.only,
        dict(recipe.rules),
        _dtype(recipe, "the recipe"),
        check_config=False,
        component=recipe.component,
    )
    return attempt(request, make)[0]


def _dtype(recipe: Recipe, where: str) -> torch.dtype | None:
    if recipe.dtype is None:
        return None
    dtype = _DTYPES.get(recipe.dtype)
    if dtype is None:
        raise FormatError(f"The recipe asks for averages as {recipe.dtype[:40]!r}", where=where)
    return dtype


def _digests(path: Path) -> dict[str, bytes]:
    """The committed digests of the average's tensors, proven against its bytes."""
    member = open_member(path)
    try:
        with contextlib.ExitStack() as stack:
            real = path.resolve()
            files = stack.enter_context(open_files(LocalRun(real.parent), real.name))
            damage = files.damage()
            if damage:
                raise DamagedError("; ".join(damage), where=str(path), fix="rebuild it elsewhere")
        return {name: member.committed(name) or b"" for name in member.tensors}
    finally:
        member.close()


def _locate(recipe: Recipe, path: Path, search: Sequence[Checkpoint]) -> list[Path]:
    """Where every member is now. Raises CheckpointNotFoundError naming those that are gone."""
    own_run = path.resolve().parent.parent
    folders = [own_run, *(Path(folder) for folder in search)]
    found = [_find(record, folders, recipe.component) for record in recipe.members]
    gone = [
        record.name for record, place in zip(recipe.members, found, strict=True) if place is None
    ]
    if gone:
        raise CheckpointNotFoundError(
            f"{len(gone)} of {len(found)} members are gone: {', '.join(gone[:5])}",
            where=str(path),
            fix="name the folders they may be in with search=[...]; pin members to keep them",
        )
    return [place for place in found if place is not None]


def _find(record: MemberRecord, folders: Sequence[Path], component: str) -> Path | None:
    """The checkpoint with the record's digest: where it was, by its name, then by looking."""
    likely = [Path(record.path), *(folder / record.name for folder in folders)]
    for place in likely:
        if _has_digest(place, record, component):
            return place
    for folder in folders:
        for name in LocalRun(folder).names() if record.id is not None else ():
            if is_checkpoint_name(name) and _has_digest(folder / name, record, component):
                return folder / name
    return None


def _has_digest(place: Path, record: MemberRecord, component: str) -> bool:
    try:
        if record.id is None:
            return place.is_file() and file_digest(place) == record.digest
        if not place.is_dir():
            return False
        real = place.resolve()
        with open_files(LocalRun(real.parent), real.name) as files:
            return weights_digest(files, component) == record.digest
    except LoadError:
        return False
