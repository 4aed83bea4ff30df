"""Collecting the tensors of one component under stored names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from holdfast.errors import UnsavableError
from holdfast.state._regions import USUAL, check_savable, has_memory, plain, region
from holdfast.state.sharded import Placed, is_sharded, local_part, placed


class TensorTable:
    """The tensors of one component, each memory region once, under the first name it was given.

    component: named in errors. names: wanted names by `id` of a tensor, for those that trees
    reach by a path that is not their best name; the tensors must outlive the table. prefix: put
    before every path, for components that share a file with others.
    """

    def __init__(
        self, component: str, names: Mapping[int, str] | None = None, *, prefix: str = ""
    ) -> None:
        self.component = component
        self._prefix = prefix
        self.tensors: dict[str, Tensor] = {}
        self.placed: dict[str, Placed] = {}
        self._names = {} if names is None else names
        # Kept alive: two tensors at one address are the same memory only while both exist.
        self._given: dict[str, Tensor] = {}
        self._at: dict[object, tuple[str, ...]] = {}

    def add(self, name: str, tensor: Tensor, like: Tensor | None = None) -> str:
        """Take a tensor in and return the name it is stored under, `name` unless tied or taken.

        like: the tensor in whose place it is stored: where that is sharded, it is a local part.
        Raises UnsavableError for tensors without dense memory of their own.
        """
        address: object
        sharded = type(tensor) not in USUAL and is_sharded(tensor)
        stands_for = tensor
        if like is not None and type(like) not in USUAL and is_sharded(like) and not sharded:
            check_savable(tensor, f"{self.component}: {name}")
            address, stands_for, sharded = ("in place", id(tensor)), like, True
        elif sharded:
            check_savable(local_part(tensor), f"{self.component}: {name}")
            address = region(tensor)
        elif not has_memory(tensor):
            check_savable(tensor, f"{self.component}: {name}")
            address = -id(tensor)
        else:
            address = tensor.data_ptr()
        # Few share an address, and only those need the whole region compared.
        others = self._at.get(address)
        if others is not None:
            for other in others:
                if region(self._given[other]) == region(tensor):
                    return other
        stored = self._free_name(name) if name in self.tensors else name
        self._at[address] = (stored,) if others is None else (*others, stored)
        self._given[stored] = tensor
        if sharded:
            self.placed[stored] = placed(stands_for, f"{self.component}: {name}")
        self.tensors[stored] = plain(local_part(tensor) if sharded else tensor)
        return stored

    def refer(self, value: object, path: str) -> str | None:
        """The codec's question what a leaf it does not know is called; None where not a tensor.

        path: the place as the codec names it, from the component's name on.
        """
        if isinstance(value, np.ndarray):
            return self.add(self._local(path), self._from_numpy(value, path))
        if not isinstance(value, Tensor):
            return None
        if type(value) not in (Tensor, nn.Parameter) and not is_sharded(value):
            raise UnsavableError(
                f"A {type(value).__name__} would come back as a plain tensor",
                where=path,
                fix="keep plain tensors in state dicts, and rebuild the subclass when loading",
            )
        return self.add(self._names.get(id(value), self._local(path)), value)

    def _local(self, path: str) -> str:
        return self._prefix + (path.removeprefix(self.component).removeprefix(".") or "value")

    def _from_numpy(self, array: np.ndarray[Any, Any], path: str) -> Tensor:
        try:
            return torch.from_numpy(array)
        except TypeError as error:
            raise UnsavableError(
                f"A large array of dtype {array.dtype} cannot be saved",
                where=path,
                fix="convert it to a numeric dtype that torch knows",
            ) from error

    def _free_name(self, name: str) -> str:
        count = 2
        while f"{name}~{count}" in self.tensors:
            count += 1
        return f"{name}~{count}"


def tensors_within(value: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dicts, lists and tuples with its dotted path below `prefix`."""
    if isinstance(value, Tensor):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from tensors_within(child, f"{prefix}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            yield from tensors_within(child, f"{prefix}.{index}")
