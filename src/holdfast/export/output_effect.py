"""What rounded weights do to a model's outputs, on the shape matrix of its graph."""

from __future__ import annotations

import copy

import torch

from holdfast.export.graph import Graph
from holdfast.export.prepare import flatten, prepared
from holdfast.export.source import Weights
from holdfast.export.tolerance import distance, tolerance_for


def output_effect(graph: Graph, original: Weights, rounded: Weights) -> str:
    """Load both into copies of the graph's module and compare; one sentence with the figures.

    The rounded weights are computed with in the module's own dtype, so that only the rounding is
    measured. Raises MismatchError if the weights do not fit the module, ExportError as `prepared`.
    """
    before, after = (copy.deepcopy(graph.module) for _ in range(2))
    original.load_into(before)
    rounded.load_into(after)
    largest, counted, same = 0.0, 0, 0.0
    with prepared(Graph(graph.name, before, graph.signature, graph.make_inputs)) as reference:
        after.eval()
        for case, expected in zip(reference.cases, reference.expected, strict=True):
            with torch.no_grad():
                outputs = flatten(after(*case.inputs))
            for one, other in zip(expected, outputs, strict=True):
                found = distance(one, other, tolerance_for(one.dtype))
                largest = max(largest, found.absolute)
                if found.agreement is not None:
                    counted += found.counted
                    same += found.agreement * found.counted
    share = f", arg-max equal at {same / counted:.2%} of {counted} positions" if counted else ""
    return f"largest difference {largest:.2g}{share}"
