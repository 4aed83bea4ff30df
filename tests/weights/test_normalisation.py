"""Measuring normalisation statistics anew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from holdfast.errors import ConfigError
from holdfast.weights import batchnorm_names, recalibrate_batchnorm


def model() -> nn.Sequential:
    """Normalisation with a momentum of its own, a frozen part, and dropout."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Dropout(0.5))
    made[0].eval()
    return made


def batches() -> list[Tensor]:
    """Three batches."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 3, generator=generator) for _ in range(3)]


def test_statistics_are_the_mean_over_batches_and_nothing_else_changes() -> None:
    """Momentum and every module's mode are put back; weights stay; dropout stays off."""
    net = model()
    weights = [p.clone() for p in net.parameters()]
    assert recalibrate_batchnorm(net, [(b, 0) for b in batches()]) == 3
    outputs = torch.stack([net[0](b) for b in batches()])
    torch.testing.assert_close(net[1].running_mean, outputs.mean((0, 1)))
    assert net[1].momentum == 0.3
    assert net[1].training
    assert not net[0].training
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))


def test_a_number_of_batches_and_a_way_to_run_them_can_be_given() -> None:
    """For models that are not called with the batch itself."""
    net = model()
    forward = lambda module, batch: module(batch["x"])  # noqa: E731
    assert (
        recalibrate_batchnorm(net, ({"x": b} for b in batches()), forward=forward, batches_max=2)
        == 2
    )


def test_a_model_without_such_statistics_needs_no_data() -> None:
    """Nothing is run."""
    assert recalibrate_batchnorm(nn.Linear(2, 2), []) == 0


def test_an_empty_or_failing_loader_leaves_the_statistics_as_they_were() -> None:
    """An error does not leave a model with statistics half measured."""

    def failing() -> Iterator[Tensor]:
        yield batches()[0]
        raise RuntimeError("disk")

    net = model()
    before = {name: b.clone() for name, b in net.named_buffers()}
    with pytest.raises(ConfigError, match="no batch"):
        recalibrate_batchnorm(net, [])
    with pytest.raises(RuntimeError, match="disk"):
        recalibrate_batchnorm(net, failing())
    assert all(torch.equal(before[name], b) for name, b in net.named_buffers())
    assert net[1].momentum == 0.3


def test_statistics_are_found_by_name() -> None:
    """Of normalisation layers only, at the top as well."""
    names = [
        "running_mean",
        "running_var",
        "a.running_mean",
        "a.num_batches_tracked",
        "b.running_var",
    ]
    assert batchnorm_names(names) == sorted(names[:4])
