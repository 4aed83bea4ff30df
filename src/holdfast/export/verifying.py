"""Verifying a release: its files against its sums, its record against itself. Without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.errors import ConfigError, LoadError
from holdfast.export.record import (
    RECORD_FILE,
    SUMS_FILE,
    ReleaseRecord,
    check_version,
    content_digest,
    read_record,
    read_sums,
    sha256_of,
)


@dataclass(frozen=True, slots=True)
class ReleaseCheck:
    """What verifying found. problems: one sentence each, empty if the release is whole."""

    folder: Path
    record: ReleaseRecord
    files: int
    bytes: int
    problems: tuple[str, ...]

    @property
    def damaged(self) -> bool:
        """Whether anything is not as it was released."""
        return bool(self.problems)

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "schema": "holdfast-release-verify/1",
            "name": self.record.name,
            "version": self.record.version,
            "digest": self.record.digest,
            "files": self.files,
            "bytes": self.bytes,
            "damaged": self.damaged,
            "problems": list(self.problems),
        }

    def __str__(self) -> str:
        head = f"{self.record.name} {self.record.version} ({self.record.digest})"
        if not self.problems:
            return f"ok      {head}: {self.files} files, {self.bytes} bytes"
        return "\n".join([f"DAMAGED {head}", *(f"        {one}" for one in self.problems)])


def verify_release(folder: Path) -> ReleaseCheck:
    """Read every file of a release and compare it with what was released.

    Raises CheckpointNotFoundError if the folder is no release, FormatError if its record cannot be
    read at all.
    """
    record = read_record(folder)
    problems: list[str] = []
    try:
        sums = read_sums(folder)
    except LoadError as error:
        sums = {}
        problems.append(error.what)
    present = {entry.name: entry for entry in folder.iterdir()}
    total = 0
    for name, wanted in sums.items():
        entry = present.get(name)
        if entry is None or entry.is_symlink() or not entry.is_file():
            problems.append(f"{name}: missing")
            continue
        total += entry.stat().st_size
        found = sha256_of(entry)
        if found != wanted:
            problems.append(f"{name}: its SHA-256 is {found}, released was {wanted}")
    problems += [
        f"{name}: not part of the release"
        for name in sorted(present.keys() - sums.keys() - {SUMS_FILE})
        if sums
    ]
    problems += _record_problems(folder, record, sums)
    return ReleaseCheck(folder, record, len(sums), total, tuple(problems))


def _record_problems(folder: Path, record: ReleaseRecord, sums: dict[str, str]) -> list[str]:
    problems = []
    if content_digest(record.identity) != record.digest:
        problems.append(f"{RECORD_FILE}: its digest is not that of its identity")
    if sums and RECORD_FILE not in sums:
        problems.append(f"{RECORD_FILE}: not in {SUMS_FILE}")
    for graph, form, files in record.artifacts:
        problems += [
            f"{file}: named by the {form} of {graph}, but not in {SUMS_FILE}"
            for file in files
            if sums and file not in sums
        ]
    named = folder.resolve().name
    try:
        check_version(named)
    except ConfigError:
        return problems
    if named != record.version:
        problems.append(f"the folder is named {named}, the release is {record.version}")
    return problems
