"""`state.json`: the tagged trees of all components, and the digest of every tensor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from holdfast.errors import FormatError, NewerFormatError
from holdfast.jsontext import Json, dump, parse_object

FORMAT = "holdfast-state"
VERSION = 1

_HEX = re.compile(r"[0-9a-f]{32}")
_HEADER = re.compile(r"xxh3-128:[0-9a-f]{32}")
_KINDS = ("module", "optimizer", "object")


@dataclass(frozen=True, slots=True)
class ComponentEntry:
    """One component as saved. tree: tagged JSON; aliases: other name -> stored tensor name.

    more_files: further tensor files, where it is divided over several. shapes: in a sharded
    checkpoint, of each whole tensor by its stored name. per_rank: the trees stand in the parts of
    the ranks, one each.
    """

    name: str
    kind: str
    file: str | None
    tree: Json
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    more_files: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] | None = None
    per_rank: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """All its tensor files."""
        return () if self.file is None else (self.file, *self.more_files)


@dataclass(frozen=True, slots=True)
class TensorFileEntry:
    """One tensor file as saved.

    header: digest of the length prefix and header. tensors: 32 hex digits by tensor name, in
    offset order. notes: what safetensors cannot hold (see holdfast.tensorfile), by tensor name.
    """

    header: str
    tensors: Mapping[str, str]
    notes: Mapping[str, Mapping[str, Json]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class StateFile:
    """The content of a `state.json`. ranks: the files with the parts of the ranks, in order."""

    components: Mapping[str, ComponentEntry]
    files: Mapping[str, TensorFileEntry]
    ranks: tuple[str, ...] = ()


def render_state(state: StateFile) -> bytes:
    """Serialise, with components and files in the order given."""
    document: dict[str, Json] = {
        "format": FORMAT,
        "version": VERSION,
        "components": {
            name: component_to_fields(component) for name, component in state.components.items()
        },
        "files": {name: tensor_file_to_fields(stored) for name, stored in state.files.items()},
    }
    return dump(document | ({"ranks": list(state.ranks)} if state.ranks else {}))


def tensor_file_to_fields(stored: TensorFileEntry) -> dict[str, Json]:
    """A tensor file as JSON fields."""
    return {
        "header": stored.header,
        "tensors": dict(stored.tensors),
        "notes": dict(stored.notes),
    }


def component_to_fields(component: ComponentEntry) -> dict[str, Json]:
    """A component as JSON fields."""
    fields: dict[str, Json] = {
        "kind": component.kind,
        "file": component.file,
        "tree": component.tree,
        "aliases": dict(component.aliases),
    }
    if component.more_files:
        fields["more_files"] = list(component.more_files)
    if component.shapes is not None:
        fields["shapes"] = {name: list(shape) for name, shape in component.shapes.items()}
    if component.per_rank:
        fields["per_rank"] = True
    return fields


def parse_state(data: bytes, *, where: str) -> StateFile:
    """Check and read a `state.json`. Raises FormatError naming the entry that breaks a rule."""
    document = parse_object(data, where=where)
    version = document.get("version")
    if document.get("format") != FORMAT or type(version) is not int or version != VERSION:
        newer = type(version) is int and version > VERSION
        raise (NewerFormatError if newer else FormatError)(
            f"Not a {FORMAT} document of version {VERSION}",
            where=where,
            fix="install a newer holdfast if a newer one wrote it",
        )
    files = {
        name: tensor_file_from_fields(name, entry, where)
        for name, entry in objects_under(document, "files", where)
    }
    if "ranks" in document:
        components = {
            name: sharded_component(name, entry, where)
            for name, entry in objects_under(document, "components", where)
        }
        return StateFile(components, files, rank_names(document, where))
    components = {
        name: component_from_fields(name, entry, files, where)
        for name, entry in objects_under(document, "components", where)
    }
    return StateFile(components, files)


def rank_names(document: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The parts of the ranks a sharded state.json names."""
    ranks = document["ranks"]
    if not isinstance(ranks, list) or not ranks or not all(isinstance(r, str) for r in ranks):
        raise FormatError("ranks must be a list of file names", where=where)
    return tuple(ranks)


def sharded_component(name: str, entry: Mapping[str, Any], where: str) -> ComponentEntry:
    """One component of a sharded checkpoint; its files are known once all parts are read."""
    kind, file, aliases = entry.get("kind"), entry.get("file"), entry.get("aliases")
    more, shapes, per_rank = entry.get("more_files", []), entry.get("shapes"), entry.get("per_rank")
    if kind not in _KINDS:
        raise FormatError(f"The component {name} is of an unknown kind {kind!r}", where=where)
    names_fit = isinstance(more, list) and all(isinstance(f, str) for f in more)
    if not (file is None or isinstance(file, str)) or not names_fit or (more and file is None):
        raise FormatError(f"The component {name} names files that cannot be", where=where)
    if not isinstance(shapes, dict) or not all(map(_is_shape, shapes.values())):
        raise FormatError(f"The component {name} lacks the shapes of its tensors", where=where)
    if not isinstance(aliases, dict) or "tree" not in entry or per_rank not in (None, True):
        raise FormatError(f"The component {name} must hold a tree and aliases", where=where)
    for alias, target in aliases.items():
        if not isinstance(target, str) or target not in shapes or alias in shapes:
            raise FormatError(
                f"The component {name} ties {alias!r} to {target!r}, which cannot be", where=where
            )
    return ComponentEntry(
        name,
        kind,
        file,
        entry["tree"],
        aliases,
        tuple(more),
        {key: tuple(shape) for key, shape in shapes.items()},
        per_rank is True,
    )


def _is_shape(shape: object) -> bool:
    return isinstance(shape, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in shape)


def objects_under(
    document: Mapping[str, Any], key: str, where: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The members of an object of objects. Raises FormatError if it is none."""
    entries = document.get(key)
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise FormatError(f"{key} must be an object of objects", where=where)
    yield from entries.items()


def tensor_file_from_fields(name: str, entry: Mapping[str, Any], where: str) -> TensorFileEntry:
    """Check one tensor file's fields."""
    header, tensors, notes = entry.get("header"), entry.get("tensors"), entry.get("notes")
    if not isinstance(header, str) or _HEADER.fullmatch(header) is None:
        raise FormatError(f"The entry of {name} lacks the digest of its header", where=where)
    if not isinstance(tensors, dict) or not isinstance(notes, dict):
        raise FormatError(f"The entry of {name} must hold tensors and notes", where=where)
    for tensor, digest in tensors.items():
        if not isinstance(digest, str) or _HEX.fullmatch(digest) is None:
            raise FormatError(f"{name} has no digest for the tensor {tensor!r}", where=where)
    for tensor, note in notes.items():
        if tensor not in tensors or not isinstance(note, dict):
            raise FormatError(f"{name} has a note on {tensor!r} that fits no tensor", where=where)
    return TensorFileEntry(header, tensors, notes)


def component_from_fields(
    name: str, entry: Mapping[str, Any], files: Mapping[str, TensorFileEntry], where: str
) -> ComponentEntry:
    """Check one component's fields. files: all there are."""
    kind, file, aliases = entry.get("kind"), entry.get("file"), entry.get("aliases")
    if kind not in _KINDS:
        raise FormatError(f"The component {name} is of an unknown kind {kind!r}", where=where)
    if file is not None and (not isinstance(file, str) or file not in files):
        raise FormatError(f"The component {name} names a file not listed: {file!r}", where=where)
    if not isinstance(aliases, dict) or "tree" not in entry:
        raise FormatError(f"The component {name} must hold a tree and aliases", where=where)
    more = _more_files(name, entry, files, where)
    stored: dict[str, str] = {}
    for each in () if file is None else (file, *more):
        if stored.keys() & files[each].tensors.keys():
            raise FormatError(f"The component {name} stores a tensor twice", where=where)
        stored |= files[each].tensors
    for alias, target in aliases.items():
        if not isinstance(target, str) or target not in stored or alias in stored:
            raise FormatError(
                f"The component {name} ties {alias!r} to {target!r}, which cannot be", where=where
            )
    return ComponentEntry(name, kind, file, entry["tree"], aliases, more)


def _more_files(
    name: str, entry: Mapping[str, Any], files: Mapping[str, TensorFileEntry], where: str
) -> tuple[str, ...]:
    more = entry.get("more_files", [])
    fits = isinstance(more, list) and all(isinstance(f, str) and f in files for f in more)
    if not fits or (more and (entry.get("kind") != "module" or entry.get("file") is None)):
        raise FormatError(
            f"The component {name} names further files that cannot be: {str(more)[:80]}",
            where=where,
        )
    return tuple(more)
