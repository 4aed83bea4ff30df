"""An original `.pt` file as a source to restore from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from holdfast.engine.original import read_original
from holdfast.engine.windows import narrowed, window_of
from holdfast.errors import FormatError
from holdfast.session.objects import MODEL, OPTIMIZER, RNG, RUN, SCALER, SCHEDULER
from holdfast.state import (
    ComponentState,
    StoredComponent,
    StoredTensor,
    capture_object,
    component_of_module_state,
    component_of_optimizer_state,
    component_of_original_rng,
)
from holdfast.values import CheckpointInfo

_RECORD = ("epoch", "global_step", "best_metric", "metrics", "metrics_history", "model_config")
_RECORD_ALSO = ("extra_state", "timestamp")
_OBJECTS = {"scheduler_state_dict": SCHEDULER, "scaler_state_dict": SCALER}


def original_components(content: Mapping[str, Any], where: str) -> list[ComponentState]:
    """The components of a checkpoint in the original layout.

    The keys of the original are `model_state_dict`, `optimizer_state_dict`,
    `scheduler_state_dict`, `scaler_state_dict`, `rng_states`, `metrics_history`, `epoch`,
    `global_step`, `best_metric` and `model_config`; those that are missing or None are left out.
    A bare state dict of tensors counts as a model. Raises FormatError if there is no model.
    """
    if "model_state_dict" not in content:
        if not content or not all(isinstance(value, Tensor) for value in content.values()):
            raise FormatError(
                "It holds no model_state_dict",
                where=where,
                fix="import files of the original layout, or a bare model state dict",
            )
        content = {"model_state_dict": content}
    states = [component_of_module_state(MODEL, content["model_state_dict"])]
    if content.get("optimizer_state_dict") is not None:
        states.append(component_of_optimizer_state(OPTIMIZER, content["optimizer_state_dict"]))
    for key, name in _OBJECTS.items():
        if content.get(key) is not None:
            states.append(capture_object(name, content[key]))
    if content.get("rng_states") is not None:
        states.append(component_of_original_rng(RNG, content["rng_states"]))
    record = {key: content[key] for key in (*_RECORD, *_RECORD_ALSO) if key in content}
    states.append(capture_object(RUN, record))
    return states


class OriginalSource:
    """A `.pt` file, read whole and checked; its digests are those of its archive."""

    def __init__(self, path: Path) -> None:
        self._place = str(path)
        states = original_components(read_original(path), self._place)
        self._states = {state.name: state for state in states}

    @property
    def place(self) -> str:
        """The file, for error messages."""
        return self._place

    @property
    def info(self) -> CheckpointInfo | None:
        """None: the original layout has no manifest."""
        return None

    def components(self) -> Collection[str]:
        """Names of the components it holds."""
        return self._states.keys()

    def elsewhere(self, component: str) -> str | None:
        """None: one process wrote it, for whoever reads it."""
        return None

    def stored(self, component: str) -> StoredComponent:
        """Everything about a component but the data of its tensors."""
        state = self._states[component]
        tensors = {
            name: StoredTensor(tensor.dtype, tuple(tensor.shape))
            for name, tensor in state.tensors.items()
        }
        return StoredComponent(state.name, state.kind, state.tree, tensors, state.aliases)

    def verify(
        self, components: Collection[str], *, but: Mapping[str, Collection[str]] | None = None
    ) -> None:
        """Nothing is left to prove: the archive's checksums were checked when it was read."""

    def check(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Nothing is left to prove: the plans compared names, shapes and dtypes."""

    def fill_fresh(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Copy tensors into targets nobody uses yet."""
        self.fill(component, targets)

    def fill(self, component: str, targets: Mapping[str, Tensor]) -> None:
        """Copy tensors into the targets."""
        state = self._states[component]
        with torch.no_grad():
            for name, target in targets.items():
                local, window = window_of(target, name)
                local.copy_(narrowed(state.tensors[name], window))
