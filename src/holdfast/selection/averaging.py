"""Writing an average as a checkpoint, with the recipe to make it again."""

from __future__ import annotations

import contextlib
import re
import time as clock
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from holdfast.engine.catalog import read_catalog
from holdfast.engine.derived import ComputedModel, save_computed
from holdfast.engine.provenance import gather_provenance
from holdfast.engine.save import SaveRequest
from holdfast.errors import ConfigError
from holdfast.jsontext import Json
from holdfast.manifest import MANIFEST_FILE, is_checkpoint_name
from holdfast.selection.members import MODEL, FolderMember, Member, vocabularies_of
from holdfast.selection.record import RECIPE_KEY, Recipe
from holdfast.selection.request import Checkpoint, OnDamage, Prepared, Weight, attempt, requested
from holdfast.selection.state import fitted, state_of
from holdfast.selection.stream import AverageStream
from holdfast.session import json_config
from holdfast.session.derived import derived_record
from holdfast.state import ComponentState, canonical_names, torch_codec
from holdfast.storage import LocalRun
from holdfast.tensorfile import byte_view
from holdfast.values import SaveReason
from holdfast.weights import batchnorm_names, recalibrate_batchnorm
from holdfast.weights.mean import Bytes

AVERAGES_FOLDER = "averages"

Forward = Callable[[nn.Module, Any], object]


@dataclass(frozen=True, slots=True)
class Recalibration:
    """How to measure normalisation statistics anew: `recalibrate_batchnorm` on these batches.

    model: takes on the averaged weights.
    """

    model: nn.Module
    batches: Iterable[Any]
    forward: Forward | None = None
    batches_max: int | None = None


@dataclass(frozen=True, slots=True)
class Averaged:
    """An average that was written. excluded: path to reason; notes: what to know before using it.

    bytes: of the folder. seconds: from the first read to the durable commit.
    """

    path: Path
    recipe: Recipe
    excluded: Mapping[str, str]
    notes: tuple[str, ...]
    bytes: int
    seconds: float


def average(
    checkpoints: Sequence[Checkpoint],
    output: Checkpoint | None = None,
    *,
    weights: Sequence[Weight] | None = None,
    only: str | Sequence[str] = (),
    rules: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    on_damage: OnDamage = "raise",
    check_config: bool = True,
    component: str = MODEL,
    recalibrate: Recalibration | None = None,
    metrics: Mapping[str, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Averaged:
    """Average checkpoints of one model and write the result as a checkpoint of its own.

    checkpoints: folders of ours or original `.pt` files, in any order: the result is the same bit
    for bit. output: the folder to write it in; by default `averages` in the run folder of the
    newest member, where neither resume nor rotation looks. weights: one above zero for each; floats
    mean the decimals they print as. only: shell patterns of the FQNs to average; all others are
    those of the newest member. rules: pattern to "newest" or "equal", for tensors whose kind
    decides wrongly. dtype: of averaged tensors, by default as they are. on_damage: "exclude" leaves
    out damaged members and says so. component: average this of each member in place of the model;
    of one checkpoint and "ema" the result is that EMA as a model of its own. recalibrate: measure
    normalisation statistics anew. metrics: of the average, if they are known already.

    Floats are averaged, counters taken from the newest, flags and index tables must agree, and
    quantised values are refused. Ties stay ties. No optimizer state is carried along: training on
    from an average needs a fresh optimizer and a warm-up. Each member is read once and proven while
    it is read, tensors that are committed as equal in all members in the newest only; memory is
    some 100 MiB, whatever their number and size; for each sharded one, a whole tensor more.

    Raises ConfigError, CheckpointNotFoundError, LoadError for a member that cannot be trusted,
    MismatchError listing all differences if they are not of one model, SaveError. Nothing is
    visible then.
    """
    request = requested(
        checkpoints, weights, only, rules, dtype, on_damage, check_config, component
    )

    def make(prepared: Prepared) -> Averaged:
        began = clock.monotonic()
        run = LocalRun(_output(prepared.members, output))
        replaced = {} if recalibrate is None else _recalibrated(prepared, recalibrate)
        recipe = prepared.recipe.with_recalibrated(tuple(sorted(replaced)))
        stream = AverageStream(prepared.members, prepared.weights, prepared.plan, replaced=replaced)
        return _write(run, prepared, recipe, stream, metrics or {}, began, progress)

    written, excluded = attempt(request, make)
    return Averaged(
        written.path, written.recipe, excluded, written.notes, written.bytes, written.seconds
    )


def average_state(
    checkpoints: Sequence[Checkpoint],
    model: nn.Module | None = None,
    *,
    weights: Sequence[Weight] | None = None,
    only: str | Sequence[str] = (),
    rules: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
    on_damage: OnDamage = "raise",
    check_config: bool = True,
    component: str = MODEL,
) -> dict[str, Any]:
    """The same average as a state dict on the CPU; see `average`.

    model: gives the names (wrappers included) and is not changed; None for plain FQNs.
    Raises as `average` does, and MismatchError if the result does not fit the model.
    """
    request = requested(
        checkpoints, weights, only, rules, dtype, on_damage, check_config, component
    )
    state, _ = attempt(request, state_of)
    return state if model is None else fitted(state, model)


def _write(
    run: LocalRun,
    prepared: Prepared,
    recipe: Recipe,
    stream: AverageStream,
    metrics: Mapping[str, float],
    began: float,
    progress: Callable[[int, int], None] | None,
) -> Averaged:
    newest = prepared.members[-1]
    with contextlib.ExitStack() as stack:

        def blocks() -> Iterator[memoryview]:
            found = stream.blocks()
            stack.callback(found.close)
            return found

        model = ComputedModel(
            plan=prepared.plan.file,
            blocks=blocks,
            digests=lambda: stream.digests,
            tree=newest.tree,
            aliases=newest.aliases,
            notes=prepared.plan.notes,
        )
        request = _save_request(run, prepared, metrics)
        name = f"checkpoint_{_what(prepared)}{len(prepared.members)}_{_position(newest)}"
        receipt = save_computed(
            run, name, request, model, extra={RECIPE_KEY: recipe.to_json()}, progress=progress
        )
    return Averaged(
        path=run.path / receipt.name,
        recipe=recipe,
        excluded={},
        notes=tuple(_notes(prepared, recipe)),
        bytes=receipt.bytes,
        seconds=clock.monotonic() - began,
    )


def _what(prepared: Prepared) -> str:
    component = prepared.request.component
    return "average" if component == MODEL else re.sub(r"[^A-Za-z0-9-]", "-", component)[:40]


def _save_request(run: LocalRun, prepared: Prepared, metrics: Mapping[str, float]) -> SaveRequest:
    members, component = prepared.members, prepared.request.component
    newest = members[-1].record
    infos = read_catalog(run).infos
    names = ", ".join(member.record.name for member in members[:3])
    more = f" and {len(members) - 3} more" if len(members) > 3 else ""
    what = "the average of" if component == MODEL else f"the average of {component} of"
    return SaveRequest(
        epoch=newest.epoch,
        global_step=newest.global_step,
        branch=0,
        sequence=max((info.sequence for info in infos), default=-1) + 1,
        time=clock.time(),
        reason=SaveReason("average", f"{what} {names}{more}"),
        components=_components(members, metrics),
        metrics=metrics,
        directions={},
        config=json_config(_decoded(members[-1].config)),
        parents=tuple(member.parent for member in members if member.parent is not None),
        provenance=gather_provenance(),
    )


def _components(members: Sequence[Member], metrics: Mapping[str, float]) -> list[ComponentState]:
    """The run's record as of the newest member, without a history; vocabularies all agree on."""
    newest = members[-1]
    vocabularies = vocabularies_of(members)
    return [
        *(ComponentState(name, "object", tree, {}) for name, tree in vocabularies.items()),
        derived_record(newest.record.epoch, newest.record.global_step, metrics, newest.config),
    ]


def _decoded(config: Json) -> object:
    return torch_codec().decode(config, where="model_config")


def _position(member: Member) -> str:
    return f"epoch{member.record.epoch:04d}_step{member.record.global_step:08d}"


def _output(members: Sequence[Member], output: Checkpoint | None) -> Path:
    """The folder to write in. Raises ConfigError if it is a checkpoint, or nobody can tell."""
    if output is not None:
        folder = Path(output)
        if is_checkpoint_name(folder.name) or (folder / MANIFEST_FILE).exists():
            raise ConfigError(
                f"{folder.name} is the name of a checkpoint, not of a folder of averages",
                where=str(folder),
                fix="give the folder that the average is to be written in",
            )
        return folder
    for member in reversed(members):
        if isinstance(member, FolderMember):
            return Path(member.record.path).resolve().parent / AVERAGES_FOLDER
    raise ConfigError(
        "Averages of .pt files need a place to be written",
        fix='pass output="runs/mine/averages"',
    )


def _recalibrated(prepared: Prepared, how: Recalibration) -> dict[str, Bytes]:
    """Normalisation statistics of the averaged weights, as the bytes that are to be stored."""
    model = how.model
    model.load_state_dict(fitted(state_of(prepared), model))
    recalibrate_batchnorm(model, how.batches, forward=how.forward, batches_max=how.batches_max)
    live = model.state_dict()
    raw_names = {fqn: raw for raw, fqn in canonical_names(model, live).items()}
    dtypes = {task.name: task.dtype for task in prepared.plan.tasks}
    return {
        name: _bytes_of(live[raw_names[name]].detach().to("cpu", dtypes[name]))
        for name in batchnorm_names(dtypes)
    }


def _bytes_of(tensor: torch.Tensor) -> Bytes:
    import numpy as np

    return np.frombuffer(byte_view(tensor.contiguous()), np.uint8)


def _notes(prepared: Prepared, recipe: Recipe) -> Iterator[str]:
    statistics = batchnorm_names(task.name for task in prepared.plan.tasks)
    if statistics and not recipe.recalibrated:
        yield (
            f"{len(statistics)} normalisation statistics are averages themselves; measure them "
            "anew with recalibrate=Recalibration(model, loader)"
        )
    copied = [t.name for t in prepared.plan.tasks if t.source is not None]
    if copied:
        yield f"{len(copied)} tensors are as in the newest member: frozen, counters or not chosen"
    if len(prepared.members) == 1:
        yield "there was one member only: the average is that checkpoint"
