"""A module as an exported program: the one graph that several formats are made from."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from holdfast.export.graph import Graph
from holdfast.export.libraries import INTERNAL_WARNINGS, explaining, quiet
from holdfast.export.signature import Axis, Signature


def trace_program(graph: Graph, example: tuple[Tensor, ...]) -> ExportedProgram:
    """The graph as an exported program; its module must be in evaluation mode.

    The ranges are those of the signature: an axis the exporter finds it must fix is refused, not
    fixed in silence. Raises ExportError with the exporter's reason.
    """
    shapes = nested(graph.module, dynamic_shapes(graph.signature))
    with explaining("export the graph", graph.name), quiet(*INTERNAL_WARNINGS):
        return torch.export.export(graph.module, example, dynamic_shapes=shapes, strict=False)


def dynamic_shapes(signature: Signature) -> tuple[dict[int, Any], ...]:
    """For each input, its varying dimensions as `torch.export.Dim` with name and range."""
    dims = {
        name: Dim(name, min=axis.min, max=axis.max)
        for name, axis in signature.axes.items()
        if not axis.fixed
    }
    return tuple(
        {
            index: dims[axis.name]
            for index, axis in enumerate(one.axes)
            if isinstance(axis, Axis) and not axis.fixed
        }
        for one in signature.inputs
    )


def nested(module: nn.Module, shapes: Sequence[Any]) -> tuple[Any, ...]:
    """One entry for each input in the nesting the exporter wants: those of *args as one tuple."""
    kinds = [one.kind for one in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(shapes)
    before = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:before], tuple(shapes[before:]))
