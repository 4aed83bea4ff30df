"""The manifest as JSON fields: what is written, and the checks that reading makes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from holdfast.errors import FormatError, NewerFormatError
from holdfast.jsontext import Json
from holdfast.manifest.names import MANIFEST_FILE
from holdfast.manifest.record import ComponentRecord, FileRecord, Manifest
from holdfast.manifest.times import iso_time, parse_time
from holdfast.values import Parent, SaveReason

FORMAT = "holdfast"
VERSION = 1

_T = TypeVar("_T")
_DIGEST = re.compile(r"xxh3-128(-parts)?:[0-9a-f]{32}")
_ID = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_KINDS = ("module", "object", "optimizer")
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_KNOWN = frozenset(
    {
        *("format", "version", "id", "epoch", "global_step", "branch", "sequence", "time"),
        *("reason", "metrics", "directions", "components", "files", "counts", "world"),
        *("parents", "provenance", "pinned", "cost"),
    }
)


def manifest_to_fields(manifest: Manifest) -> dict[str, Json]:
    """All fields but the digest, in the order in which people want to read them."""
    fields: dict[str, Json] = {
        "format": FORMAT,
        "version": VERSION,
        "id": manifest.id,
        "epoch": manifest.epoch,
        "global_step": manifest.global_step,
        "branch": manifest.branch,
        "sequence": manifest.sequence,
        "time": iso_time(manifest.time),
        "reason": {"kind": manifest.reason.kind, "text": manifest.reason.text},
        "metrics": {name: metric_out(value) for name, value in manifest.metrics.items()},
        "directions": dict(manifest.directions),
        "components": {
            name: _component_out(component) for name, component in manifest.components.items()
        },
        "files": {
            name: {"bytes": f.bytes, "digest": f.digest, "tensors": f.tensors}
            for name, f in manifest.files.items()
        },
        "counts": {"files": len(manifest.files), "tensors": manifest.tensors},
        "world": dict(manifest.world),
        "parents": [
            {"relation": p.relation, "id": p.id, "name": p.name, "global_step": p.global_step}
            for p in manifest.parents
        ],
        "provenance": dict(manifest.provenance),
        "pinned": manifest.pinned,
    }
    if manifest.cost:
        fields["cost"] = dict(manifest.cost)
    return fields | dict(manifest.extra)


def manifest_from_fields(fields: Mapping[str, Any], *, where: str) -> Manifest:
    """Check every known field and keep the others. Raises FormatError naming the field."""
    top = _Fields(fields, where)
    if top.take("format", str) != FORMAT:
        raise FormatError("Not a holdfast manifest: its format is another", where=where)
    version = top.take("version", int)
    if version != VERSION:
        raise (NewerFormatError if version > VERSION else FormatError)(
            f"The checkpoint has format version {version}, this holdfast reads version {VERSION}",
            where=where,
            fix="install a newer holdfast",
        )
    files = {name: _file(name, entry) for name, entry in top.inner("files").children()}
    components = {
        name: _component(entry, files) for name, entry in top.inner("components").children()
    }
    counts, metrics, directions = (top.inner(key) for key in ("counts", "metrics", "directions"))
    _agree("files", counts.count("files"), len(files), where)
    _agree("tensors", counts.count("tensors"), sum(f.tensors for f in files.values()), where)
    reason = top.inner("reason")
    return Manifest(
        id=top.match("id", _ID),
        epoch=top.take("epoch", int),
        global_step=top.take("global_step", int),
        branch=top.count("branch"),
        sequence=top.count("sequence"),
        time=_time(top),
        reason=SaveReason(reason.take("kind", str), reason.take("text", str)),
        components=components,
        files=files,
        metrics={name: _metric_in(metrics, name) for name in metrics.values},
        directions={name: directions.one_of(name, ("min", "max")) for name in directions.values},
        parents=tuple(_parent(entry) for entry in top.items("parents")),
        world=top.take("world", dict),
        provenance=top.take("provenance", dict),
        pinned=None if fields.get("pinned") is None else top.take("pinned", str),
        cost=top.take("cost", dict) if "cost" in fields else {},
        extra={name: value for name, value in fields.items() if name not in _KNOWN},
    )


class _Fields:
    """One JSON object being checked; knows its place for errors.

    A listing makes many of these, so that the place is put together only when it is needed.
    """

    __slots__ = ("name", "parent", "values", "where")

    def __init__(
        self, values: Mapping[str, Any], where: str, name: str = "", parent: _Fields | None = None
    ) -> None:
        self.values, self.where, self.name, self.parent = values, where, name, parent

    @property
    def path(self) -> str:
        """What stands before the name of a field of this object."""
        return "" if self.parent is None else f"{self.parent.path}{self.name}."

    def wrong(self, name: str, expected: str) -> FormatError:
        found = self.values.get(name)
        return FormatError(
            f"The field {self.path}{name} must be {expected}, found {str(found)[:80]!r}",
            where=self.where,
        )

    def take(self, name: str, kind: type[_T]) -> _T:
        value = self.values.get(name)
        if type(value) is not kind:
            raise self.wrong(name, f"of type {kind.__name__}")
        return value

    def count(self, name: str) -> int:
        value = self.values.get(name)
        if type(value) is not int or not 0 <= value < 2**63:
            raise self.wrong(name, "a count from 0 to 2**63-1")
        return value

    def match(self, name: str, pattern: re.Pattern[str]) -> str:
        value = self.take(name, str)
        if pattern.fullmatch(value) is None:
            raise self.wrong(name, f"of the form {pattern.pattern}")
        return value

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.take(name, str)
        if value not in choices:
            raise self.wrong(name, f"one of {', '.join(choices)}")
        return value

    def inner(self, name: str) -> _Fields:
        return _Fields(self.take(name, dict), self.where, name, self)

    def children(self) -> Iterator[tuple[str, _Fields]]:
        for name in self.values:
            yield name, self.inner(name)

    def items(self, name: str) -> list[_Fields]:
        entries = self.take(name, list)
        if not all(isinstance(entry, dict) for entry in entries):
            raise self.wrong(name, "a list of objects")
        return [
            _Fields(entry, self.where, f"{name}[{index}]", self)
            for index, entry in enumerate(entries)
        ]


def _component_out(component: ComponentRecord) -> dict[str, Json]:
    fields: dict[str, Json] = {
        "kind": component.kind,
        "file": component.file,
        "tensors": component.tensors,
        "bytes": component.bytes,
    }
    return fields | ({"more_files": list(component.more_files)} if component.more_files else {})


def _agree(what: str, said: int, found: int, where: str) -> None:
    if said != found:
        raise FormatError(f"The manifest counts {said} {what} but lists {found}", where=where)


def _time(top: _Fields) -> float:
    try:
        return parse_time(top.take("time", str))
    except ValueError as error:
        raise top.wrong("time", "a UTC time like 2026-11-23T14:00:00.000000Z") from error


def _file(name: str, fields: _Fields) -> FileRecord:
    if _FILE.fullmatch(name) is None or name == MANIFEST_FILE:
        raise FormatError(f"The manifest lists a file named {name[:80]!r}", where=fields.where)
    return FileRecord(
        bytes=fields.count("bytes"),
        digest=fields.match("digest", _DIGEST),
        tensors=fields.count("tensors"),
    )


def _component(fields: _Fields, files: Mapping[str, FileRecord]) -> ComponentRecord:
    file = None if fields.values.get("file") is None else fields.take("file", str)
    if file is not None and file not in files:
        raise fields.wrong("file", "one of the files listed")
    more = fields.values.get("more_files", [])
    if not isinstance(more, list) or any(
        not isinstance(other, str) or other not in files for other in more
    ):
        raise fields.wrong("more_files", "a list of files listed")
    return ComponentRecord(
        kind=fields.one_of("kind", _KINDS),
        file=file,
        tensors=fields.count("tensors"),
        bytes=fields.count("bytes"),
        more_files=tuple(more),
    )


def _parent(fields: _Fields) -> Parent:
    return Parent(
        relation=fields.take("relation", str),
        id=fields.match("id", _ID),
        name=fields.take("name", str),
        global_step=fields.take("global_step", int),
    )


def metric_out(value: float) -> Json:
    """A metric as the manifest writes it: a number, or a non-finite one by name."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _metric_in(metrics: _Fields, name: str) -> float:
    value = metrics.values[name]
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise metrics.wrong(name, "a number, or NaN, Infinity or -Infinity as a string")
    try:
        return float(value)
    except OverflowError as error:
        raise metrics.wrong(name, "a number that a float can hold") from error
