"""What makes two releases the same: the parts of the content digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.export.formats import find_format
from holdfast.export.record import RECORD_FILE, ReleaseRecord, json_digest, sha256_of
from holdfast.export.source import Weights
from holdfast.export.target import About, Exportable
from holdfast.export.verifying import verify_release
from holdfast.jsontext import Json
from holdfast.storage.durable import entry_exists
from holdfast.tensorfile import byte_chunks

WEIGHT_FORMATS = ("safetensors", "pt")
_CHUNK_BYTES = 4 << 20


def graph_formats(formats: Sequence[str]) -> list[str]:
    """The formats that are of graphs, by their own names. Raises ConfigError for unknown ones."""
    return [find_format(name).name for name in formats if name not in WEIGHT_FORMATS]


def release_identity(
    target: Exportable, weights: Weights, formats: Sequence[str], about: About
) -> dict[str, str]:
    """The parts by name, each as a digest or short text."""
    names = graph_formats(formats)
    signatures: dict[str, Json] = {g.name: g.signature.to_dict() for g in target.graphs}
    given: dict[str, Json] = {
        name: hashlib.sha256(value).hexdigest()
        if isinstance(value, bytes)
        else sha256_of(Path(value))
        for name, value in target.files.items()
    }
    return {
        "weights": _weights_digest(weights.tensors),
        "config": json_digest(weights.config),
        "signatures": json_digest(signatures),
        "formats": " ".join(sorted({*names} | ({"pt"} & {*formats}))),
        "files": json_digest(given),
        "licence": about.licence or "",
        "name": about.name,
    }


def _weights_digest(tensors: Mapping[str, Tensor]) -> str:
    hasher = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        hasher.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        for chunk in byte_chunks(tensor, _CHUNK_BYTES) if tensor.numel() else ():
            hasher.update(chunk)
    return hasher.hexdigest()


def find_released(place: Path, version: str, identity: Mapping[str, str]) -> ReleaseRecord | None:
    """The release that is there already, if it is this one. Raises ConfigError if it is another."""
    if not entry_exists(place):
        return None
    if not (place / RECORD_FILE).is_file():
        raise ConfigError("Something else has the name of the release", where=str(place))
    check = verify_release(place)
    record = check.record
    differing = [part for part, value in identity.items() if record.identity.get(part) != value]
    if record.version != version:
        differing.append("version")
    if differing:
        raise ConfigError(
            f"Version {record.version} was released already with other content: "
            f"{', '.join(differing)} differ",
            where=str(place),
            fix="releases never change: choose the next version",
        )
    if check.damaged:
        raise ConfigError(
            f"The release is there already, and damaged: {check.problems[0]}",
            where=str(place),
            fix="move it away and release again",
        )
    return record
