"""`rank-00001-of-00004.json`: what one rank wrote of a sharded checkpoint.

Each rank writes its own, so that nobody gathers the tables of all. Without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.engine.state_file import (
    ComponentEntry,
    TensorFileEntry,
    component_from_fields,
    component_to_fields,
    objects_under,
    tensor_file_from_fields,
    tensor_file_to_fields,
)
from holdfast.errors import FormatError, NewerFormatError
from holdfast.jsontext import Json, dump, parse_object

FORMAT = "holdfast-rank"
VERSION = 1


@dataclass(frozen=True, slots=True)
class RankFile:
    """One rank's part.

    rank: from 0. size: how many there are. save: the manifest's id, so that parts of two saves
    can never be taken for one. components: those kept per rank, with this rank's trees. files: the
    tensor files this rank wrote. offsets: where each tensor of a file begins in the whole one,
    by file and name; left out for tensors that are whole.
    """

    rank: int
    size: int
    save: str
    components: Mapping[str, ComponentEntry] = field(default_factory=dict)
    files: Mapping[str, TensorFileEntry] = field(default_factory=dict)
    offsets: Mapping[str, Mapping[str, tuple[int, ...]]] = field(default_factory=dict)


def rank_file_name(rank: int, size: int) -> str:
    """The name of a rank's part."""
    return f"rank-{rank + 1:05d}-of-{size:05d}.json"


def shard_name(stem: str, rank: int, size: int) -> str:
    """The name of the tensor file of a component, or of the objects, that a rank writes."""
    return f"{stem}-{rank + 1:05d}-of-{size:05d}.safetensors"


def render_rank_file(part: RankFile) -> bytes:
    """Serialise."""
    files: dict[str, Json] = {}
    for name, entry in part.files.items():
        offsets = {key: list(at) for key, at in part.offsets.get(name, {}).items()}
        files[name] = {**tensor_file_to_fields(entry), "offsets": offsets}
    return dump(
        {
            "format": FORMAT,
            "version": VERSION,
            "rank": part.rank,
            "size": part.size,
            "save": part.save,
            "components": {n: component_to_fields(c) for n, c in part.components.items()},
            "files": files,
        }
    )


def parse_rank_file(data: bytes, *, where: str) -> RankFile:
    """Check and read one. Raises FormatError naming the entry that breaks a rule."""
    document = parse_object(data, where=where)
    version = document.get("version")
    if document.get("format") != FORMAT or type(version) is not int or version != VERSION:
        newer = type(version) is int and version > VERSION
        raise (NewerFormatError if newer else FormatError)(
            f"Not a {FORMAT} document of version {VERSION}",
            where=where,
            fix="install a newer holdfast if a newer one wrote it",
        )
    rank, size, save = document.get("rank"), document.get("size"), document.get("save")
    if type(rank) is not int or type(size) is not int or not 0 <= rank < size:
        raise FormatError(f"There is no rank {str(rank)[:20]} of {str(size)[:20]}", where=where)
    if not isinstance(save, str):
        raise FormatError("It does not say which save it belongs to", where=where)
    files: dict[str, TensorFileEntry] = {}
    offsets: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, entry in objects_under(document, "files", where):
        files[name] = tensor_file_from_fields(name, entry, where)
        offsets[name] = _offsets(name, entry, files[name], where)
    components = {
        name: component_from_fields(name, entry, files, where)
        for name, entry in objects_under(document, "components", where)
    }
    return RankFile(rank, size, save, components, files, offsets)


def _offsets(
    file: str, entry: Mapping[str, Any], known: TensorFileEntry, where: str
) -> dict[str, tuple[int, ...]]:
    offsets = entry.get("offsets")
    if not isinstance(offsets, dict):
        raise FormatError(f"The entry of {file} lacks offsets", where=where)
    for name, at in offsets.items():
        fits = isinstance(at, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in at)
        if name not in known.tensors or not fits:
            raise FormatError(f"{file} has an offset for {name!r} that cannot be", where=where)
    return {name: tuple(at) for name, at in offsets.items()}
