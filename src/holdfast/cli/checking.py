"""Verifying one checkpoint or a whole run, without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.cli.output import clean, paint
from holdfast.cli.refs import locate
from holdfast.engine.checkpoint_files import CheckpointFiles, open_files
from holdfast.errors import CheckpointNotFoundError, FormatError, LoadError
from holdfast.manifest import MANIFEST_FILE, is_checkpoint_name
from holdfast.storage import LocalRun

Advance = Callable[[int, int], None]
"""Called with bytes done and bytes in total."""


@dataclass(frozen=True)
class Outcome:
    """Damage by checkpoint name; an empty list where all is well."""

    found: dict[str, list[str]]

    @property
    def damaged(self) -> bool:
        """Whether any checkpoint has damage."""
        return any(self.found.values())

    def as_data(self) -> dict[str, Any]:
        """The outcome as plain data."""
        return {"schema": "holdfast-verify/1", "damaged": self.damaged, "checkpoints": self.found}

    def as_text(self) -> str:
        """One line for each checkpoint, and one more for each damage."""
        lines: list[str] = []
        for name, damage in self.found.items():
            mark = paint("DAMAGED", "red") + " " if damage else paint("ok", "green") + " " * 6
            lines.append(f"{mark}{clean(name)}")
            lines += [f"        {clean(line, 500)}" for line in damage]
        return "\n".join(lines) or "no checkpoints"


def check_reference(ref: str, advance: Advance | None = None) -> Outcome:
    """Verify the run folder that `ref` is, or the checkpoint that it means."""
    path = Path(ref)
    return check(path if path.is_dir() else locate(ref), advance)


def check(path: Path, advance: Advance | None = None) -> Outcome:
    """Verify the checkpoint at `path`, or every checkpoint of the run at `path`."""
    if path.is_file():
        raise FormatError(
            "That is a file, not a checkpoint folder",
            where=str(path),
            fix="holdfast import reads and checks files of other layouts",
        )
    if not path.is_dir():
        raise CheckpointNotFoundError("There is no such folder", where=str(path))
    path = path.resolve()
    if (path / MANIFEST_FILE).exists():
        run, names = LocalRun(path.parent), [path.name]
    else:
        run = LocalRun(path)
        names = [name for name in run.names() if is_checkpoint_name(name)]
    return _Check(run, advance).all(names)


class _Check:
    """Reads one checkpoint after another, counting bytes."""

    def __init__(self, run: LocalRun, advance: Advance | None) -> None:
        self._run, self._advance = run, advance
        self._done = self._total = 0

    def all(self, names: list[str]) -> Outcome:
        found: dict[str, list[str]] = {}
        for number, name in enumerate(names):
            found[name] = self._damage(name, len(names) - number)
        return Outcome(found)

    def _damage(self, name: str, left: int) -> list[str]:
        try:
            with open_files(self._run, name) as files:
                # Those to come are taken to be as large as this one.
                self._total = self._done + left * files.manifest.bytes
                return self._read(files)
        except LoadError as error:
            return [f"{error.what} [{error.where}]"]

    def _read(self, files: CheckpointFiles) -> list[str]:
        def count(done: int) -> None:
            self._done += done
            if self._advance is not None:
                self._advance(min(self._done, self._total), self._total)

        return files.damage(progress=count)
