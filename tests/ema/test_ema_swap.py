"""An average in the place of the weights, and the training weights always back."""

from __future__ import annotations

import gc
import threading
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from holdfast import EMAModel, PowerFunction
from holdfast.errors import AverageError, HoldfastWarning

METHODS = ["auto", "copy"]


def trained(**options: Any) -> tuple[nn.Module, EMAModel]:
    """A small model after a few updates, its average well away from its weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    ema = EMAModel(model, 0.5, **options)
    for _ in range(3):
        shake(model)
        ema.update()
    shake(model)
    return model, ema


@torch.no_grad()
def shake(model: nn.Module) -> None:
    """Change every parameter and buffer."""
    model.train()(torch.randn(8, 3))
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter))


def values(model: nn.Module) -> dict[str, Tensor]:
    """The state dict by value."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    """Whether two states are equal bit for bit."""
    return all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("swap", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_average_is_live_inside_and_the_weights_are_back_after(
    swap: Any, dtype: torch.dtype
) -> None:
    """Inside, the model computes with the average; afterwards everything is as before."""
    model, ema = trained(swap=swap)
    model.to(dtype)
    before, average = values(model), ema.averaged_state_dict()
    with ema.applied() as inside:
        assert inside is model
        assert all(torch.equal(v, average[k].to(v.dtype)) for k, v in model.state_dict().items())
        assert model[0].weight.dtype == dtype  # type: ignore[index]
    assert same(values(model), before)


@pytest.mark.parametrize("swap", METHODS)
def test_the_weights_are_back_after_an_exception(swap: Any) -> None:
    """An error in the evaluation passes through, and the training weights are back."""
    model, ema = trained(swap=swap)
    before = values(model)
    with pytest.raises(ZeroDivisionError), ema.applied():
        raise ZeroDivisionError
    assert same(values(model), before)
    ema.update()


@pytest.mark.parametrize("swap", METHODS)
def test_applying_twice_is_refused_and_loses_nothing(swap: Any) -> None:
    """A second apply raises, by the same or another thread, and the first can be restored."""
    model, ema = trained(swap=swap)
    before = values(model)
    ema.apply()
    with pytest.raises(AverageError, match="already"):
        ema.apply()
    refused: list[BaseException] = []

    def elsewhere() -> None:
        try:
            ema.apply()
        except AverageError as error:
            refused.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(refused) == 1
    ema.restore()
    ema.restore()
    assert same(values(model), before)


def test_nothing_trains_or_updates_while_an_average_is_swapped_in() -> None:
    """Steps of an attached optimizer, updates, resets and loads are refused meanwhile."""
    model, ema = trained()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = ema.state_dict()
    with ema.applied():
        for forbidden in (ema.update, ema.reset, lambda: ema.load_state_dict(state)):
            with pytest.raises(AverageError, match="in the place of"):
                forbidden()
    ema.attach(optimizer)
    with ema.applied(), pytest.raises(AverageError, match="step the optimizer"):
        optimizer.step()


def test_training_on_the_average_by_an_optimizer_not_attached_is_found_out() -> None:
    """A step made inside is reported on the way out, with the training weights back."""
    model, ema = trained()
    before = values(model)
    ema.apply()
    shake(model)
    with pytest.raises(AverageError, match="were changed"):
        ema.restore()
    after = values(model)
    assert all(torch.equal(after[k], v) for k, v in before.items() if "running" not in k)


def test_a_change_inside_is_reported_even_when_an_error_passes_through() -> None:
    """The error goes on its way, with a warning beside it."""
    model, ema = trained()

    def evaluate() -> None:
        with ema.applied():
            shake(model)
            raise KeyError

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(KeyError):
            evaluate()
    assert [w.category for w in said] == [HoldfastWarning]


def test_an_average_without_updates_is_not_evaluated_by_mistake() -> None:
    """The weights that training started from are not taken for an average, unless asked for."""
    ema = EMAModel(nn.Linear(2, 2))
    with pytest.raises(AverageError, match="no update"):
        ema.apply()
    with ema.applied(initial=True):
        pass


def test_a_pointer_swap_copies_nothing_and_a_copy_swap_keeps_addresses() -> None:
    """Pointers where that is safe; where code may hold addresses, these stay what they were."""
    model, ema = trained()
    weight = model[0].weight  # type: ignore[index]
    address = weight.data_ptr()
    average = ema.averaged_state_dict()["0.weight"]
    with ema.applied():
        assert weight.data_ptr() == average.data_ptr() != address
    assert weight.data_ptr() == address
    model, ema = trained(swap="copy")
    address = model[0].weight.data_ptr()  # type: ignore[index]
    with ema.applied():
        assert model[0].weight.data_ptr() == address  # type: ignore[index]


def test_tensors_that_overlap_are_swapped_by_copy() -> None:
    """Pointing two views of one memory elsewhere would part them, so they are copied."""
    model = nn.Linear(4, 4, bias=False)
    other = nn.Linear(4, 4, bias=False)
    other.weight = nn.Parameter(model.weight.detach().t())
    both = nn.ModuleList([model, other])
    ema = EMAModel(both, 0.5)
    with torch.no_grad():
        model.weight.add_(1.0)
    ema.update()
    with ema.applied():
        assert torch.equal(model.weight, other.weight.t())
        assert model.weight.data_ptr() == other.weight.data_ptr()


def test_statistics_gathered_inside_do_not_reach_the_average_or_the_weights() -> None:
    """A forward pass in train mode changes neither the average's buffers nor the model's."""
    model, ema = trained()
    before, average = values(model), {k: v.clone() for k, v in ema.averaged_state_dict().items()}
    with ema.applied():
        model.train()(torch.randn(8, 3))
    assert same(values(model), before)
    assert same(ema.averaged_state_dict(), average)


def test_an_average_forgotten_while_swapped_in_gives_the_weights_back() -> None:
    """Training weights survive even the loss of the object that held them."""
    model, ema = trained()
    before = values(model)
    ema.apply()
    del ema
    gc.collect()
    assert same(values(model), before)


def test_any_of_several_averages_can_be_evaluated() -> None:
    """They are chosen by place or by schedule; one that is not there is refused."""
    model, _ = trained()
    ema = EMAModel(model, [0.9, PowerFunction(0.1)])
    shake(model)
    ema.update()
    with ema.applied(PowerFunction(0.1)):
        assert torch.equal(model[0].weight, ema.averaged_state_dict(1)["0.weight"])  # type: ignore[index]
    with pytest.raises(ValueError, match="no average"):
        ema.apply(2)


def test_the_average_can_be_copied_into_another_module() -> None:
    """A deep copy takes the average, to be evaluated or recalibrated at leisure."""
    _, ema = trained()
    twin = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    ema.copy_to(twin)
    assert same(values(twin), ema.averaged_state_dict())
