"""The records that pass between live objects, the engine and the restore plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from holdfast.errors import LoadError
from holdfast.jsontext import Json
from holdfast.state.sharded import Placed

Kind: TypeAlias = Literal["module", "optimizer", "object"]


@dataclass(frozen=True, slots=True)
class ComponentState:
    """One captured component: everything it is made of, nothing copied yet.

    tree: tagged JSON, tensors by reference to a stored name. tensors: stored name to tensor,
    detached, in state-dict order, each memory region once; they are views of the live memory, so
    the caller copies or writes them before training goes on. aliases: a further state-dict name
    to the stored name whose tensor it is (tied weights); only modules have them, because trees
    simply refer to the same stored name twice. frozen: stored names of parameters that take no
    gradient, which are likely to be the same at the next save. placed: by stored name, where a
    tensor that is spread over ranks belongs; `tensors` has the part that lies here. buffers: stored
    names of a module's tensors that are no parameters.
    """

    name: str
    kind: Kind
    tree: Json
    tensors: Mapping[str, Tensor]
    aliases: Mapping[str, str] = field(default_factory=dict)
    frozen: frozenset[str] = frozenset()
    placed: Mapping[str, Placed] = field(default_factory=dict)
    buffers: frozenset[str] = frozenset()


class StoredTensor(NamedTuple):
    """What is known of a stored tensor without reading its data.

    dtype, shape: as it was when saved. order: its dimensions from the slowest to the fastest in
    memory, where that is not the usual order (channels-last is (0, 2, 3, 1)). digest: of its
    bytes, where known; two tensors with equal digest, dtype, shape and order are equal.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    order: tuple[int, ...] | None = None
    digest: str | None = None

    def allocate(self, device: torch.device) -> Tensor:
        """Return an uninitialised tensor of this dtype, shape and memory order on `device`.

        Raises LoadError if there is no memory for it.
        """
        try:
            if self.order is None:
                return torch.empty(self.shape, dtype=self.dtype, device=device)
            return torch.empty_permuted(self.shape, self.order, dtype=self.dtype, device=device)
        except RuntimeError as error:
            raise LoadError(
                f"There is no memory on {device} for a stored {self.dtype} tensor of shape "
                f"{list(self.shape)}",
                fix="free memory, or load the other components alone",
            ) from error

    def same_value(self, other: StoredTensor) -> bool:
        """Whether both are proven equal bit for bit; False where a digest is unknown."""
        return self.digest is not None and self == other


@dataclass(frozen=True, slots=True)
class StoredComponent:
    """One component as a checkpoint holds it; the reading twin of `ComponentState`.

    tensors: stored name (as in `ComponentState.tensors`) to its facts.
    """

    name: str
    kind: str
    tree: Json
    tensors: Mapping[str, StoredTensor]
    aliases: Mapping[str, str] = field(default_factory=dict)
