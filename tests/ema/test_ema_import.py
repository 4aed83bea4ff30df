"""Averages of other libraries, by the layouts of their state dicts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from holdfast import ConstantDecay, EMAModel, PowerFunction
from holdfast.decay import Clock, InverseGamma
from holdfast.errors import FormatError, MismatchError

State = dict[str, Tensor]


def network() -> nn.Module:
    """A model with buffers."""
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def by_torch(values: State) -> State:
    """torch.optim.swa_utils.AveragedModel after two updates."""
    model = network()
    model.load_state_dict(values)
    moving = get_ema_multi_avg_fn(0.9)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(model, multi_avg_fn=moving, use_buffers=True)
    averaged.update_parameters(model)
    averaged.update_parameters(model)
    return averaged.state_dict()


def by_ema_pytorch(values: State) -> State:
    """The layout of ema-pytorch's EMA, with the online model beside the average."""
    return {
        **{f"online_model.{name}": torch.zeros_like(value) for name, value in values.items()},
        **{f"ema_model.{name}": value for name, value in values.items()},
        "initted": torch.tensor(True),
        "step": torch.tensor(2),
    }


def by_timm(values: State) -> State:
    """The layout of timm's ModelEmaV2 and V3."""
    return {f"module.{name}": value for name, value in values.items()}


@pytest.mark.parametrize(
    ("make", "source", "steps"),
    [
        (by_torch, "torch AveragedModel", None),
        (by_ema_pytorch, "ema-pytorch", None),
        (by_timm, "timm ModelEma", 2),
        (dict, "a plain state dict", 2),
    ],
)
def test_a_known_layout_is_taken_over(
    make: Callable[[State], State], source: str, steps: int | None
) -> None:
    """Values and count arrive, and averaging goes on from there."""
    values = {name: torch.rand_like(t.float()).to(t) for name, t in network().state_dict().items()}
    model = network()
    ema = EMAModel(model, ConstantDecay(0.9, InverseGamma()))
    assert ema.import_state(make(values), steps=steps) == source
    assert ema.clock == Clock(2)
    average = ema.averaged_state_dict()
    assert all(torch.equal(average[name], value) for name, value in values.items())
    ema.update()
    kept = ConstantDecay(0.9, InverseGamma()).kept(Clock(2), Clock(3))
    wanted = kept * values["0.weight"] + (1 - kept) * model.state_dict()["0.weight"]
    torch.testing.assert_close(ema.averaged_state_dict()["0.weight"], wanted)


def test_a_layout_without_a_counter_asks_for_it() -> None:
    """Otherwise a warm-up would begin again and wipe the average out."""
    ema = EMAModel(network(), ConstantDecay(0.9, InverseGamma()))
    with pytest.raises(ValueError, match="steps"):
        ema.import_state(by_timm(network().state_dict()))


def test_what_is_not_known_or_does_not_fit_is_refused_and_changes_nothing() -> None:
    """Unknown layouts, other models, and averages whose history is needed."""
    ema = EMAModel(network(), 0.9)
    before = {name: tensor.clone() for name, tensor in ema.averaged_state_dict().items()}
    with pytest.raises(FormatError, match="layout"):
        ema.import_state({"shadow_params": [torch.zeros(2)], "decay": 0.9})
    with pytest.raises(MismatchError):
        ema.import_state(nn.Linear(3, 4).state_dict(), steps=1)
    assert all(torch.equal(before[n], t) for n, t in ema.averaged_state_dict().items())
    with pytest.raises(ValueError, match="history"):
        EMAModel(network(), PowerFunction(0.1)).import_state(network().state_dict(), steps=1)
