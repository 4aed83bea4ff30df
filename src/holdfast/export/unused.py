"""Parameters, buffers and layers that no output depends on because nothing ever reads them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BATCH_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Unused:
    """What no operation touched on any case of the matrix.

    parameters, buffers: FQNs. layers: modules all of whose own and inner tensors are unused, only
    the outermost. bytes: of the unused tensors.
    """

    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    bytes: int = 0

    @property
    def names(self) -> frozenset[str]:
        """FQNs of all unused tensors."""
        return frozenset((*self.parameters, *self.buffers))

    def __str__(self) -> str:
        if not self.names:
            return "every parameter and buffer is used"
        layers = f"; whole layers: {', '.join(self.layers[:8])}" if self.layers else ""
        shown = ", ".join(sorted(self.names)[:8])
        more = f" and {len(self.names) - 8} more" if len(self.names) > 8 else ""
        return f"{len(self.names)} tensors ({self.bytes} bytes) are never used: {shown}{more}" + (
            layers
        )


def find_unused(module: nn.Module, calls: Sequence[Sequence[Tensor]]) -> Unused:
    """Make every call and list what no operation read.

    A tensor counts as used if an operation took it or any view of its memory; so tied tensors are
    used together. What only decides by its value in Python counts as read, too. The batch counters
    of normalisation are bookkeeping of training, and not listed.
    """
    touched: set[int] = set()
    with torch.no_grad(), _Recorder(touched):
        for inputs in calls:
            module(*inputs)
    parameters = _untouched(module.named_parameters(remove_duplicate=False), touched)
    buffers = _untouched(module.named_buffers(remove_duplicate=False), touched)
    idle = {**parameters, **buffers}
    memory = {tensor.untyped_storage()._cdata: tensor.nbytes for tensor in idle.values()}
    return Unused(tuple(parameters), tuple(buffers), _outermost(module, idle), sum(memory.values()))


def without_unused(module: nn.Module, unused: Unused) -> nn.Module:
    """A copy of the module in which unused tensors are None and unused layers are gone.

    The caller proves that it still answers the same.
    """
    slim = copy.deepcopy(module)
    for name in unused.names:
        path, _, leaf = name.rpartition(".")
        owner = slim.get_submodule(path)
        (owner._parameters if leaf in owner._parameters else owner._buffers)[leaf] = None
    return slim


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the memory of every tensor an operation takes."""

    def __init__(self, touched: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._touched = touched

    def __torch_dispatch__(  # type: ignore[no-untyped-def]
        self, function, types, arguments=(), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        for leaf in tree_leaves((arguments, keywords or {})):
            if isinstance(leaf, Tensor):
                self._touched.add(leaf.untyped_storage()._cdata)
        return function(*arguments, **(keywords or {}))


def _untouched(named: Iterable[tuple[str, Tensor]], touched: set[int]) -> dict[str, Tensor]:
    return {
        name: tensor
        for name, tensor in named
        if tensor.numel()
        and not name.endswith(BATCH_COUNTER)
        and tensor.untyped_storage()._cdata not in touched
    }


def _outermost(module: nn.Module, idle: Mapping[str, Tensor]) -> tuple[str, ...]:
    found: list[str] = []
    for name, part in module.named_modules():
        if not name or any(name.startswith(f"{other}.") for other in found):
            continue
        own = [
            f"{name}.{leaf}"
            for leaf, _ in (
                *part.named_parameters(remove_duplicate=False),
                *part.named_buffers(remove_duplicate=False),
            )
        ]
        if own and all(leaf in idle for leaf in own):
            found.append(name)
    return tuple(found)
