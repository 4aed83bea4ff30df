"""The parts of all ranks, read and put together with `state.json`. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from holdfast.engine.rank_file import RankFile, parse_rank_file, rank_file_name
from holdfast.engine.state_file import ComponentEntry, StateFile, TensorFileEntry
from holdfast.engine.verify import read_proven
from holdfast.errors import FormatError
from holdfast.jsontext import MAX_BYTES
from holdfast.manifest import Manifest
from holdfast.storage.protocol import Opened


def read_parts(opened: Opened, manifest: Manifest, state: StateFile) -> tuple[RankFile, ...]:
    """Read every rank's part, proven; empty if the checkpoint is not sharded.

    Raises DamagedError for bytes that are not what was committed, FormatError if a part is of
    another save, or the parts are not those of ranks 0 to N-1.
    """
    parts: list[RankFile] = []
    for rank, name in enumerate(state.ranks):
        record = manifest.files.get(name)
        if record is None or name != rank_file_name(rank, len(state.ranks)):
            raise FormatError(
                f"The part of rank {rank} of {len(state.ranks)} is said to be {name!r}, which the "
                "manifest does not list",
                where=opened.place,
            )
        data = read_proven(opened, name, record, max_bytes=MAX_BYTES)
        part = parse_rank_file(data, where=f"{opened.place}/{name}")
        if (part.rank, part.size, part.save) != (rank, len(state.ranks), manifest.id):
            raise FormatError(
                f"It is the part of rank {part.rank} of {part.size} of the save {part.save[:40]}, "
                f"not of rank {rank} of {len(state.ranks)} of {manifest.id}",
                where=f"{opened.place}/{name}",
                fix="parts of two saves cannot be put together: take another checkpoint",
            )
        parts.append(part)
    return tuple(parts)


def with_parts(state: StateFile, parts: tuple[RankFile, ...], where: str) -> StateFile:
    """The state with the files of all parts. Raises FormatError if the two do not fit."""
    if not parts:
        return state
    files: dict[str, TensorFileEntry] = dict(state.files)
    for part in parts:
        again = files.keys() & part.files.keys()
        if again:
            raise FormatError(f"Two parts hold the file {min(again)}", where=where)
        files |= part.files
    kept_by_all = {name for name, entry in state.components.items() if entry.per_rank}
    for name, entry in state.components.items():
        for file in entry.files:
            if file not in files:
                raise FormatError(f"No part holds {file} of the component {name}", where=where)
    for part in parts:
        if part.components.keys() != kept_by_all:
            raise FormatError(
                f"Rank {part.rank} keeps other components of its own than state.json says",
                where=where,
            )
    return replace(state, files=files)


def entry_of(
    state: StateFile, parts: tuple[RankFile, ...], component: str, rank: int
) -> ComponentEntry | None:
    """A component as one rank sees it: those kept per rank as that rank kept them."""
    entry = state.components.get(component)
    if entry is None or not entry.per_rank:
        return entry
    return parts[rank].components[component]


def offsets_by_file(parts: tuple[RankFile, ...]) -> dict[str, Mapping[str, tuple[int, ...]]]:
    """Offsets of tensors that are parts of whole ones, by file."""
    return {file: at for part in parts for file, at in part.offsets.items()}
