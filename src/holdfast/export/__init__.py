"""Shipping a model: exports that are read back and compared before they get their name.

    ModelExporter                              weights as .pt, .safetensors or a hub folder
    Axis, Input, Signature, tokens             what a graph takes
    exportable, Exportable, release            several formats, gated, as one versioned folder
    verify_release, load_released              without torch: check a release, run its ONNX

Names are resolved when first used: verifying and running a release need no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from holdfast.export.casting import CastEffect
    from holdfast.export.exporter import InferenceCheckpoint, ModelExporter
    from holdfast.export.formats import Artifact, FormatOptions
    from holdfast.export.gate import GateReport
    from holdfast.export.graph import Check, CheckResult, Graph, Runner
    from holdfast.export.matrix import Case, shape_matrix
    from holdfast.export.prepare import prepared
    from holdfast.export.releasing import Release, release
    from holdfast.export.running import ReleasedGraph, load_released
    from holdfast.export.signature import Axis, Input, Signature, tokens
    from holdfast.export.source import Weights, open_weights
    from holdfast.export.target import About, Exportable, exportable
    from holdfast.export.tolerance import Tolerance
    from holdfast.export.unused import without_unused
    from holdfast.export.verifying import ReleaseCheck, verify_release

_HOMES = {
    "About": "target",
    "Artifact": "formats",
    "Axis": "signature",
    "Case": "matrix",
    "CastEffect": "casting",
    "Check": "graph",
    "CheckResult": "graph",
    "Exportable": "target",
    "FormatOptions": "formats",
    "GateReport": "gate",
    "Graph": "graph",
    "InferenceCheckpoint": "exporter",
    "Input": "signature",
    "ModelExporter": "exporter",
    "Release": "releasing",
    "ReleaseCheck": "verifying",
    "ReleasedGraph": "running",
    "Runner": "graph",
    "Signature": "signature",
    "Tolerance": "tolerance",
    "Weights": "source",
    "exportable": "target",
    "load_released": "running",
    "open_weights": "source",
    "prepared": "prepare",
    "release": "releasing",
    "shape_matrix": "matrix",
    "tokens": "signature",
    "verify_release": "verifying",
    "without_unused": "unused",
}

__all__ = [
    "About",
    "Artifact",
    "Axis",
    "Case",
    "CastEffect",
    "Check",
    "CheckResult",
    "Exportable",
    "FormatOptions",
    "GateReport",
    "Graph",
    "InferenceCheckpoint",
    "Input",
    "ModelExporter",
    "Release",
    "ReleaseCheck",
    "ReleasedGraph",
    "Runner",
    "Signature",
    "Tolerance",
    "Weights",
    "exportable",
    "load_released",
    "open_weights",
    "prepared",
    "release",
    "shape_matrix",
    "tokens",
    "verify_release",
    "without_unused",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
