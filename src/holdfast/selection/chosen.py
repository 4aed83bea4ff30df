"""Making the chosen candidate something that can be deployed, and keeping it from rotation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.engine.amend import set_pin
from holdfast.engine.catalog import Entry, read_manifest
from holdfast.engine.checkpoint_files import open_files
from holdfast.engine.open_checkpoint import open_checkpoint
from holdfast.errors import FormatError
from holdfast.jsontext import Json, dump, parse_object
from holdfast.selection.averaging import average
from holdfast.selection.candidates import Candidate, Identified, identify
from holdfast.selection.evaluation import Evaluation
from holdfast.selection.members import MODEL, weights_digest
from holdfast.selection.request import Checkpoint
from holdfast.selection.scores import ScoreCache
from holdfast.selection.scoring import Scoring
from holdfast.selection.selected import SELECTION_FOLDER, Row, Selection
from holdfast.storage import LocalRun
from holdfast.storage.single_file import commit_file

ENSEMBLE_SCHEMA = "holdfast-ensemble/1"


@dataclass(frozen=True, slots=True)
class EnsembleMember:
    """One model of a written ensemble. digest: of its weights, which it is proven against."""

    path: Path
    digest: str


def write_chosen(
    selection: Selection,
    use: str = "quality",
    *,
    candidate: str | None = None,
    output: Checkpoint | None = None,
    pin: bool = True,
) -> Path:
    """Write the recommended candidate, or another by name, and pin what it needs.

    A single checkpoint is there already; an average or an EMA is written as a checkpoint by
    `average` (into `output`), bit for bit the weights that were scored; an ensemble becomes a small
    JSON recipe in `<run>/selection/` that names its members by digest (`read_ensemble`). pin:
    exempt the checkpoints it is or is made of from retention. Returns the checkpoint or the recipe.
    Raises LoadError if a member is damaged or gone by now, SaveError.
    """
    row = selection.recommended(use) if candidate is None else selection.row(candidate)
    kind = row.candidate.candidate.kind
    if kind in ("checkpoint", "ensemble"):
        for path in row.candidate.paths:
            _prove(path)
    if pin:
        for path in row.candidate.paths:
            _pin(path, f"chosen as {row.name}")
    if kind == "checkpoint":
        return row.candidate.paths[0]
    if kind == "ensemble":
        return _write_ensemble(selection, row)
    written = average(row.candidate.paths, output, component=row.candidate.candidate.component)
    return written.path


def read_ensemble(recipe: Checkpoint) -> list[EnsembleMember]:
    """The members of a written ensemble, found where they were and proven by digest.

    Raises FormatError if it is no such recipe, LoadError if a member is gone or another by now.
    """
    path = Path(recipe)
    values = parse_object(path.read_bytes(), where=str(path))
    if values.get("schema") != ENSEMBLE_SCHEMA or not isinstance(values.get("members"), list):
        raise FormatError(f"It is no recipe of the schema {ENSEMBLE_SCHEMA}", where=str(path))
    members = [
        EnsembleMember((path.parent / member["path"]).resolve(), str(member["digest"]))
        for member in values["members"]
    ]
    for member in members:
        _require(member)
    return members


def build_chosen(path: Checkpoint, evaluation: Evaluation) -> Any:
    """The model that `write_chosen` wrote, built as the evaluation builds it, in eval mode.

    Raises LoadError if it cannot be trusted, EvaluationError if it cannot be built.
    """
    place = Path(path)
    if place.is_dir():
        one = Candidate(place.name, "checkpoint", (place,))
    else:
        members = tuple(member.path for member in read_ensemble(place))
        one = Candidate(place.name, "ensemble", members)
    return _built(identify(one, "raise"), evaluation)


def build_candidate(row: Row, evaluation: Evaluation) -> Any:
    """The model of a row as it was scored, in eval mode. Raises as `build_chosen` does."""
    return _built(row.candidate, evaluation)


def _built(one: Identified, evaluation: Evaluation) -> Any:
    nothing = ScoreCache(Path(), None)
    return Scoring(evaluation, nothing, on_failure="raise", tell=lambda _: None).built(one)


def _require(member: EnsembleMember) -> None:
    with open_files(LocalRun(member.path.parent), member.path.name) as files:
        found = weights_digest(files)
    if found != member.digest:
        raise FormatError(
            f"The member has the weights {found}, the recipe says {member.digest}",
            where=str(member.path),
        )


def _write_ensemble(selection: Selection, row: Row) -> Path:
    folder = selection.run / SELECTION_FOLDER
    name = row.candidate.digest.partition(":")[2][:16]
    path = folder / f"ensemble-{name}.json"
    values: dict[str, Json] = {
        "schema": ENSEMBLE_SCHEMA,
        "name": row.name,
        "weights": row.candidate.digest,
        "members": [
            {
                "path": _relative(Path(member.path), folder),
                "id": member.id,
                "digest": member.digest,
                "global_step": member.global_step,
            }
            for member in row.candidate.members
        ],
    }
    data = dump(values, indent=2) + b"\n"
    commit_file(path, lambda target: target.write_bytes(data))
    return path


def _relative(path: Path, folder: Path) -> str:
    """The path from the recipe's folder, so that a run can be moved as a whole."""
    return os.path.relpath(path.resolve(), folder.resolve())


def _prove(path: Path) -> None:
    """Read the weights once more: scores may be known of bytes that are damaged by now."""
    real = path.resolve()
    if real.is_dir():
        with open_checkpoint(LocalRun(real.parent), real.name) as checkpoint:
            checkpoint.verify([MODEL])


def _pin(path: Path, reason: str) -> None:
    real = path.resolve()
    if not real.is_dir():
        return
    run = LocalRun(real.parent)
    with run.open(real.name) as opened:
        entry = Entry(real.name, read_manifest(opened))
    if entry.manifest.pinned is None:
        set_pin(run, entry, reason)
