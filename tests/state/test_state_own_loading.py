"""Modules that load by code of their own: extra state, loaders, hooks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from state_helpers import Saved, fill, load, same, save, small_model
from torch import nn

from holdfast.errors import InterruptedLoadError
from holdfast.state import (
    RestorePlan,
    capture_module,
    plan_module,
)


class Counting(nn.Module):
    """A module with extra state, a tensor in it included."""

    def __init__(self, count: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.count = count
        self.seen = torch.zeros(2)

    def get_extra_state(self) -> dict[Any, Any]:
        """Return the count and what was seen."""
        return {"count": self.count, 7: ("seven", self.seen)}

    def set_extra_state(self, state: Any) -> None:
        """Take both back."""
        self.count = state["count"]
        self.seen = state[7][1]


def saved(module: nn.Module) -> Saved:
    """The module as a checkpoint has it."""
    return save(capture_module("model", module))


def planned(stored: Saved, module: nn.Module, **options: Any) -> RestorePlan:
    """A plan to load it into another module."""
    return plan_module(stored.record, module, **options)


def problems(stored: Saved, module: nn.Module, **options: Any) -> dict[str, str]:
    """Name and kind of every problem."""
    return {problem.name: problem.kind for problem in planned(stored, module, **options).problems}


def equal(left: nn.Module, right: nn.Module) -> bool:
    """Whether two modules have the same state."""
    return same(dict(left.state_dict()), dict(right.state_dict()))


def test_extra_state_goes_through_the_tree() -> None:
    """What get_extra_state returns is restored by set_extra_state, integer keys and tensors too."""
    source, target = nn.Sequential(Counting(3)), nn.Sequential(Counting())
    source[0].seen = torch.tensor([4.0, 5.0])
    load(saved(source), lambda stored: plan_module(stored, target))
    assert target[0].count == 3
    assert same(target[0].seen, source[0].seen)


def test_extra_state_on_one_side_only_is_a_problem() -> None:
    """Extra state that is missing, or that nobody takes, is named."""
    plain = nn.Sequential(nn.Linear(2, 1, bias=False))
    counting = nn.Sequential(Counting())
    with torch.no_grad():
        plain[0].weight = nn.Parameter(torch.ones(2))
    assert problems(saved(counting), plain) == {"0._extra_state": "extra_state"}
    assert problems(saved(plain), counting) == {"0._extra_state": "extra_state"}
    assert not planned(saved(plain), counting, strict=False).problems


def test_tensor_extra_state_is_stored_under_its_own_key() -> None:
    """Extra state that is a tensor stands in the file as in the state dict."""

    class Scaled(nn.Module):
        scale = torch.tensor([1, 2], dtype=torch.uint8)

        def get_extra_state(self) -> Any:
            return self.scale

        def set_extra_state(self, state: Any) -> None:
            self.scale = state

    source, target = Scaled(), Scaled()
    source.scale = torch.tensor([9], dtype=torch.uint8)
    assert list(capture_module("model", source).tensors) == ["_extra_state"]
    load(saved(source), lambda stored: plan_module(stored, target))
    assert same(target.scale, source.scale)


def test_modules_with_a_loader_of_their_own_use_it() -> None:
    """A custom loader sees the saved values and versions, and its neighbours load in place."""

    class Doubling(nn.Linear):
        _version = 3
        seen: Any = None

        def _load_from_state_dict(
            self, state_dict: Any, prefix: str, meta: Any, *rest: Any
        ) -> None:
            self.seen = meta.get("version")
            state_dict[prefix + "weight"] = 2 * state_dict[prefix + "weight"]
            super()._load_from_state_dict(state_dict, prefix, meta, *rest)

    source: Any = nn.Sequential(Doubling(2, 2), nn.Linear(2, 2))
    target: Any = nn.Sequential(Doubling(2, 2), nn.Linear(2, 2))
    plan = load(saved(source), lambda stored: plan_module(stored, target))
    assert same(target[0].weight.data, 2 * source[0].weight.data)
    assert target[0].seen == 3
    assert plan.targets["1.weight"].data_ptr() == target[1].weight.data_ptr()
    assert plan.targets["0.weight"].data_ptr() != target[0].weight.data_ptr()


def test_load_hooks_may_translate_old_names_without_strict() -> None:
    """strict=False hands unmatched names to a module with load hooks; strict loads name it."""

    def rename(module: nn.Module, state: Any, prefix: str, *_: Any) -> None:
        if prefix + "kernel" in state:
            state[prefix + "weight"] = state.pop(prefix + "kernel")

    old = nn.Sequential(nn.Module())
    old[0].register_parameter("kernel", nn.Parameter(torch.full((2, 2), 5.0)))
    new: Any = nn.Sequential(nn.Linear(2, 2, bias=False))
    new[0].register_load_state_dict_pre_hook(rename)
    strict = planned(saved(old), new)
    assert any("load hooks" in problem.suggestion for problem in strict.problems)
    load(saved(old), lambda stored: plan_module(stored, new, strict=False))
    assert same(new[0].weight.data, torch.full((2, 2), 5.0))


def test_hooks_that_run_after_loading_are_run() -> None:
    """A module that wants to be told after a load is told."""
    calls: list[Any] = []
    target: Any = small_model()
    target.register_load_state_dict_post_hook(lambda _, keys: calls.append(keys.missing_keys))
    load(saved(small_model(1)), lambda stored: plan_module(stored, target))
    assert calls == [[]]


def test_a_loader_that_raises_interrupts_the_load() -> None:
    """What a module's own loading code refuses is reported as a load that must be repeated."""

    class Refusing(nn.Linear):
        def _load_from_state_dict(self, *_: Any) -> None:
            raise RuntimeError("not today")

    stored, target = saved(nn.Linear(2, 2)), Refusing(2, 2)
    plan = planned(stored, target)
    fill(stored, plan)
    with pytest.raises(InterruptedLoadError, match="not today"):
        plan.finish()
    with pytest.raises(InterruptedLoadError):
        plan.rollback()
