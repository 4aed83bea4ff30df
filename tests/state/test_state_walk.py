"""What is found of a module or an optimizer at one go is what torch and the codec would say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from state_helpers import small_model
from torch import Tensor, nn, optim

from holdfast.state import capture_optimizer, module_state, parameter_names, torch_codec


class Scaled(nn.Module):
    """A buffer that is saved, one that is not, and a parameter that is not there."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.register_parameter("bias", None)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("cache", torch.zeros(3), persistent=False)
        self.absent: nn.Module | None
        self.register_module("absent", None)


class Counting(nn.Module):
    """Keeps what is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        """The extra state."""
        return {"count": 3}

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Take it back."""


def with_hook() -> nn.Module:
    """A module whose state dict is changed after it was made."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    def drop(module: nn.Module, state: dict[str, Any], prefix: str, metadata: object) -> None:
        del state[f"{prefix}bias"]

    model[1].register_state_dict_post_hook(drop)  # type: ignore[no-untyped-call]
    return model


def with_other_method() -> nn.Module:
    """A module given another `state_dict`, as adapters for fine-tuning do."""
    model: Any = nn.Linear(2, 2)
    whole = model.state_dict
    model.state_dict = lambda *a, **k: {n: v for n, v in whole(*a, **k).items() if n == "bias"}
    assert isinstance(model, nn.Module)
    return model


def tied() -> nn.Module:
    """A module used twice, and a parameter with two names."""
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.weight = layer.weight
    return nn.Sequential(layer, layer, other)


MODULES: dict[str, Callable[[], nn.Module]] = {
    "usual": small_model,
    "own": lambda: nn.ModuleDict({"a": Scaled(), "b": Scaled()}),
    "lists": lambda: nn.ParameterList([torch.ones(1), torch.ones(2)]),
    "extra": lambda: nn.Sequential(nn.Linear(1, 1), Counting()),
    "hook": with_hook,
    "method": with_other_method,
    "tied": tied,
    "lazy": lambda: nn.Sequential(nn.LazyLinear(2)),
    "normed": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    "wrapped": lambda: nn.DataParallel(nn.Sequential(nn.BatchNorm1d(2))),
    "scripted": lambda: torch.jit.script(nn.Linear(2, 2)),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", MODULES)
def test_a_module_is_found_to_hold_what_its_state_dict_holds(kind: str) -> None:
    """Names, order, memory, extra state and metadata are those of `state_dict()`."""
    module = MODULES[kind]()
    state: Any = module.state_dict()
    found = module_state(module)
    assert [found.raw[name] for name in found.values] == list(state)
    for value, expected in zip(found.values.values(), state.values(), strict=True):
        if not isinstance(expected, Tensor):
            assert value == expected
        elif not nn.parameter.is_lazy(expected):
            assert isinstance(value, Tensor)
            assert value.data_ptr() == expected.data_ptr()
            assert (value.shape, value.dtype) == (expected.shape, expected.dtype)
    assert dict(found.metadata) == getattr(state, "_metadata", {})
    assert set(parameter_names(module)) == set(module.parameters())


def states() -> Iterator[tuple[str, optim.Optimizer]]:
    """Optimizers whose state is flat, deep, empty or of unusual values."""
    model = small_model()
    parameters = list(model.parameters())
    makers: dict[str, Callable[[], optim.Optimizer]] = {
        "adamw": lambda: optim.AdamW([{"params": parameters[:2]}, {"params": parameters[2:]}]),
        "named": lambda: optim.SGD(model.named_parameters(), momentum=0.9),
        "fresh": lambda: optim.AdamW(parameters),
        "lbfgs": lambda: optim.LBFGS(parameters, max_iter=1),
        "tensor_rate": lambda: optim.Adam(parameters, lr=torch.tensor(0.1)),
    }
    for name, make in makers.items():
        optimizer = make()
        if name != "fresh":
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)
            optimizer.step(lambda: 1.0)
        yield name, optimizer
    strange = optim.SGD(parameters)
    strange.state[parameters[0]] = {"$tag": torch.ones(1), "steps": (1, 2), "nan": float("nan")}
    yield "strange", strange


@pytest.mark.parametrize("optimizer", [pytest.param(o, id=name) for name, o in states()])
def test_an_optimizers_tree_is_the_one_the_codec_gives(optimizer: optim.Optimizer) -> None:
    """However it was made: same tree, and each name stands for the tensor at that place."""
    state = capture_optimizer("optimizer", optimizer, {})
    by_place = {tensor.data_ptr(): stored for stored, tensor in state.tensors.items()}
    expected: Any = torch_codec().encode(
        optimizer.state_dict(),
        where="optimizer",
        refer=lambda value, _: by_place[value.data_ptr()] if isinstance(value, Tensor) else None,
    )
    tree: Any = state.tree
    assert tree["state_dict"] == expected
    rows = [row for group in tree["parameters"] for row in group]
    assert [row[1] for row in rows] == [
        list(p.shape) for group in optimizer.param_groups for p in group["params"]
    ]
