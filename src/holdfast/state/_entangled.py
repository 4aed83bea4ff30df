"""Live tensors that share memory without being the same region: transposed ties, expanded views.

Writing one changes part of another, so they are filled in fresh memory, and copied only if the
saved values agree wherever the live ones share an element.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor

from holdfast.errors import MismatchError
from holdfast.state._regions import Region
from holdfast.state.problems import Problem

# First byte, end, and whose they are.
_Span: TypeAlias = "tuple[int, int, Region]"


def entangled_names(tensors: Mapping[str, Tensor], regions: Mapping[str, Region]) -> frozenset[str]:
    """Names of tensors whose address range meets that of another region, or that overlap
    themselves (dimensions of stride 0). regions: of each, by name.
    """
    names: dict[Region, list[str]] = {}
    for name in tensors:
        names.setdefault(regions[name], []).append(name)
    spans: dict[torch.device, list[_Span]] = {}
    for key, alike in names.items():
        tensor = tensors[alike[0]]
        spans.setdefault(tensor.device, []).append((tensor.data_ptr(), _end(tensor), key))
    found = {key for key, alike in names.items() if _is_expanded(tensors[alike[0]])}
    for here in spans.values():
        here.sort(key=_begin)
        widest = here[0]
        for span in here[1:]:
            if span[0] < widest[1]:
                found |= {span[2], widest[2]}
            if span[1] > widest[1]:
                widest = span
    return frozenset(name for key in found for name in names[key])


@torch.no_grad()
def prove_entangled(component: str, pairs: Iterable[tuple[str, Tensor, Tensor]]) -> None:
    """Try to copy saved tensors (name, live, saved) into a copy of the memory they share.

    Raises MismatchError if the saved values contradict each other there.
    """
    copies: dict[int, torch.UntypedStorage] = {}
    trial = [(name, _twin(live, copies), saved) for name, live, saved in pairs]
    for _, twin, saved in trial:
        _write(twin, saved)
    problems = [
        Problem("alias", component, name, "the value shared with others", "another value")
        for name, twin, saved in trial
        if not _same_bytes(twin, saved.to(twin.dtype))
    ]
    if problems:
        raise MismatchError(
            "Tensors that share memory here were saved with values that contradict each other",
            problems=problems,
            where=component,
            fix="load into a module whose tensors do not share memory, or load only one of them",
        )


@torch.no_grad()
def write_entangled(component: str, pairs: Iterable[tuple[str, Tensor, Tensor]]) -> None:
    """Copy saved tensors (name, live, saved) into live ones that share memory, once proven."""
    pairs = list(pairs)
    prove_entangled(component, pairs)
    for _, live, saved in pairs:
        _write(live, saved)


def _twin(live: Tensor, copies: dict[int, torch.UntypedStorage]) -> Tensor:
    storage = live.untyped_storage()
    if storage.data_ptr() not in copies:
        copies[storage.data_ptr()] = storage.clone()  # type: ignore[no-untyped-call]
    copy = copies[storage.data_ptr()]
    empty = torch.empty(0, dtype=live.dtype, device=live.device)
    return empty.set_(copy, live.storage_offset(), live.shape, live.stride())


def _write(live: Tensor, saved: Tensor) -> None:
    for dimension, stride in enumerate(live.stride()):
        if stride == 0 and live.shape[dimension] > 1:
            live, saved = live.narrow(dimension, 0, 1), saved.narrow(dimension, 0, 1)
    live.copy_(saved)


def _same_bytes(left: Tensor, right: Tensor) -> bool:
    views = [tensor.contiguous().view(-1).view(torch.uint8) for tensor in (left, right)]
    return torch.equal(views[0], views[1])


def _begin(span: _Span) -> int:
    return span[0]


def _end(tensor: Tensor) -> int:
    if tensor.is_contiguous():
        return tensor.data_ptr() + tensor.nbytes
    last = sum(
        (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
    return tensor.data_ptr() + (last + 1) * tensor.element_size()


def _is_expanded(tensor: Tensor) -> bool:
    return not tensor.is_contiguous() and any(
        stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )
