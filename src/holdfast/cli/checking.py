"""Verifying one checkpoint or a whole run, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.engine.checkpoint_files import open_files
from holdfast.errors import CheckpointNotFoundError, LoadError, printable
from holdfast.manifest import MANIFEST_FILE, is_checkpoint_name
from holdfast.storage import LocalRun


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
            lines.append(f"{'DAMAGED' if damage else 'ok':<8}{printable(name)}")
            lines += [f"        {printable(line)}" for line in damage]
        return "\n".join(lines) or "no checkpoints"


def check(path: Path) -> Outcome:
    """Verify the checkpoint at `path`, or every checkpoint of the run at `path`."""
    if not path.is_dir():
        raise CheckpointNotFoundError("There is no such folder", where=str(path))
    path = path.resolve()
    if (path / MANIFEST_FILE).exists():
        run, names = LocalRun(path.parent), [path.name]
    else:
        run = LocalRun(path)
        names = [name for name in run.names() if is_checkpoint_name(name)]
    return Outcome({name: _damage(run, name) for name in names})


def _damage(run: LocalRun, name: str) -> list[str]:
    try:
        with open_files(run, name) as files:
            return files.damage()
    except LoadError as error:
        return [f"{error.what} [{error.where}]"]
