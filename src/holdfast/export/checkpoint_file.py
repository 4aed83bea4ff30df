"""Weights as one file: `.pt` that loads with `weights_only=True`, or `.safetensors`.

Each is written beside its name, read back with the tools its users have (torch's restricted
unpickling, stock safetensors) and compared tensor by tensor before it gets the name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from holdfast import jsontext
from holdfast.digest import raw_digest
from holdfast.engine.original import read_original
from holdfast.errors import ConfigError, ExportError, FormatError
from holdfast.export.source import Weights
from holdfast.jsontext import Json
from holdfast.storage.block_file import write_block_file
from holdfast.storage.protocol import Block
from holdfast.storage.single_file import commit_file
from holdfast.tensorfile import byte_chunks, byte_view, describe, plan_file

ALIASES_KEY = "holdfast.aliases"
CARD_KEY = "holdfast.provenance"
_CHUNK_BYTES = 4 << 20


def write_weights_file(weights: Weights, target: Path, *, include_config: bool = True) -> None:
    """Write `.pt` or `.safetensors`, by suffix; what had the name before is replaced in one step.

    `.pt`: a dict with `model_state_dict`, `epoch`, `global_step`, `provenance` and, if wanted and
    known, `model_config`. `.safetensors`: tied tensors once, the others' names in the metadata.
    Raises ConfigError for another suffix, ExportError if what was written is not what was meant,
    SaveError for failures of the disk.
    """
    writers = {".pt": _write_pt, ".pth": _write_pt, ".safetensors": write_safetensors}
    write = writers.get(target.suffix)
    if write is None:
        raise ConfigError(
            f"{target.name!r} names no format",
            fix="end the name in .pt or .safetensors, or in nothing for a folder",
        )
    commit_file(target, lambda hidden: write(weights, hidden, include_config))


def write_safetensors(weights: Weights, path: Path, include_config: bool = True) -> None:
    """Write one safetensors file durably and prove it. Raises ExportError, SaveError."""
    write_tensors(weights.unique(), path, _metadata(weights, include_config))


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write tensors as a new safetensors file that stock tools read, durably, and prove it."""
    raw = [name for name, tensor in tensors.items() if "dtype" in describe(tensor)]
    if raw:
        raise ExportError(
            f"Stock safetensors cannot hold the dtype of {raw[0]} ({tensors[raw[0]].dtype})",
            where=str(path),
            fix="export to .pt, or cast the weights",
        )
    plan = plan_file(tensors, metadata)

    def blocks() -> Iterator[Block]:
        yield plan.header
        for name in plan.specs:
            yield from byte_chunks(tensors[name], _CHUNK_BYTES)

    write_block_file(path, plan.total_bytes, blocks(), direct=False)
    _require_equal(tensors, safetensors.torch.load_file(path), path)


def _write_pt(weights: Weights, path: Path, include_config: bool) -> None:
    made = {id(tensor): tensor.clone() for tensor in weights.unique().values()}
    content: dict[str, Any] = {
        "model_state_dict": {name: made[id(one)] for name, one in weights.tensors.items()},
        "epoch": weights.provenance.get("epoch", 0),
        "global_step": weights.provenance.get("global_step", 0),
        "provenance": _plain(weights.provenance),
    }
    if include_config and weights.config is not None:
        content["model_config"] = _plain(weights.config)
    torch.save(content, path)
    try:
        found = read_original(path, numpy_values=False)
    except FormatError as error:
        raise ExportError(
            f"The file holds what safe loading refuses: {error.what}", where=weights.place
        ) from error
    _require_equal(weights.tensors, found["model_state_dict"], path)


def _require_equal(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Every tensor came back with the same name, dtype, shape and bytes."""
    if wanted.keys() != found.keys():
        raise ExportError("The file read back holds other names", where=str(path))
    for name, tensor in wanted.items():
        other = found[name]
        same = tensor.dtype == other.dtype and tensor.shape == other.shape
        if not same or (tensor.numel() and _digest(tensor) != _digest(other)):
            raise ExportError(f"The file read back holds another {name}", where=str(path))


def _digest(tensor: Tensor) -> bytes:
    return raw_digest(byte_view(tensor.resolve_conj().resolve_neg().contiguous()))


def _metadata(weights: Weights, include_config: bool) -> dict[str, str]:
    metadata = {CARD_KEY: jsontext.dump(dict(_short(weights.provenance))).decode()}
    aliases = weights.aliases()
    if aliases:
        metadata[ALIASES_KEY] = jsontext.dump(dict(aliases)).decode()
    if include_config and weights.config is not None:
        metadata["config"] = jsontext.dump(weights.config).decode()
    return metadata


def _short(provenance: Mapping[str, Json]) -> dict[str, Json]:
    """Enough to find the checkpoint again; the whole story is in the card."""
    keys = ("kind", "name", "id", "run", "component", "epoch", "global_step", "path")
    return {key: provenance[key] for key in keys if key in provenance}


def _plain(value: Any) -> Any:
    """Mappings and sequences as dicts and lists, which restricted unpickling takes."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value
