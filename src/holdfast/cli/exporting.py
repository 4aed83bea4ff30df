"""What `holdfast export` does, apart from its options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast.cli.output import note
from holdfast.cli.refs import locate
from holdfast.errors import ConfigError
from holdfast.export import (
    About,
    FormatOptions,
    InferenceCheckpoint,
    ModelExporter,
    Release,
    open_weights,
    release,
)
from holdfast.export.loading import build_exportable

_GRAPH_FORMATS = ("program", "onnx")


def checkpoint_of(ref: str) -> Path:
    """The checkpoint meant; says which one where only a run was named."""
    found = locate(ref)
    if found != Path(ref):
        note(f"exporting {found}")
    return found


def weights_only(
    checkpoint: Path,
    to: Path,
    *,
    component: str,
    dtype: str | None,
    licence: str | None,
    formats: Sequence[str] | None,
) -> InferenceCheckpoint:
    """Write an inference checkpoint; its suffix says which."""
    graphs = [name for name in formats or () if name not in ("pt", "safetensors", "hf")]
    if graphs:
        raise ConfigError(
            f"To export as {graphs[0]} the model's code is needed",
            fix="give --model module:function, which builds it from its configuration",
        )
    return ModelExporter.export_inference_checkpoint(
        checkpoint, to, component=component, dtype=dtype, licence=licence
    )


def release_of(
    checkpoint: Path,
    to: Path,
    *,
    model: str,
    component: str,
    dtype: str | None,
    formats: Sequence[str] | None,
    version: str | None,
    name: str,
    licence: str | None,
    opset: int | None,
    external_data: bool | None,
    remove_unused: bool,
    allow_refusals: bool,
) -> Release:
    """Build the model, put the weights in and release it."""
    if dtype is not None:
        raise ConfigError(
            "--dtype casts weights that are exported alone",
            fix="leave --model out, or build the model in that dtype",
        )
    weights = open_weights(checkpoint, component=component)
    return release(
        build_exportable(model, weights.config),
        to,
        weights=weights,
        formats=formats or _GRAPH_FORMATS,
        version=version,
        about=About(name=name, licence=licence),
        options=FormatOptions(opset, external_data),
        remove_unused=remove_unused,
        allow_refusals=allow_refusals,
    )


def as_data(made: InferenceCheckpoint | Release) -> dict[str, Any]:
    """The outcome as plain data."""
    if isinstance(made, InferenceCheckpoint):
        return {
            "schema": "holdfast-export/1",
            "path": str(made.path),
            "bytes": made.bytes,
            "weights_bytes": made.weights_bytes,
            "source_bytes": made.source_bytes,
            "reduction": made.reduction,
            "cast": None if made.cast is None else made.cast.to_dict(),
            "notes": list(made.notes),
        }
    return {
        "schema": "holdfast-export/1",
        "path": str(made.path),
        "version": made.record.version,
        "digest": made.record.digest,
        "fresh": made.fresh,
        "artifacts": [report.to_dict() for report in made.reports],
        "refused": [
            {"graph": one.graph, "format": one.format, "reasons": list(one.reasons)}
            for one in made.refused
        ],
    }
