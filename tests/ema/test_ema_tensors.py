"""Parameters that come, go, freeze, thaw, move and are of every kind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from holdfast import EMAModel, PowerFunction
from holdfast.errors import ConfigError


@torch.no_grad()
def shift(model: nn.Module, by: float = 1.0) -> None:
    """Add a number to every trained parameter."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(by)


def test_a_frozen_parameter_costs_nothing_and_is_part_of_the_average() -> None:
    """The average shows the model's own value, without a copy of it."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    ema = EMAModel(model, 0.9)
    ema.update()
    state = ema.averaged_state_dict()
    assert state["0.weight"].data_ptr() == model[0].weight.data_ptr()  # type: ignore[operator]
    assert "0.weight" not in ema.state_dict()["shadow"]


def test_a_parameter_that_thaws_is_averaged_from_its_frozen_value() -> None:
    """With the optimizer attached, the step that first moves it is averaged exactly."""
    model = nn.Linear(2, 2, bias=False)
    model.weight.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    ema = EMAModel(model, 0.75)
    ema.attach(optimizer)
    frozen = model.weight.clone()
    model.weight.requires_grad_(True)
    model.weight.grad = -torch.ones(2, 2)
    optimizer.step()
    torch.testing.assert_close(ema.averaged_state_dict()["weight"], frozen + 0.25)


def test_a_parameter_that_freezes_keeps_its_average_moving_towards_it() -> None:
    """Its weights stand still, and the average goes on by its definition."""
    model = nn.Linear(2, 2, bias=False)
    ema = EMAModel(model, 0.5)
    start = model.weight.detach().clone()
    shift(model)
    model.weight.requires_grad_(False)
    ema.update()
    ema.update()
    torch.testing.assert_close(ema.averaged_state_dict()["weight"], start + 0.75)


def test_parameters_that_appear_or_go_are_followed() -> None:
    """A module added later starts its average as it is; one removed leaves no trace."""
    model = nn.Sequential(nn.Linear(2, 2))
    ema = EMAModel(model, 0.5)
    shift(model)
    ema.update()
    model.append(nn.Linear(2, 2))
    added = model[1].weight.detach().clone()  # type: ignore[operator]
    ema.update()
    assert torch.equal(ema.averaged_state_dict()["1.weight"], added)
    shift(model)
    ema.update()
    torch.testing.assert_close(ema.averaged_state_dict()["1.weight"], added + 0.5)
    del model[0]
    ema.update()
    assert ema.state_dict()["shadow"].keys() == {"0.weight", "0.bias"}


def test_a_parameter_replaced_by_another_object_is_still_followed() -> None:
    """Code that assigns a new Parameter does not leave the average on the old one."""
    model = nn.Linear(2, 2, bias=False)
    ema = EMAModel(model, 0.5)
    start = model.weight.detach().clone()
    model.weight = nn.Parameter(start + 1.0)
    ema.update()
    torch.testing.assert_close(ema.averaged_state_dict()["weight"], start + 0.5)


def test_names_are_those_of_the_model_without_wrappers() -> None:
    """A wrapped model is averaged under the FQNs of the model inside."""
    model = nn.Linear(2, 2)
    ema = EMAModel(nn.DataParallel(model), 0.5)
    ema.update()
    assert ema.state_dict()["shadow"].keys() == {"weight", "bias"}
    assert ema.averaged_state_dict().keys() == {"weight", "bias"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64, torch.float16], ids=str)
@pytest.mark.parametrize("several", [False, True])
def test_every_floating_and_complex_dtype_is_averaged(dtype: torch.dtype, several: bool) -> None:
    """In its own precision or in float32, whichever is wider."""
    model = nn.Module()
    model.weight = nn.Parameter(torch.ones(3, 2).to(dtype))
    ema = EMAModel(model, [0.5, PowerFunction(0.1)] if several else 0.5)
    shift(model)
    ema.update()
    found = ema.averaged_state_dict()["weight"]
    assert found.dtype == (torch.float32 if dtype == torch.float16 else dtype)
    torch.testing.assert_close(found, torch.full((3, 2), 1.5, dtype=found.dtype))


def test_layouts_are_kept_and_large_tensors_are_cut_without_a_trace() -> None:
    """Channels-last, transposed and sliced tensors, and ones larger than a piece."""
    model = nn.Module()
    model.last = nn.Parameter(torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last))
    model.turned = nn.Parameter(torch.randn(5, 7).t())
    model.sliced = nn.Parameter(torch.randn(6, 9)[:, ::2])
    model.large = nn.Parameter(torch.randn(600_001))
    model.empty = nn.Parameter(torch.empty(0, 3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ema = EMAModel(model, [0.5, 0.75])
    shift(model)
    ema.update()
    for place, share in enumerate((0.5, 0.25)):
        average = ema.averaged_state_dict(place)
        for name, start in before.items():
            torch.testing.assert_close(average[name], start + share)
    assert average["last"].is_contiguous(memory_format=torch.channels_last)
    with ema.applied():
        assert model.last.is_contiguous(memory_format=torch.channels_last)


def test_a_model_converted_after_the_average_was_made_is_still_averaged() -> None:
    """Casting the model neither converts nor loses the average."""
    model = nn.Linear(2, 2)
    ema = EMAModel(model, 0.5)
    start = model.weight.detach().clone()
    model.bfloat16()
    shift(model)
    ema.update()
    found = ema.averaged_state_dict()["weight"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, start + 0.5, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "options",
    [
        {"update_every": 0},
        {"buffers": "keep"},
        {"swap": "maybe"},
        {"decay": 1.5},
        {"decay": []},
        {"decay": [0.9, 0.9]},
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(options: dict[str, object]) -> None:
    """At once, not at the first update."""
    with pytest.raises(ConfigError):
        EMAModel(nn.Linear(2, 2), **options)  # type: ignore[arg-type]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_an_average_on_the_host_equals_one_on_the_device(dtype: torch.dtype) -> None:
    """Offloaded averages are the same to rounding, and evaluate on the device."""
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).cuda().to(dtype)
    near, far = EMAModel(model, [0.5, 0.9]), EMAModel(model, [0.5, 0.9], device="cpu")
    for _ in range(3):
        shift(model, 0.125)
        near.update()
        far.update()
    for place in (0, 1):
        there = far.averaged_state_dict(place)
        for name, tensor in near.averaged_state_dict(place).items():
            assert there[name].device.type == "cpu"
            torch.testing.assert_close(there[name], tensor.cpu(), rtol=1e-6, atol=1e-6)
    with far.applied():
        assert model(torch.ones(1, 64, device="cuda", dtype=dtype)).is_cuda
