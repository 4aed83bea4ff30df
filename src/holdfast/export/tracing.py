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
    """The graph as an exported program; its module must be in evaluation mode. Raises ExportError with the exporter's reason.

    The ranges are those of the signature: an axis the exporter finds it must fix is refused, not
    fixed in silence.
    """
    shapes = as_passed(graph.module, dynamic_shapes(graph.signature))
    with explaining("export the graph", graph.name), quiet(*INTERNAL_WARNINGS):
        return torch.export.export(
            graph.module, example, dynamic_shapes=shapes, strict=False
        )


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


def as_passed(module: nn.Module, per_input: Sequence[Any]) -> tuple[Any, ...]:
    """One thing per input, as torch's exporters want it: inputs of a `*inputs` are a tuple of one."""
    parameters = inspect.signature(module.forward).parameters.values()
    if not any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters):
        return tuple(per_input)
    named = sum(one.kind is not inspect.Parameter.VAR_POSITIONAL for one in parameters)
    return (*per_input[:named], tuple(per_input[named:]))
