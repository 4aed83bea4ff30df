"""Tensors that are spread over ranks (DTensor): which box of the whole lies here, and who has it.

Everything follows from the mesh and the placements, so that every rank can tell without asking.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from holdfast.errors import UnsavableError

_HOME = "torch.distributed.tensor"


@dataclass(frozen=True, slots=True)
class Placed:
    """The part of a tensor that one rank holds.

    shape: of the whole tensor. offsets, sizes: the box that lies here, per dimension. mesh: its
    ranks. places: where in it are those that hold the very same box, this one among them; empty
    where nothing of it lies here because this rank is not in the mesh.
    """

    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    mesh: tuple[int, ...]
    places: tuple[int, ...]

    def holders(self, siblings: Collection[tuple[int, ...]] = ()) -> tuple[int, ...]:
        """Ranks that hold the very same box, ascending.

        siblings: the meshes that other ranks have the same tensor on: a mesh that is a slice of a
        larger one has twins, which hold the same.
        """
        meshes = {self.mesh, *siblings}
        return tuple(sorted({ranks[place] for ranks in meshes for place in self.places}))


def is_sharded(value: object) -> bool:
    """Whether it is a DTensor; nothing is imported to find out."""
    home = sys.modules.get(_HOME)
    return home is not None and isinstance(value, home.DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """The dense tensor of a DTensor's elements that lie here, a view; other tensors themselves."""
    if not is_sharded(tensor):
        return tensor
    sharded: Any = tensor.detach()
    local: Tensor = sharded.to_local()
    return local.detach()


def placed(tensor: Tensor, where: str) -> Placed:
    """Where the local part of a DTensor belongs. Raises UnsavableError for pending sums."""
    sharded: Any = tensor
    found = _placed(sharded.device_mesh, tuple(sharded.placements), tuple(tensor.shape))
    local = tuple(sharded.to_local().shape)
    if isinstance(found, str) or (found.places and found.sizes != local):
        reason = found if isinstance(found, str) else f"laid out so that {list(local)} lie here"
        raise UnsavableError(
            f"The sharded tensor is {reason}, which cannot be saved",
            where=where,
            fix="redistribute it to Shard or Replicate placements first",
        )
    return found


def shard_identity(tensor: Tensor) -> tuple[object, ...]:
    """Equal for two DTensors exactly if they are the same memory placed the same way.

    Parts without elements still have a storage of their own where they are parameters, so that
    ranks without rows agree with the others on what is tied.
    """
    sharded: Any = tensor
    local: Tensor = sharded.to_local()
    if local.is_meta:
        return ("none", id(tensor))
    storage = local.untyped_storage().data_ptr()
    if storage == 0:
        return ("none", id(tensor))
    return (
        "sharded",
        storage,
        local.storage_offset() if local.numel() else -1,
        tuple(tensor.shape),
        local.stride() if local.numel() else (),
        tensor.dtype,
        tuple(sharded.placements),
    )


def new_like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """An uninitialised DTensor of another dtype, placed as this one."""
    return torch.empty_like(tensor.detach(), dtype=dtype)


def placed_as(local: Tensor, like: Tensor) -> Tensor:
    """`local` as the part of a DTensor that lies here, placed as `like` is; shares its memory."""
    sharded: Any = like
    whole: Tensor = sys.modules[_HOME].DTensor.from_local(
        local,
        sharded.device_mesh,
        sharded.placements,
        run_check=False,
        shape=sharded.shape,
        stride=sharded.stride(),
    )
    return whole


@lru_cache(maxsize=65536)
def _placed(mesh: Any, placements: tuple[Any, ...], shape: tuple[int, ...]) -> Placed | str:
    """As a reason in words where it cannot be one box."""
    ranks: Tensor = mesh.mesh
    everyone = tuple(ranks.flatten().tolist())
    coordinate = mesh.get_coordinate()
    if coordinate is None:
        return Placed(shape, (0,) * len(shape), (0,) * len(shape), everyone, ())
    spread: dict[int, Sequence[int]] = {}
    replicas: list[int | slice] = []
    for mesh_dim, (place, mine) in enumerate(zip(placements, coordinate, strict=True)):
        if place.is_partial():
            return "a sum still to be made (Partial)"
        if place.is_replicate():
            replicas.append(slice(None))
            continue
        replicas.append(mine)
        before = spread.get(place.dim, range(shape[place.dim]))
        factor = getattr(place, "split_factor", 1)
        spread[place.dim] = _chosen(before, ranks.size(mesh_dim), mine, factor)
    offsets, sizes = [0] * len(shape), list(shape)
    for dim, indices in spread.items():
        sizes[dim] = len(indices)
        offsets[dim] = indices[0] if indices else shape[dim]
        if indices and indices[-1] - indices[0] + 1 != len(indices):
            return "laid out in stripes on this rank"
    places = torch.arange(ranks.numel()).view(ranks.shape)[tuple(replicas)].flatten().tolist()
    if 0 in sizes and 0 not in shape:
        offsets = [0] * len(shape)
    return Placed(shape, tuple(offsets), tuple(sizes), everyone, tuple(places))


def _chosen(indices: Sequence[int], parts: int, mine: int, split_factor: int) -> Sequence[int]:
    """The indices that part `mine` of `parts` gets, as torch.chunk divides.

    split_factor: into how many pieces another mesh dimension will divide afterwards, so that this
    one takes its share of each (tensor parallel inside fully sharded).
    """
    if split_factor == 1:
        return _chunk(indices, parts, mine)
    pieces = [_chunk(_chunk(indices, split_factor, i), parts, mine) for i in range(split_factor)]
    return [index for piece in pieces for index in piece]


def _chunk(indices: Sequence[int], parts: int, mine: int) -> Sequence[int]:
    size = -(-len(indices) // parts)
    return indices[mine * size : (mine + 1) * size]
