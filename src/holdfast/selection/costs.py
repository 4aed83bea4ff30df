"""What a candidate costs to serve: parameters, forward passes, measured latency."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from holdfast.jsontext import dump
from holdfast.selection.candidates import Identified

ROUNDS = 5

_Group: TypeAlias = bytes


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one request, as measured here: the median and the slowest of `rounds`."""

    median_ms: float
    slowest_ms: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Cost:
    """parameters: of all models, tied ones once. forward_passes: for one request.

    latency: of models of this size, None if nothing was timed; it is measured once for all
    candidates of one configuration and number of models, with the weights of the first.
    """

    parameters: int
    forward_passes: int
    latency: Latency | None


def costs_of(
    found: Sequence[Identified],
    empty: Callable[[Identified], Sequence[nn.Module]],
    built: Callable[[Identified], Any],
    request: Callable[[Any], object] | None,
) -> dict[str, Cost]:
    """The costs of all candidates by name.

    empty, built: make a model without and with its weights. request: serves one request; rounds of
    it are interleaved between the groups, after one to warm up, so that a busy machine slows all
    alike. Raises what these raise.
    """
    groups: dict[_Group, list[Identified]] = {}
    for one in found:
        groups.setdefault(dump(one.configs), []).append(one)
    times: Mapping[_Group, Latency] = {}
    if request is not None:
        times = _interleaved({key: built(some[0]) for key, some in groups.items()}, request)
    costs: dict[str, Cost] = {}
    for key, some in groups.items():
        size = sum(p.numel() for model in empty(some[0]) for p in model.parameters())
        for one in some:
            costs[one.name] = Cost(size, one.forward_passes, times.get(key))
    return costs


def _interleaved(
    models: Mapping[_Group, Any], request: Callable[[Any], object]
) -> dict[_Group, Latency]:
    seconds: dict[_Group, list[float]] = {key: [] for key in models}
    with torch.no_grad():
        for round_number in range(-1, ROUNDS):
            for key, model in models.items():
                began = time.perf_counter()
                request(model)
                if round_number >= 0:
                    seconds[key].append(time.perf_counter() - began)
    return {
        key: Latency(1e3 * statistics.median(times), 1e3 * max(times), ROUNDS)
        for key, times in seconds.items()
    }
