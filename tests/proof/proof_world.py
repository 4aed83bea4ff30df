"""What a run folder holds, as far as promises go, and whether it may hold that now. Without torch.

A world is what every visible checkpoint holds, by name. Before and after each operation it is
known; a crash inside may leave the one, the other, or what lies between by the rules of `between`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from holdfast.engine.checkpoint_files import open_files
from holdfast.errors import HoldfastError
from holdfast.manifest import HISTORY_FILE, Manifest, checkpoint_name, is_checkpoint_name
from holdfast.storage.durable import flush_folder, write_new_file
from holdfast.storage.protocol import RunStorage

STRANGER = "notes.txt"
"""A file of the user's own in a checkpoint's folder: reported by verification, and no damage."""

SPOILT = checkpoint_name(0, 6)
"""The one checkpoint that the sequence damages on purpose."""

World = Mapping[str, str]
"""Name of a visible checkpoint -> fingerprint of all it holds."""


def fingerprint(manifest: Manifest) -> str:
    """Equal for two checkpoints if and only if they hold the same bytes and the same metrics.

    Of the manifest the random id, the time and the host are left out: they differ between runs.
    So is the branch, which goes up when a session could not read what it had resumed from.
    """
    files = sorted((name, record.digest) for name, record in manifest.files.items())
    numbers = sorted(manifest.metrics.items())
    return repr((manifest.epoch, manifest.global_step, files, numbers, manifest.pinned))


def look(run: RunStorage) -> tuple[dict[str, str], list[str]]:
    """The world of a run, every byte of it read and proven, and what is wrong with it."""
    found: dict[str, str] = {}
    owners: dict[str, str] = {}
    problems: list[str] = []
    for name in run.names():
        if not is_checkpoint_name(name):
            continue
        try:
            with open_files(run, name) as files:
                damage = [text for text in files.damage() if not text.startswith(STRANGER)]
                if name != SPOILT:
                    problems += [f"{name}: {text}" for text in damage]
                found[name] = fingerprint(files.manifest) + ("" if not damage else ", damaged")
                identity = files.manifest.id
        except HoldfastError as error:
            problems.append(f"{name}: {error}")
            continue
        if identity in owners:
            problems.append(f"{name} is {owners[identity]} once more")
        owners[identity] = name
    return found, problems


def between(before: World, after: World, found: World) -> list[str]:
    """Everything wrong with `found` after a crash while `before` was being made `after`.

    Each name holds what it held before or what it is to hold after; and nothing may be gone
    unless everything new is there: that is what retention and renaming have to respect.
    """
    problems = []
    for name in sorted({*before, *after, *found}):
        allowed = {before.get(name), after.get(name)}
        if found.get(name) not in allowed:
            what = "is lost" if name not in found else "holds something else"
            problems.append(f"{name} {what}")
    gone = [name for name in before if name not in found and name not in after]
    lacking = [n for n in after if n not in before and n not in found]
    problems += [f"{a} is gone before {b} is there" for a in gone for b in lacking]
    return problems


def history_problems(run: RunStorage, steps: Iterable[int]) -> list[str]:
    """Which of these steps the history file does not tell of, whole lines only."""
    told = set()
    for line in run.read_lines(HISTORY_FILE):
        try:
            told.add(json.loads(line).get("global_step"))
        except ValueError:
            continue
    return [f"the history lacks step {step}" for step in steps if step not in told]


def leftovers(folder: Path) -> list[str]:
    """Hidden entries of ours anywhere in the run folder, links not followed."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".holdfast-*"))


def precious(folder: Path) -> set[str]:
    """What must never be deleted: users' files, and damaged checkpoints whatever their name."""
    strangers = {STRANGER for path in folder.rglob(STRANGER)}
    return strangers | {SPOILT for path in folder.glob(f"*{SPOILT}*") if path.is_dir()}


def put_a_stranger(folder: Path) -> None:
    """The user puts a file of their own into a checkpoint's folder, and makes it durable."""
    write_new_file(folder / STRANGER, b"mine")
    flush_folder(folder)
