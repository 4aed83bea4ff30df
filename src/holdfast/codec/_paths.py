"""File system paths.

A path made by Path() comes back as a path of the system it is read on. Where the file was written
on a system with other rules, a relative path is translated; an absolute one leads nowhere here and
comes back as a pure path that still says what it was.
"""

from __future__ import annotations

from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from holdfast.codec._payload import want_fields, want_str
from holdfast.codec._tag import DecodeChild, EncodeChild, Tag
from holdfast.jsontext import Json

_FLAVOURS: dict[str, type[PurePath]] = {"posix": PurePosixPath, "windows": PureWindowsPath}
_HERE = "windows" if issubclass(type(Path()), PureWindowsPath) else "posix"


def _encode_path(value: Path, child: EncodeChild) -> Json:
    return {"flavour": _HERE, "path": _encode_pure(value, child)}


def _decode_path(payload: Json, child: DecodeChild) -> PurePath:
    fields = want_fields(payload, "flavour", "path")
    flavour = want_str(fields["flavour"])
    if flavour not in _FLAVOURS:
        raise ValueError('its flavour is neither "posix" nor "windows"')
    text = want_str(child(fields["path"]))
    if flavour == _HERE:
        return Path(text)
    foreign = _FLAVOURS[flavour](text)
    return foreign if foreign.anchor else Path(foreign.as_posix())


def _encode_pure(value: PurePath, child: EncodeChild) -> Json:
    text = str(value)
    if type(value)(text) != value:
        raise ValueError("it is no path that its text alone would give")
    return child(text)


def _decode_posix(payload: Json, child: DecodeChild) -> PurePosixPath:
    return PurePosixPath(want_str(child(payload)))


def _decode_windows(payload: Json, child: DecodeChild) -> PureWindowsPath:
    return PureWindowsPath(want_str(child(payload)))


PATH_TAGS = (
    Tag("path", type(Path()), _encode_path, _decode_path),
    Tag("PurePosixPath", PurePosixPath, _encode_pure, _decode_posix),
    Tag("PureWindowsPath", PureWindowsPath, _encode_pure, _decode_windows),
)
