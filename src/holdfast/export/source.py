"""Weights with where they came from: of a checkpoint, an average, an EMA or an original file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from holdfast.engine.open_checkpoint import OpenCheckpoint, open_checkpoint
from holdfast.errors import CheckpointNotFoundError, ConfigError, MismatchError, naming
from holdfast.jsontext import Json
from holdfast.manifest import MANIFEST_FILE, Manifest, iso_time
from holdfast.manifest.fields import metric_out
from holdfast.posthoc import Recipe, Sweep, SweepPoint
from holdfast.selection import Averaged
from holdfast.session import json_config, plain_config
from holdfast.session.components import read_component
from holdfast.session.folder import FolderSource
from holdfast.session.original import OriginalSource
from holdfast.state import canonical_names
from holdfast.storage import LocalRun

WeightsLike: TypeAlias = str | os.PathLike[str] | Averaged | Recipe | SweepPoint | Sweep | nn.Module
"""A checkpoint folder, an original `.pt` file, an average, a reconstructed EMA, a live model."""

MODEL, RUN = "model", "run"


@dataclass(frozen=True)
class Weights:
    """A model's tensors by FQN on the CPU; tied names share one tensor.

    config: of the model as strict JSON can hold it, or None. provenance: plain values for the
    card. source_bytes: of everything it was read from, None if that means nothing. holds: names of
    what the source held beside the weights (optimizer and so on). notes: what was left out.
    """

    tensors: Mapping[str, Tensor]
    config: Json
    place: str
    provenance: Mapping[str, Json]
    source_bytes: int | None = None
    holds: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def bytes(self) -> int:
        """Of the weights, each tied tensor once."""
        return sum(tensor.nbytes for tensor in self.unique().values())

    def unique(self) -> dict[str, Tensor]:
        """Each tensor once, under the first of its names."""
        seen: set[int] = set()
        return {
            name: tensor
            for name, tensor in self.tensors.items()
            if id(tensor) not in seen and not seen.add(id(tensor))  # type: ignore[func-returns-value]
        }

    def aliases(self) -> dict[str, str]:
        """Every further name of a tied tensor, to its first."""
        first = {id(tensor): name for name, tensor in self.unique().items()}
        return {
            name: first[id(tensor)]
            for name, tensor in self.tensors.items()
            if first[id(tensor)] != name
        }

    def without(self, names: frozenset[str]) -> Weights:
        """The same without some tensors."""
        kept = {name: tensor for name, tensor in self.tensors.items() if name not in names}
        left = f"left out because nothing uses them: {', '.join(sorted(names))}"
        return replace(self, tensors=kept, notes=(*self.notes, left) if names else self.notes)

    def load_into(self, module: nn.Module) -> None:
        """Put the weights into a module of the same structure, floating dtypes converted.

        Raises MismatchError listing every name and shape that does not fit; nothing changed then.
        """
        live = module.state_dict()
        names = canonical_names(module, live)
        problems = [f"{fqn} is not in the weights" for fqn in names.values() if self._lacks(fqn)]
        known = set(names.values())
        problems += [f"{fqn} is not in the model" for fqn in self.tensors if fqn not in known]
        problems += [
            f"{fqn} has shape {list(self.tensors[fqn].shape)}, the model {list(live[raw].shape)}"
            for raw, fqn in names.items()
            if fqn in self.tensors
            and isinstance(live[raw], Tensor)
            and self.tensors[fqn].shape != live[raw].shape
        ]
        if problems:
            raise MismatchError(
                f"The weights do not fit the {type(module).__name__} given:",
                problems=problems[:20],
                where=self.place,
                fix="build the model from the configuration it was trained with",
            )
        wanted = {raw: self.tensors[fqn] for raw, fqn in names.items() if fqn in self.tensors}
        module.load_state_dict(wanted, strict=False)

    def _lacks(self, fqn: str) -> bool:
        return fqn not in self.tensors and not fqn.endswith("_extra_state")


def open_weights(source: WeightsLike, *, component: str = MODEL) -> Weights:
    """Read weights, every byte proven.

    component: which of a checkpoint's models, "model" or the name an EMA was registered under.
    Raises CheckpointNotFoundError, ConfigError for a component there is not, LoadError for what
    cannot be trusted.
    """
    if isinstance(source, nn.Module):
        return _of_module(source)
    if isinstance(source, Sweep):
        source = source.best
    if isinstance(source, SweepPoint):
        source = source.recipe
    if isinstance(source, Recipe):
        return _of_recipe(source)
    path = Path(source.path if isinstance(source, Averaged) else source)
    if not path.exists():
        raise CheckpointNotFoundError(
            "There is no such checkpoint", where=str(path), fix="list what there is: holdfast ls"
        )
    return _of_folder(path, component) if path.is_dir() else _of_original(path, component)


def _of_folder(path: Path, component: str) -> Weights:
    real = path.resolve()
    if not (real / MANIFEST_FILE).exists():
        raise CheckpointNotFoundError(
            "The folder is no checkpoint",
            where=str(path),
            fix="give a checkpoint folder; `holdfast best` prints the best of a run",
        )
    with open_checkpoint(LocalRun(real.parent), real.name) as opened, naming(opened.place):
        manifest = opened.manifest
        _require_component(component, manifest)
        source = FolderSource(opened, prove=False)
        state = read_component(source, component)
        tensors, notes = _tensors_of(state)
        return Weights(
            tensors=tensors,
            config=_config(opened, source),
            place=opened.place,
            provenance=_provenance(opened.name, path, manifest, component),
            source_bytes=manifest.bytes,
            holds=tuple(name for name in manifest.components if name != component),
            notes=notes,
        )


def _of_original(path: Path, component: str) -> Weights:
    if component != MODEL:
        raise ConfigError(f"An original file holds no component {component!r}", where=str(path))
    source = OriginalSource(path)
    tensors, notes = _tensors_of(read_component(source, MODEL))
    run = read_component(source, RUN) if RUN in source.components() else {}
    facts: dict[str, Json] = {"kind": "original .pt file", "path": str(path)}
    for key in ("epoch", "global_step", "timestamp"):
        if isinstance(run.get(key), (int, float, str)):
            facts[key] = run[key]
    return Weights(
        tensors=tensors,
        config=json_config(plain_config(run.get("model_config"))),
        place=str(path),
        provenance=facts,
        source_bytes=path.stat().st_size,
        holds=tuple(name for name in source.components() if name != MODEL),
        notes=notes,
    )


def _of_recipe(recipe: Recipe) -> Weights:
    newest = max(recipe.parts, key=lambda part: part[0].clock.steps)[0].checkpoint
    with open_checkpoint(recipe.run, newest) as opened, naming(opened.place):
        manifest = opened.manifest
        config = _config(opened, FolderSource(opened))
    parts: dict[str, Any] = recipe.to_dict()
    facts = {**_provenance(newest, Path(recipe.run.place) / newest, manifest, "ema")}
    facts |= {"kind": "post-hoc average", "recipe": parts}
    facts.pop("metrics", None)
    return Weights(recipe.read(), config, recipe.run.place, facts, manifest.bytes)


def _of_module(module: nn.Module) -> Weights:
    live = module.state_dict()
    names = canonical_names(module, live)
    memory: dict[tuple[int, tuple[int, ...]], Tensor] = {}
    tensors: dict[str, Tensor] = {}
    for raw, fqn in names.items():
        value = live[raw]
        if isinstance(value, Tensor):
            key = (value.data_ptr() if value.numel() else id(value), tuple(value.shape))
            tensors[fqn] = memory.setdefault(key, value.detach().cpu())
    config = json_config(plain_config(getattr(module, "config", None)))
    facts: dict[str, Json] = {"kind": "model in memory", "class": type(module).__name__}
    return Weights(tensors, config, type(module).__name__, facts)


def _tensors_of(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    tensors = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    others = [name for name in state if name not in tensors]
    notes = (f"extra state is not weights and was left out: {', '.join(others)}",)
    return tensors, notes if others else ()


def _require_component(component: str, manifest: Manifest) -> None:
    models = [name for name, one in manifest.components.items() if one.kind == "module"]
    if component not in models:
        raise ConfigError(
            f"The checkpoint has no model named {component!r}",
            fix=f"it has {', '.join(models) or 'none'}",
        )


def _config(opened: OpenCheckpoint, source: FolderSource) -> Json:
    """The model configuration the run was given; None if it was given none."""
    if RUN not in opened.manifest.components:
        return None
    run = read_component(source, RUN)
    return json_config(plain_config(run.get("model_config"))) if isinstance(run, dict) else None


def _provenance(name: str, path: Path, manifest: Manifest, component: str) -> dict[str, Json]:
    facts: dict[str, Json] = {
        "kind": "average" if "recipe" in manifest.extra else "checkpoint",
        "name": name,
        "id": manifest.id,
        "run": path.resolve().parent.name,
        "component": component,
        "epoch": manifest.epoch,
        "global_step": manifest.global_step,
        "time": iso_time(manifest.time),
        "reason": manifest.reason.text,
        "metrics": {key: metric_out(value) for key, value in manifest.metrics.items()},
        "parents": [{"relation": p.relation, "id": p.id, "name": p.name} for p in manifest.parents],
        "training": dict(manifest.provenance),
    }
    if "recipe" in manifest.extra:
        facts["recipe"] = manifest.extra["recipe"]
    return facts
