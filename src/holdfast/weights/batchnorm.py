"""Batch normalisation after averaging: its running statistics belong to no member.

The mean of running statistics is not the statistics of the mean weights: they are measured anew by
a pass over training data (Izmailov et al., "Averaging Weights Leads to Wider Optima", 1803.05407,
section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from holdfast.errors import ConfigError

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def batchnorm_names(names: Iterable[str]) -> list[str]:
    """Those of the FQNs that are running statistics of a normalisation layer."""
    found = set(names)
    owners = {
        name.rpartition(".")[0] for name in found if name.rpartition(".")[2] == "running_mean"
    }
    wanted = [f"{owner}.{leaf}" if owner else leaf for owner in owners for leaf in _STATISTICS]
    return sorted(found.intersection(wanted))


def recalibrate_batchnorm(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    forward: Callable[[nn.Module, Any], object] | None = None,
    batches_max: int | None = None,
) -> int:
    """Measure the running statistics of every normalisation layer anew; return batches seen.

    batches: training data. forward: runs one batch; by default the model is called with the batch,
    or with its first part if it is a tuple or list. Every batch counts the same, whatever the
    layers' momentum, which is put back. Weights do not change and the training mode of every
    module is put back; only normalisation layers are in training mode, so dropout stays off.
    Raises ConfigError if there was no batch, and whatever a batch raises; the statistics are then
    as they were.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    layers = [layer for layer in layers if layer.running_mean is not None]
    if not layers:
        return 0
    modes = [(module, module.training) for module in model.modules()]
    before = [{name: b.clone() for name, b in layer.named_buffers()} for layer in layers]
    momenta = [layer.momentum for layer in layers]
    run = forward or _call
    seen = 0
    try:
        model.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
            layer.train()
        with torch.no_grad():
            for batch in batches:
                if batches_max is not None and seen >= batches_max:
                    break
                run(model, batch)
                seen += 1
        if not seen:
            raise ConfigError(
                "There was no batch to measure the normalisation statistics by",
                fix="pass a loader over training data that still has batches to give",
            )
    except BaseException:
        with torch.no_grad():
            for layer, buffers in zip(layers, before, strict=True):
                for name, value in buffers.items():
                    layer.get_buffer(name).copy_(value)
        raise
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for module, training in modes:
            module.training = training
    return seen


def _call(model: nn.Module, batch: Any) -> object:
    first = batch[0] if isinstance(batch, (tuple, list)) else batch
    if isinstance(first, Tensor):
        device = next((p.device for p in model.parameters()), first.device)
        first = first.to(device)
    return model(first)
