"""Canonical FQNs: wrappers leave no trace, users' own names do not suffer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from state_helpers import load, same, save, small_model
from torch import distributed, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from holdfast.errors import ConfigError
from holdfast.state import (
    canonical_names,
    capture_module,
    parameter_names,
    plan_module,
    unwrap,
)


@pytest.fixture(scope="module", autouse=True)
def one_process_group() -> Iterator[None]:
    """A process group of this process alone, for DistributedDataParallel."""
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def compiled(module: nn.Module) -> nn.Module:
    """The wrapper torch.compile gives, never run."""
    wrapper: Any = torch.compile(module, backend="eager")
    assert isinstance(wrapper, nn.Module)
    return wrapper


def inner_compiled() -> nn.Module:
    """A model one of whose layers is compiled by itself."""
    model = small_model()
    model[0] = compiled(model[0])
    return model


def checkpointed() -> nn.Module:
    """A model one of whose layers recomputes its activations."""
    model = small_model()
    model[3] = checkpoint_wrapper(model[3])
    return model


WRAPPINGS: dict[str, Callable[[], nn.Module]] = {
    "none": small_model,
    "ddp": lambda: DistributedDataParallel(small_model()),
    "data_parallel": lambda: nn.DataParallel(small_model()),
    "compile": lambda: compiled(small_model()),
    "compile_in_ddp": lambda: DistributedDataParallel(compiled(small_model())),
    "ddp_in_compile": lambda: compiled(DistributedDataParallel(small_model())),
    "inner_compile": inner_compiled,
    "inner_compile_in_ddp": lambda: DistributedDataParallel(inner_compiled()),
    "activation_checkpointing": checkpointed,
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_wrapped_modules_are_saved_under_their_own_names(wrapping: str) -> None:
    """A wrapper at the top or inside leaves no trace in the names of tensors and parameters."""
    wrapped = WRAPPINGS[wrapping]()
    plain = small_model()
    assert list(capture_module("model", wrapped).tensors) == list(plain.state_dict())
    assert list(parameter_names(wrapped).values()) == [name for name, _ in plain.named_parameters()]


@pytest.mark.parametrize("saved", WRAPPINGS)
@pytest.mark.parametrize("live", WRAPPINGS)
def test_wrapped_and_plain_load_each_other(saved: str, live: str) -> None:
    """What was saved with any wrapper loads with any other, in either direction."""
    source, target = WRAPPINGS[saved](), WRAPPINGS[live]()
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(1.5)
    load(save(capture_module("model", source)), lambda stored: plan_module(stored, target))
    assert all(
        same(a, b)
        for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


def test_unwrap_returns_the_module_inside() -> None:
    """Any pile of wrappers at the top comes off, and a plain module is returned as it is."""
    model = small_model()
    assert unwrap(compiled(DistributedDataParallel(model))) is model
    assert unwrap(model) is model


def test_a_users_attribute_called_module_keeps_its_name() -> None:
    """Only the actual wrapper is stripped, not a submodule that has the same name."""

    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)
            self._orig_mod = nn.Linear(2, 2)

    names = ["module.weight", "module.bias", "_orig_mod.weight", "_orig_mod.bias"]
    assert list(capture_module("model", Owner()).tensors) == names
    assert list(capture_module("model", DistributedDataParallel(Owner())).tensors) == names


def test_averaged_models_keep_their_counter() -> None:
    """AveragedModel has state of its own, so it is saved whole, wrappers inside left out."""
    averaged = AveragedModel(DistributedDataParallel(nn.Linear(2, 2)))
    assert set(capture_module("ema", averaged).tensors) == {
        "n_averaged",
        "module.weight",
        "module.bias",
    }


def test_two_keys_with_one_canonical_name_are_refused() -> None:
    """A wrapper that holds a tensor named as one inside cannot be told apart, and says so."""

    class Odd(DistributedDataParallel):
        def __init__(self, module: nn.Module) -> None:
            super().__init__(module)
            self.register_buffer("weight", torch.zeros(1))

    odd = Odd(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"module\.weight"):
        canonical_names(odd, odd.state_dict())


def test_modules_that_share_a_layer_give_it_one_parameter_name() -> None:
    """A parameter reached by two ways is named by the first."""
    layer = nn.Linear(2, 2, bias=False)
    assert list(parameter_names(nn.Sequential(layer, layer)).values()) == ["0.weight"]
