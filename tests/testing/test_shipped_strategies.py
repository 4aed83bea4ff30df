"""The shipped hypothesis strategies make what checkpoints really hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from holdfast.engine.open_checkpoint import open_checkpoint
from holdfast.engine.save import SaveRequest, save_checkpoint
from holdfast.manager.history import MetricsHistory
from holdfast.policy import Metric
from holdfast.session.components import read_component
from holdfast.session.folder import FolderSource
from holdfast.state import capture_object
from holdfast.storage import MemoryRun
from holdfast.testing.strategies import metrics_histories, state_dicts
from holdfast.values import SaveReason

STEADY = settings(
    deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)


def exactly(value: Any) -> Any:
    """Equal for two values if and only if they are the same bit for bit."""
    if isinstance(value, Tensor):
        flat = value.contiguous().reshape(-1)
        raw = flat.to(torch.uint8) if value.dtype is torch.bool else flat.view(torch.uint8)
        return (str(value.dtype), tuple(value.shape), raw.tolist())
    if isinstance(value, dict):
        return [(repr(key), exactly(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [exactly(item) for item in value])
    return (type(value).__name__, repr(value))


@STEADY
@given(state_dicts())
def test_every_state_comes_back_from_a_checkpoint(state: dict[str, Any]) -> None:
    """A saved state dict, proven and read again, is the same bit for bit."""
    run = MemoryRun()
    request = SaveRequest(
        epoch=0,
        global_step=1,
        branch=0,
        sequence=0,
        time=0.0,
        reason=SaveReason("manual", "a test"),
        components=[capture_object("thing", state)],
        metrics={},
        directions={},
    )
    name = save_checkpoint(run, request).name
    with FolderSource(open_checkpoint(run, name)) as source:
        assert exactly(read_component(source, "thing")) == exactly(state)


@STEADY
@given(metrics_histories())
def test_every_history_can_be_ranked(history: list[tuple[int, int, Mapping[str, float]]]) -> None:
    """Steps ascend, and the best is the smallest finite value there is, if there is one."""
    records = MetricsHistory(MemoryRun())
    for epoch, step, numbers in history:
        records.add(epoch, step, numbers, now=0.0)
    steps = [step for _, step, _ in history]
    assert steps == sorted(set(steps))
    finite = [m["val_loss"] for _, _, m in history if math.isfinite(m.get("val_loss", math.nan))]
    assert records.best(Metric("val_loss", "min")) == (min(finite) if finite else None)
