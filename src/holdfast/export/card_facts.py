"""Everything the card says, as plain values: card.json."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from holdfast.export.building import Built
from holdfast.export.gate import GateReport
from holdfast.export.prepare import Prepared
from holdfast.export.signature import Signature
from holdfast.export.source import Weights
from holdfast.export.target import About
from holdfast.jsontext import Json

SCHEMA = "holdfast-card/1"
_PACKAGES = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "holdfast")
_SHOWN_VALUES = 12


def card_facts(
    head: Mapping[str, Json],
    about: About,
    weights: Weights,
    built: Built,
    latency: Mapping[str, Any],
    files: Sequence[str],
    folder: Path,
) -> dict[str, Json]:
    """The card as plain values. files: given and weights files. folder: where the artifacts are."""
    return {
        "schema": SCHEMA,
        **head,
        "description": about.description,
        "provenance": dict(weights.provenance),
        "weights": _weights(weights),
        "metrics": [dict(one) for one in about.metrics],
        "graphs": [_graph(one) for one in built.graphs],
        "artifacts": [_artifact(one, folder) for one in built.reports],
        "refused": [
            {"graph": one.graph, "format": one.format, "reasons": list(one.reasons)}
            for one in built.refusals
        ],
        "latency": dict(latency),
        "limits": [*about.limits, *_limits(built)],
        "files": [{"name": name, "bytes": (folder / name).stat().st_size} for name in files],
        "environment": _environment(),
    }


def describe_outputs(one: Prepared) -> list[dict[str, Json]]:
    """Name, dtype and shape of every output; sizes by axis where they follow one on all cases."""
    described: list[dict[str, Json]] = []
    for index, name in enumerate(one.graph.signature.outputs):
        outputs = [expected[index] for expected in one.expected]
        described.append(
            {
                "name": name,
                "dtype": str(outputs[0].dtype).removeprefix("torch."),
                "shape": _shape(one, outputs),
            }
        )
    return described


def _shape(one: Prepared, outputs: Sequence[Tensor]) -> list[Json]:
    if len({output.dim() for output in outputs}) != 1:
        return ["varies"]
    shape: list[Json] = []
    for dimension in range(outputs[0].dim()):
        sizes = [output.shape[dimension] for output in outputs]
        if len(set(sizes)) == 1:
            shape.append(sizes[0])
            continue
        axes = [
            name
            for name in one.graph.signature.axes
            if all(size == case.sizes[name] for size, case in zip(sizes, one.cases, strict=True))
        ]
        shape.append(axes[0] if axes else "varies")
    return shape


def _weights(weights: Weights) -> dict[str, Json]:
    unique = weights.unique()
    return {
        "tensors": len(unique),
        "numbers": sum(tensor.numel() for tensor in unique.values()),
        "bytes": weights.bytes,
        "dtypes": sorted({str(t.dtype).removeprefix("torch.") for t in unique.values()}),
        "source_bytes": weights.source_bytes,
        "source_held": list(weights.holds),
        "notes": list(weights.notes),
    }


def _graph(one: Prepared) -> dict[str, Json]:
    example: dict[str, Json] = {
        given.name: {"shape": list(tensor.shape), "first_values": _first(tensor)}
        for given, tensor in zip(one.graph.signature.inputs, one.cases[0].inputs, strict=True)
    }
    return {
        "name": one.graph.name,
        "signature": one.graph.signature.to_dict(),
        "outputs": list(describe_outputs(one)),
        "example": example,
        "unused": {
            "parameters": list(one.unused.parameters),
            "buffers": list(one.unused.buffers),
            "layers": list(one.unused.layers),
            "bytes": one.unused.bytes,
        },
        "removed": sorted(one.removed.names),
    }


def _first(tensor: Tensor) -> list[Json]:
    return [round(value, 6) for value in tensor.flatten()[:_SHOWN_VALUES].tolist()]


def _artifact(report: GateReport, folder: Path) -> dict[str, Json]:
    artifact = report.artifact
    return {
        **report.to_dict(),
        "files": [
            {"name": name, "bytes": (folder / name).stat().st_size} for name in artifact.files
        ],
        "legacy": artifact.legacy,
        "facts": dict(artifact.facts),
    }


def _limits(built: Built) -> list[str]:
    """What every caller must know, derived from the signatures."""
    found = []
    for one in built.graphs:
        signature: Signature = one.graph.signature
        ranges = ", ".join(str(axis) for axis in signature.axes.values())
        if ranges:
            found.append(
                f"{one.graph.name}: made and checked for {ranges}. holdfast's runner refuses other "
                "sizes; ONNX Runtime and compiled packages may answer garbage to them"
            )
        if signature.all_padding == "reject" and any(
            given.pad is not None or given.mask for given in signature.inputs
        ):
            found.append(f"{one.graph.name}: a row of nothing but padding is refused")
    return found


def _environment() -> dict[str, Json]:
    found: dict[str, Json] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
