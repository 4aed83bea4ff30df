"""An average made after training, written as a checkpoint of its own."""

from __future__ import annotations

import contextlib
import os
import re
import time as clock
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from holdfast.digest import raw_digest
from holdfast.ema.stored import RECORD
from holdfast.engine.catalog import read_catalog
from holdfast.engine.checkpoint_files import CheckpointFiles, open_files
from holdfast.engine.derived import ComputedModel, save_computed
from holdfast.engine.open_checkpoint import OpenCheckpoint
from holdfast.engine.provenance import gather_provenance
from holdfast.engine.save import SaveRequest
from holdfast.jsontext import Json
from holdfast.posthoc.recipe import Recipe, stream_recipes
from holdfast.session import json_config
from holdfast.session.derived import derived_record, is_vocabulary
from holdfast.session.objects import RUN
from holdfast.state import ComponentState, StoredTensor, torch_codec
from holdfast.storage import LocalRun
from holdfast.tensorfile import byte_view, describe, plan_file
from holdfast.values import Parent, SaveReason

AVERAGES_FOLDER = "averages"
RECIPE_KEY = "posthoc"


def write_recipe(
    recipe: Recipe,
    output: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make the average and write it as a checkpoint with the weights as its model.

    output: the folder to write it in; by default `averages` in the run folder, where neither resume
    nor rotation looks. The manifest holds the recipe. progress: called with bytes done and in
    total. Memory: one tensor at a time. Returns the checkpoint's folder.
    Raises MismatchError, DamagedError and SaveError; nothing is visible then.
    """
    run = LocalRun(Path(recipe.run.place) / AVERAGES_FOLDER if output is None else output)
    last = max((part for part, _ in recipe.parts), key=lambda part: part.clock.steps)
    with open_files(recipe.run, last.checkpoint) as files:
        model = _computed(recipe, files, last.component)
        request = _request(recipe, files, run)
        position = f"epoch{files.manifest.epoch:04d}_step{files.manifest.global_step:08d}"
        label = re.sub(r"[^A-Za-z0-9.]+", "-", recipe.label)[:60].strip("-")
        receipt = save_computed(
            run,
            f"checkpoint_{label}_{position}",
            request,
            model,
            extra={RECIPE_KEY: _plain(recipe)},
            progress=progress,
        )
    return run.path / receipt.name


def _computed(recipe: Recipe, files: CheckpointFiles, component: str) -> ComputedModel:
    entry = OpenCheckpoint(files).stored(component)
    shells = {
        name: torch.empty((), dtype=facts.dtype).expand(facts.shape)
        for name, facts in entry.tensors.items()
    }
    plan = plan_file(shells, {"format": "pt"})
    digests: dict[str, bytes] = {}

    def blocks() -> Iterator[memoryview]:
        with contextlib.closing(stream_recipes([recipe], list(plan.specs))) as found:
            for name, (tensor,), _ in found:
                data = byte_view(tensor.contiguous()) if tensor.numel() else memoryview(b"")
                digests[name] = raw_digest(data)
                if len(data):
                    yield data

    tree: Any = entry.tree
    return ComputedModel(
        plan=plan,
        blocks=blocks,
        digests=lambda: digests,
        tree={key: value for key, value in tree.items() if key != RECORD},
        aliases=entry.aliases,
        notes={name: note for name, facts in entry.tensors.items() if (note := _note(facts))},
    )


def _note(facts: StoredTensor) -> dict[str, Json]:
    """What safetensors cannot say of the tensor."""
    if facts.order is None:
        return describe(torch.empty(facts.shape, dtype=facts.dtype, device="meta"))
    shell = torch.empty_permuted(facts.shape, facts.order, dtype=facts.dtype, device="meta")
    return describe(shell)


def _request(recipe: Recipe, files: CheckpointFiles, run: LocalRun) -> SaveRequest:
    manifest = files.manifest
    known = {entry.name: entry.manifest for entry in read_catalog(recipe.run).entries}
    sources = {part.checkpoint: known[part.checkpoint] for part, _ in recipe.parts}
    tree = files.state.components[RUN].tree
    config = tree.get("model_config") if isinstance(tree, Mapping) else None
    return SaveRequest(
        epoch=manifest.epoch,
        global_step=manifest.global_step,
        branch=0,
        sequence=max((info.sequence for info in read_catalog(run).infos), default=-1) + 1,
        time=clock.time(),
        reason=SaveReason("average", recipe.label),
        components=[
            *_vocabularies(files),
            derived_record(manifest.epoch, manifest.global_step, {}, config),
        ],
        metrics={},
        directions={},
        config=json_config(torch_codec().decode(config, where="model_config")),
        parents=tuple(
            Parent("averaged_from", found.id, name, found.global_step)
            for name, found in sources.items()
        ),
        provenance=gather_provenance(),
    )


def _vocabularies(files: CheckpointFiles) -> Iterator[ComponentState]:
    for name, record in files.manifest.components.items():
        if is_vocabulary(name) and record.kind == "object" and not record.tensors:
            yield ComponentState(name, "object", files.state.components[name].tree, {})


def _plain(recipe: Recipe) -> Json:
    found: Any = recipe.to_dict()
    return {"format": "holdfast-posthoc", "version": 1, **found}
