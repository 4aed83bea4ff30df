"""The record of a release: version, content digest, files, graphs. Without torch.

A release is one folder. `release.json` says what it is, `SHA256SUMS` (the format of `sha256sum`)
has the digest of every file but itself, so that any tool can check it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast import jsontext
from holdfast.errors import CheckpointNotFoundError, ConfigError, FormatError
from holdfast.export.signature import Signature
from holdfast.jsontext import Json

SCHEMA = "holdfast-release/1"
RECORD_FILE = "release.json"
CARD_JSON_FILE = "card.json"
CARD_FILE = "README.md"
SUMS_FILE = "SHA256SUMS"
EXAMPLES_FILE = "examples.safetensors"

_VERSION = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]{1,40})?(\+[0-9A-Za-z.-]{1,40})?"
)
_SUM_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\\\x00-\x1f]{1,255})")
_RECORD_MAX_BYTES = 64 << 20
_READ_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """What release.json says. identity: the parts the content digest is made of, by name.

    artifacts: (graph, format, files) of each. graphs: signatures by name.
    """

    name: str
    version: str
    digest: str
    identity: Mapping[str, str]
    graphs: Mapping[str, Signature]
    artifacts: tuple[tuple[str, str, tuple[str, ...]], ...]
    values: Mapping[str, Any]

    def files_of(self, graph: str, format_name: str) -> tuple[str, ...]:
        """The files of one artifact. Raises ConfigError listing what there is."""
        for one, form, files in self.artifacts:
            if (one, form) == (graph, format_name):
                return files
        there = ", ".join(f"{form} of {one}" for one, form, _ in self.artifacts) or "nothing"
        raise ConfigError(f"The release has no {format_name} of {graph!r}", fix=f"it has {there}")


def check_version(version: str) -> str:
    """The version, if it is one (semver.org, 2.0.0). Raises ConfigError otherwise."""
    if _VERSION.fullmatch(version) is None:
        raise ConfigError(
            f"{version[:80]!r} is no semantic version",
            fix="use major.minor.patch, as in 1.0.0 or 2.1.0-rc.1",
        )
    return version


def content_digest(identity: Mapping[str, str]) -> str:
    """What identifies a release's content: weights, configuration, signatures, formats, files.

    Not the bytes of the artifacts, which differ from export to export with tool versions and times;
    those are in SHA256SUMS.
    """
    return "sha256:" + hashlib.sha256(jsontext.dump(dict(sorted(identity.items())))).hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file as hexadecimal digits."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while data := stream.read(_READ_BYTES):
            hasher.update(data)
    return hasher.hexdigest()


def json_digest(value: Json) -> str:
    """The SHA-256 of a value as canonical JSON: keys sorted, no spaces."""
    import json

    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def render_sums(folder: Path, names: Iterable[str]) -> bytes:
    """The lines of SHA256SUMS."""
    return "".join(f"{sha256_of(folder / name)}  {name}\n" for name in sorted(names)).encode()


def read_sums(folder: Path) -> dict[str, str]:
    """Digest by file name. Raises FormatError if a line is not of that form or names a path."""
    path = folder / SUMS_FILE
    if not path.is_file() or path.is_symlink():
        raise FormatError("The release has no SHA256SUMS", where=str(folder))
    if path.stat().st_size > _RECORD_MAX_BYTES:
        raise FormatError("SHA256SUMS is too large", where=str(path))
    sums: dict[str, str] = {}
    for line in path.read_text("utf-8", "replace").splitlines():
        found = _SUM_LINE.fullmatch(line)
        if found is None or found[2] in sums or found[2] in (".", "..", SUMS_FILE):
            raise FormatError(f"Not a line of SHA256SUMS: {line[:120]!r}", where=str(path))
        sums[found[2]] = found[1]
    return sums


def read_record(folder: Path) -> ReleaseRecord:
    """Read release.json. Raises CheckpointNotFoundError if it is no release, FormatError."""
    path = folder / RECORD_FILE
    if not path.is_file():
        raise CheckpointNotFoundError(
            "The folder is no release: it has no release.json", where=str(folder)
        )
    if path.stat().st_size > _RECORD_MAX_BYTES:
        raise FormatError("release.json is too large", where=str(path))
    values = jsontext.parse_object(path.read_bytes(), where=str(path), max_bytes=_RECORD_MAX_BYTES)
    if values.get("schema") != SCHEMA:
        raise FormatError(
            f"The release has schema {str(values.get('schema'))[:40]!r}, known is {SCHEMA}",
            where=str(path),
            fix="verify it with the holdfast it was made with, or a newer one",
        )
    try:
        return ReleaseRecord(
            name=_text(values["name"]),
            version=check_version(_text(values["version"])),
            digest=_text(values["digest"]),
            identity={_text(k): _text(v) for k, v in values["identity"].items()},
            graphs={
                _text(one["name"]): Signature.from_dict(one["signature"])
                for one in values["graphs"]
            },
            artifacts=tuple(
                (_text(a["graph"]), _text(a["format"]), tuple(map(_text, a["files"])))
                for a in values["artifacts"]
            ),
            values=values,
        )
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise FormatError(f"release.json is not sound: {error!r}", where=str(path)) from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value
