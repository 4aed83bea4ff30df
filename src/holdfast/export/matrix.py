"""The matrix of shapes an artifact is compared on: what a single example never shows.

An exporter that succeeds proves nothing about other shapes: sizes of one are specialised, mask
values are folded in, lengths are baked into reshapes. So each axis is tried at both ends of its
range with the others elsewhere, all at their shortest, unlike the example, and padded in every row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.export.graph import Graph
from holdfast.export.signature import Axis, Input, Signature

_EXAMPLE_SIZES = (3, 7, 5, 11, 13, 17)
_OTHER_SIZES = (2, 9, 4, 6, 15, 10)
_SMALL_MAX = 3


@dataclass(frozen=True)
class Case:
    """One set of inputs. name: what is special about it. sizes: by axis."""

    name: str
    sizes: Mapping[str, int]
    inputs: tuple[Tensor, ...]


def example_case(graph: Graph, *, seed: int = 0) -> Case:
    """Inputs to trace with: no size of one, and no two axes of one size, where ranges allow it."""
    return _case(graph, "the example", _distinct(graph.signature, _EXAMPLE_SIZES), seed)


def draw_case(graph: Graph, sizes: Mapping[str, int], *, seed: int = 0) -> Case:
    """Inputs of the given sizes, one for each axis of the graph, without padding."""
    case = _case(graph, "as asked for", sizes, seed)
    graph.signature.check([to_numpy_like(tensor) for tensor in case.inputs])
    return case


def shape_matrix(graph: Graph, *, seed: int = 0) -> list[Case]:
    """Every case an artifact of the graph is compared on; the example comes first.

    Values are drawn anew for each case. Raises ConfigError if `make_inputs` of the graph returns
    what its signature refuses.
    """
    cases = [example_case(graph, seed=seed)]
    for index, (name, sizes, padded) in enumerate(_plan(graph.signature), start=1):
        cases.append(_case(graph, name, sizes, seed + index, padded=padded))
    for case in cases:
        graph.signature.check([to_numpy_like(tensor) for tensor in case.inputs])
    return cases


def _plan(signature: Signature) -> Iterator[tuple[str, dict[str, int], bool]]:
    axes = signature.axes
    others = _distinct(signature, _OTHER_SIZES)
    small = {
        name: min(max(others[name], axis.min), max(axis.min, _SMALL_MAX))
        for name, axis in axes.items()
    }
    seen: list[dict[str, int]] = [_distinct(signature, _EXAMPLE_SIZES)]
    shortest = {name: axis.min for name, axis in axes.items()}
    plans = [("everything shortest", shortest), ("unlike the example", others)]
    for name, axis in axes.items():
        plans.append((f"{name} {axis.min}", {**others, name: axis.min}))
        plans.append((f"{name} {axis.max}, the longest", {**small, name: axis.max}))
    for name, sizes in plans:
        if sizes not in seen:
            seen.append(sizes)
            yield name, sizes, False
    if any(one.pad is not None or one.mask for one in signature.inputs):
        yield "padded in every row", others, True


def _distinct(signature: Signature, wanted: tuple[int, ...]) -> dict[str, int]:
    """A size for each axis as close to the wanted ones as its range lets it be, all different."""
    sizes: dict[str, int] = {}
    for index, (name, axis) in enumerate(signature.axes.items()):
        size = min(max(wanted[index % len(wanted)], axis.min), axis.max)
        free = [s for s in _near(size, axis) if s not in sizes.values() and s != 1]
        sizes[name] = free[0] if free else size
    return sizes


def _near(size: int, axis: Axis) -> Iterator[int]:
    for distance in range(16):
        for candidate in (size + distance, size - distance):
            if axis.min <= candidate <= axis.max:
                yield candidate


def _case(
    graph: Graph, name: str, sizes: Mapping[str, int], seed: int, *, padded: bool = False
) -> Case:
    generator = torch.Generator().manual_seed(seed)
    if graph.make_inputs is not None:
        inputs = tuple(graph.make_inputs(sizes, generator))
        if len(inputs) != len(graph.signature.inputs):
            raise ConfigError(
                f"make_inputs of the graph {graph.name} returned {len(inputs)} inputs, its "
                f"signature has {len(graph.signature.inputs)}"
            )
        return Case(name, sizes, inputs)
    lengths: dict[str, Tensor] = {}
    inputs = tuple(
        _draw(one, sizes, generator, lengths if padded else None) for one in graph.signature.inputs
    )
    return Case(name, sizes, inputs)


def _draw(
    one: Input,
    sizes: Mapping[str, int],
    generator: torch.Generator,
    lengths: dict[str, Tensor] | None,
) -> Tensor:
    shape = [axis if isinstance(axis, int) else sizes[axis.name] for axis in one.axes]
    values = _values(one, shape, generator)
    if one.mask:
        values = torch.ones_like(values)
    if lengths is None or not (one.mask or one.pad is not None) or values.numel() == 0:
        return values
    last = one.axes[-1]
    if not isinstance(last, Axis) or shape[-1] < 2:
        return values
    kept = lengths.setdefault(last.name, _row_lengths(shape, generator))
    padding = torch.arange(shape[-1]) >= kept.reshape(*kept.shape, 1)
    return values.masked_fill(padding, 0 if one.mask else one.pad or 0)


def _row_lengths(shape: list[int], generator: torch.Generator) -> Tensor:
    """At least one place used and at least one padded in every row."""
    return torch.randint(1, shape[-1], shape[:-1], generator=generator)


def _values(one: Input, shape: list[int], generator: torch.Generator) -> Tensor:
    dtype = getattr(torch, one.dtype)
    if one.dtype == "bool":
        return torch.randint(0, 2, shape, generator=generator).bool()
    if one.is_integer:
        low, high = int(one.low), int(one.high)
        values = torch.randint(low, high + 1, shape, generator=generator)
        if one.pad is not None and low <= one.pad <= high and low < high:
            # What is not padding must not look like it.
            substitute = one.pad + 1 if one.pad < high else one.pad - 1
            values = values.masked_fill(values == one.pad, substitute)
        return values.to(dtype)
    return torch.randn(shape, generator=generator).clamp(one.low, one.high).to(dtype)


def to_numpy_like(tensor: Tensor) -> NDArray[Any]:
    """The tensor as `Signature.check` wants it; bfloat16, which NumPy lacks, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
