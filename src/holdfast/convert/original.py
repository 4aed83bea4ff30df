"""Import of the original `.pt` layout, and export to it.

The layout is a dict with `model_state_dict`, `optimizer_state_dict`, `scheduler_state_dict`,
`scaler_state_dict`, `rng_states`, `metrics_history`, `epoch`, `global_step`, `best_metric` and
`model_config` (and, where given, `metrics`, `extra_state`, `timestamp`).
"""

from __future__ import annotations

import os
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from holdfast.engine.catalog import read_catalog
from holdfast.engine.original import read_original
from holdfast.engine.save import SaveRequest, save_checkpoint
from holdfast.errors import FormatError, SaveError
from holdfast.session import json_config, open_source
from holdfast.session.components import read_component
from holdfast.session.original import original_components
from holdfast.session.source import CheckpointSource
from holdfast.storage import LocalRun
from holdfast.storage.single_file import commit_file
from holdfast.values import SaveReason

_OBJECTS = {
    "optimizer": "optimizer_state_dict",
    "scheduler": "scheduler_state_dict",
    "scaler": "scaler_state_dict",
}
_RECORD = ("best_metric", "metrics", "metrics_history", "model_config", "extra_state")


def import_original(path: str | os.PathLike[str], run_folder: str | os.PathLike[str]) -> Path:
    """Write a `.pt` file of the original layout as a checkpoint of `run_folder`.

    Reads with restricted unpickling only. Returns the new checkpoint's folder. Raises FormatError
    or DamagedError if the file cannot be trusted, SaveError if the checkpoint cannot be written.
    """
    source = Path(path)
    content = read_original(source)
    components = original_components(content, str(source))
    run = LocalRun(Path(run_folder))
    infos = read_catalog(run).infos
    metrics = content.get("metrics")
    receipt = save_checkpoint(
        run,
        SaveRequest(
            epoch=_count(content, "epoch", source),
            global_step=_count(content, "global_step", source),
            branch=infos[-1].branch if infos else 0,
            sequence=max((info.sequence for info in infos), default=-1) + 1,
            time=clock.time(),
            reason=SaveReason("imported", f"imported from {source.name}"),
            components=components,
            metrics=_numbers(metrics) if isinstance(metrics, Mapping) else {},
            directions={},
            config=json_config(content.get("model_config")),
        ),
    )
    return Path(run_folder) / receipt.name


def export_original(checkpoint: str | os.PathLike[str], output: str | os.PathLike[str]) -> Path:
    """Write a checkpoint as a `.pt` file of the original layout.

    The file is written beside its name, read back with `weights_only=True`, and only then given
    its name. Raises LoadError if the checkpoint is damaged, SaveError if it holds values that
    restricted unpickling would refuse.
    """
    target = Path(output)
    with open_source(Path(checkpoint)) as source:
        content = _content(source)

    def write(temporary: Path) -> None:
        torch.save(content, temporary)
        try:
            read_original(temporary, numpy_values=False)
        except FormatError as error:
            raise SaveError(
                f"The checkpoint holds values that a safe .pt file cannot: {error.what}",
                where=str(checkpoint),
                fix="keep plain values and tensors in extra_state and model_config",
            ) from error

    commit_file(target, write)
    return target


def _content(source: CheckpointSource) -> dict[str, Any]:
    names = source.components()
    run = read_component(source, "run") if "run" in names else {}
    info = source.info
    content: dict[str, Any] = {
        "epoch": info.epoch if info is not None else run.get("epoch", 0),
        "global_step": info.global_step if info is not None else run.get("global_step", 0),
        "model_state_dict": read_component(source, "model"),
    }
    for name, key in _OBJECTS.items():
        if name in names:
            content[key] = read_component(source, name)
    if "rng" in names:
        content["rng_states"] = _original_rng(read_component(source, "rng"))
    return content | {key: _plain(run[key]) for key in _RECORD if key in run}


def _plain(value: Any) -> Any:
    """NumPy scalars as numbers and arrays as tensors, which restricted unpickling takes."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(entry) for entry in value)
    return value


def _original_rng(streams: Mapping[str, Any]) -> dict[str, Any]:
    """Our streams under the original's keys; NumPy's as plain numbers, which `set_state` takes."""
    states: dict[str, Any] = {}
    if "python" in streams:
        states["python"] = streams["python"]["state"]
    if "numpy" in streams:
        states["numpy"] = _plain_numpy_state(streams["numpy"]["state"])
    if "torch:cpu" in streams:
        states["torch"] = streams["torch:cpu"]["state"]
    cuda = [name for name in streams if name.startswith("torch:cuda:")]
    if cuda:
        cuda.sort(key=lambda name: int(name.rpartition(":")[2]))
        states["cuda"] = [streams[name]["state"] for name in cuda]
    return states


def _plain_numpy_state(state: Any) -> Any:
    if isinstance(state, Mapping):
        inner = state["state"]
        state = ("MT19937", inner["key"], inner["pos"], state["has_gauss"], state["gauss"])
    return tuple(part.tolist() if isinstance(part, np.ndarray) else part for part in state)


def _count(content: Mapping[str, Any], key: str, path: Path) -> int:
    value = content.get(key, 0)
    if type(value) is not int:
        raise FormatError(f"Its {key} is a {type(value).__name__}, not an integer", where=str(path))
    return value


def _numbers(metrics: Mapping[Any, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(name, str) and isinstance(value, (int, float)) and not isinstance(value, bool)
    }
