"""Optimizers: captured without being changed, matched by name, restored bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from state_helpers import Saved, load, same, save, small_model, train
from torch import Tensor, nn, optim

from holdfast.errors import FormatError, MismatchError
from holdfast.state import (
    RestorePlan,
    StoredComponent,
    capture_module,
    capture_optimizer,
    parameter_names,
    plan_module,
    plan_optimizer,
)

Build = Callable[[nn.Module], optim.Optimizer]

OPTIMIZERS: dict[str, Build] = {
    "adam": lambda m: optim.Adam(m.parameters(), amsgrad=True),
    "adamw": lambda m: optim.AdamW(m.parameters(), 1e-2),
    "adamw_fused": lambda m: optim.AdamW(m.parameters(), fused=True),
    "adamw_foreach": lambda m: optim.AdamW(m.parameters(), foreach=True),
    "tensor_lr": lambda m: optim.AdamW(m.parameters(), lr=torch.tensor(0.01), foreach=False),
    "sgd": lambda m: optim.SGD(m.parameters(), 0.1),
    "sgd_momentum": lambda m: optim.SGD(m.parameters(), 0.1, momentum=0.9, nesterov=True),
    "adafactor": lambda m: optim.Adafactor(m.parameters()),
    "adagrad": lambda m: optim.Adagrad(m.parameters()),
    "rmsprop": lambda m: optim.RMSprop(m.parameters(), momentum=0.5, centered=True),
    "lbfgs": lambda m: optim.LBFGS(m.parameters(), max_iter=3),
    "nadam": lambda m: optim.NAdam(m.parameters()),
    "rprop": lambda m: optim.Rprop(m.parameters()),
    "asgd": lambda m: optim.ASGD(m.parameters()),
    "named": lambda m: optim.AdamW(m.named_parameters()),
    "groups": lambda m: optim.AdamW(
        [
            {"params": [p for p in m.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in m.parameters() if p.ndim < 2], "lr": 1e-3, "betas": (0.8, 0.9)},
        ],
        1e-2,
    ),
}


def saved(model: nn.Module, optimizer: optim.Optimizer, *, named: bool = True) -> Saved:
    """The optimizer as a checkpoint has it."""
    names = parameter_names(model) if named else {}
    return save(capture_optimizer("optimizer", optimizer, names))


def restore(
    stored: Saved, model: nn.Module, optimizer: optim.Optimizer, **options: Any
) -> RestorePlan:
    """Load it into another optimizer."""
    names = parameter_names(model)
    return load(stored, lambda record: plan_optimizer(record, optimizer, names, **options))


def trained(build: Build, steps: int = 3) -> tuple[Any, optim.Optimizer]:
    """A small model and its optimizer after some steps."""
    model = small_model()
    optimizer = build(model)
    train(model, optimizer, steps)
    return model, optimizer


def reordered(model: nn.Module, *, reverse: bool = True) -> list[nn.Parameter]:
    """The parameters in another order."""
    parameters = list(model.parameters())
    return parameters[::-1] if reverse else parameters


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("steps_before", [0, 2], ids=["fresh", "used"])
def test_every_optimizer_continues_bit_for_bit(kind: str, steps_before: int) -> None:
    """A restored optimizer, fresh or used before, has equal state and trains on identically."""
    build = OPTIMIZERS[kind]
    model, optimizer = trained(build)
    other, target = trained(build, steps_before)
    load(save(capture_module("m", model)), lambda record: plan_module(record, other))
    restore(saved(model, optimizer), other, target)
    assert same(target.state_dict(), optimizer.state_dict())
    train(model, optimizer, 2, seed=9)
    train(other, target, 2, seed=9)
    assert same(target.state_dict(), optimizer.state_dict())
    assert same(dict(other.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_that_never_stepped_is_captured_as_it_is(kind: str) -> None:
    """Capturing runs no step: a fresh optimizer stays fresh, and so does its copy."""
    model, optimizer = trained(OPTIMIZERS[kind], 0)
    before = copy.deepcopy(optimizer.state_dict())
    stored = saved(model, optimizer)
    assert same(optimizer.state_dict(), before)
    other, target = trained(OPTIMIZERS[kind], 0)
    restore(stored, other, target)
    assert same(target.state_dict(), before)


def test_tensors_are_named_by_the_fqn_of_their_parameter() -> None:
    """State tensors carry the parameter's name where it is known and its index where not."""
    model, optimizer = trained(OPTIMIZERS["adamw"])
    named = capture_optimizer("optimizer", optimizer, parameter_names(model))
    assert {"state.0.weight.exp_avg", "state.3.bias.step"} <= set(named.tensors)
    nameless = capture_optimizer("optimizer", optimizer, {})
    assert {"state.0.exp_avg", "state.5.step"} <= set(nameless.tensors)
    assert len(named.tensors) == len(nameless.tensors) == 18


def test_lists_of_tensors_are_named_by_their_place() -> None:
    """LBFGS keeps lists of tensors; each item has its number."""
    model, optimizer = trained(OPTIMIZERS["lbfgs"])
    names = capture_optimizer("optimizer", optimizer, parameter_names(model)).tensors
    assert {"state.0.weight.d", "state.0.weight.old_dirs.0"} <= set(names)


def test_loading_makes_no_second_copy() -> None:
    """The optimizer keeps the very tensors that were filled; where it had fitting ones, those."""
    model, optimizer = trained(OPTIMIZERS["adamw"])
    stored = saved(model, optimizer)
    other, fresh = trained(OPTIMIZERS["adamw"], 0)
    plan = restore(stored, other, fresh)
    held = {id(tensor) for state in fresh.state.values() for tensor in state.values()}
    assert held == {id(target) for target in plan.targets.values()}
    again = restore(stored, other, fresh)
    assert {id(target) for target in again.targets.values()} == held


def test_memory_shared_with_a_parameter_is_never_a_target() -> None:
    """State that aliases a parameter is read into memory of its own."""
    model, optimizer = trained(OPTIMIZERS["sgd_momentum"])
    stored = saved(model, optimizer)
    other, target = trained(OPTIMIZERS["sgd_momentum"])
    for parameter in other.parameters():
        target.state[parameter]["momentum_buffer"] = parameter.data
    before = copy.deepcopy(dict(other.state_dict()))
    restore(stored, other, target)
    assert same(dict(other.state_dict()), before)


@pytest.mark.parametrize("kind", ["adamw", "named"])
def test_parameters_are_matched_by_name_when_their_order_changed(kind: str) -> None:
    """State follows the name of its parameter, not its number."""
    model, optimizer = trained(OPTIMIZERS[kind])
    other = small_model()
    pairs = list(other.named_parameters())[::-1]
    target = optim.AdamW(pairs if kind == "named" else [p for _, p in pairs], 1e-2)
    restore(saved(model, optimizer), other, target)
    for name, parameter in model.named_parameters():
        there = optimizer.state[parameter]
        here = target.state[dict(other.named_parameters())[name]]
        assert same(dict(there), dict(here))
    if kind == "named":
        assert target.param_groups[0]["param_names"] == [name for name, _ in pairs]


def test_without_names_parameters_are_matched_by_place() -> None:
    """A checkpoint without names still loads into the same parameters in the same order."""
    model, optimizer = trained(OPTIMIZERS["adamw"])
    other, target = trained(OPTIMIZERS["adamw"], 0)
    plan = restore(saved(model, optimizer, named=False), other, target)
    assert same(target.state_dict(), optimizer.state_dict())
    assert "by place" in plan.report[0]


def test_frozen_and_added_parameters_are_named() -> None:
    """A parameter that was frozen since, and one that is new, are problems with their names."""
    model, optimizer = trained(OPTIMIZERS["adamw"])
    stored = saved(model, optimizer)
    other: Any = nn.Sequential(*small_model(), nn.Linear(2, 2, bias=False))
    other[0].weight.requires_grad_(False)
    target = optim.AdamW([p for p in other.parameters() if p.requires_grad])
    plan = plan_optimizer(stored.record, target, parameter_names(other))
    assert {problem.name: problem.kind for problem in plan.problems} == {
        "0.weight": "unexpected",
        "4.weight": "missing",
    }
    assert "frozen now" in str(plan.problems[1])
    tolerant = restore(stored, other, target, strict=False)
    assert {problem.name for problem in tolerant.tolerated} == {"0.weight", "4.weight"}
    assert same(dict(target.state[other[3].weight]), dict(optimizer.state[model[3].weight]))
    assert other[4].weight not in target.state


def test_other_groups_are_problems_that_name_the_layers() -> None:
    """Another number of groups, and a parameter in another group, are explained by name."""
    model, optimizer = trained(OPTIMIZERS["groups"])
    stored = saved(model, optimizer)
    other, single = trained(OPTIMIZERS["adamw"], 0)
    (problem,) = plan_optimizer(stored.record, single, parameter_names(other)).problems
    assert problem.kind == "param_group"
    assert "2 groups" in problem.found
    assert "3.weight" in problem.found
    moved = optim.AdamW(
        [{"params": list(other[:1].parameters())}, {"params": list(other[1:].parameters())}]
    )
    names = {
        problem.name: (problem.expected, problem.found)
        for problem in plan_optimizer(stored.record, moved, parameter_names(other)).problems
    }
    assert names == {"0.bias": ("group 0", "group 1"), "3.weight": ("group 1", "group 0")}


def test_other_sizes_without_names_are_problems() -> None:
    """Matched by place, groups of another size say who is in them."""
    model, optimizer = trained(OPTIMIZERS["adamw"])
    stored = saved(model, optimizer, named=False)
    target = optim.AdamW(list(small_model().parameters())[:2])
    (problem,) = plan_optimizer(stored.record, target, {}).problems
    assert (problem.kind, problem.name) == ("param_group", "group 0")


def test_parameters_of_another_shape_or_dtype_are_problems() -> None:
    """State of a parameter that has changed its form does not fit; dtype may be converted."""
    model, optimizer = trained(OPTIMIZERS["adamw"])
    stored = saved(model, optimizer)
    wider: Any = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    plan = plan_optimizer(stored.record, optim.AdamW(wider.parameters()), parameter_names(wider))
    assert {problem.name: problem.kind for problem in plan.problems} == {
        "3.weight": "shape",
        "3.bias": "shape",
    }
    half: Any = small_model().to(torch.bfloat16)
    target = optim.AdamW(half.parameters())
    plan = plan_optimizer(stored.record, target, parameter_names(half))
    assert {problem.kind for problem in plan.problems} == {"dtype"}
    restore(stored, half, target, cast="floating")
    assert target.state[half[0].weight]["exp_avg"].dtype == torch.bfloat16
    with pytest.raises(MismatchError, match=r"3\.weight"):
        restore(stored, wider, optim.AdamW(wider.parameters()))


def test_state_of_another_dtype_than_its_parameter_is_kept() -> None:
    """float32 state of a bfloat16 parameter is not rounded, although torch's load would."""

    class Precise(optim.SGD):
        """Keeps its momentum in float32."""

    model = nn.Linear(2, 2).to(torch.bfloat16)
    optimizer = Precise(model.parameters(), 0.1)
    for parameter in model.parameters():
        momentum = torch.rand(parameter.shape)
        optimizer.state[parameter] = {"momentum": momentum, "history": [momentum + 1], "step": 3}
    other = copy.deepcopy(model)
    target = Precise(other.parameters(), 0.1)
    restore(saved(model, optimizer), other, target)
    assert same(target.state_dict(), optimizer.state_dict())


def test_state_that_belongs_to_no_parameter_is_kept() -> None:
    """Entries under keys of their own come back under the same keys."""
    model, optimizer = trained(OPTIMIZERS["sgd"])
    other, target = trained(OPTIMIZERS["sgd"], 0)
    optimizer.state["shared"] = {"total": torch.tensor(3.0)}  # type: ignore[index]
    restore(saved(model, optimizer), other, target)
    assert same(dict(target.state), dict(optimizer.state))


def test_hooks_of_the_optimizer_run() -> None:
    """Hooks on load_state_dict see the state and run after it."""
    model, optimizer = trained(OPTIMIZERS["adamw"])
    other, target = trained(OPTIMIZERS["adamw"], 0)
    seen: list[object] = []

    def before(_: optim.Optimizer, state: dict[str, Any]) -> None:
        seen.append(sorted(state))

    target.register_load_state_dict_pre_hook(before)
    target.register_load_state_dict_post_hook(lambda _: seen.append("after"))
    restore(saved(model, optimizer), other, target)
    assert seen == [["param_groups", "state"], "after"]


def test_an_optimizer_with_a_layout_of_its_own_is_handed_its_state() -> None:
    """Optimizers whose state dict is not torch's are captured and restored whole."""

    class Own(optim.SGD):
        """Wraps the state dict of its parent."""

        def state_dict(self) -> dict[str, Any]:
            """Return the parent's state under one key."""
            return {"inner": super().state_dict()}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            """Take it back."""
            super().load_state_dict(state_dict["inner"])

    def build(model: nn.Module) -> optim.Optimizer:
        return Own(model.parameters(), 0.1, momentum=0.9)

    model, optimizer = trained(build)
    other, target = trained(build, 0)
    restore(saved(model, optimizer), other, target)
    assert same(target.state_dict(), optimizer.state_dict())


def test_wrapped_models_share_optimizer_checkpoints_with_plain_ones() -> None:
    """The names in an optimizer checkpoint have no trace of wrappers."""
    model, optimizer = trained(OPTIMIZERS["adamw"])
    other = small_model()
    wrapped: Any = torch.compile(other, backend="eager")
    target = optim.AdamW(wrapped.named_parameters())
    plan = restore(saved(model, optimizer), wrapped, target)
    assert "by name" in plan.report[0]


def test_a_component_of_another_kind_is_refused() -> None:
    """An optimizer is not loaded from a module's component."""
    model, optimizer = trained(OPTIMIZERS["sgd"])
    names: dict[Tensor, str] = parameter_names(model)
    record = StoredComponent("optimizer", "module", {}, {})
    assert [p.kind for p in plan_optimizer(record, optimizer, names).problems] == ["kind"]


ROW = ["a", [2], "torch.float32"]
GROUP = {"params": [0]}


@pytest.mark.parametrize(
    "tree",
    [
        [1],
        {"parameters": []},
        {"state_dict": {"state": {}, "param_groups": [GROUP]}, "parameters": [[]]},
        {"state_dict": {"state": {}, "param_groups": [GROUP]}, "parameters": [[["a"]]]},
        {"state_dict": {"state": {}, "param_groups": [GROUP]}, "parameters": [[[3, *ROW[1:]]]]},
        {"state_dict": {"state": [], "param_groups": [GROUP]}, "parameters": [[ROW]]},
        {"state_dict": {"state": {}, "param_groups": [{"params": [[]]}]}, "parameters": [[ROW]]},
        {"state_dict": {"state": {}, "param_groups": 3}, "parameters": [[ROW]]},
        {"state_dict": 3, "parameters": [[ROW]]},
    ],
)
def test_damaged_optimizer_trees_are_refused(tree: Any) -> None:
    """A tree that is not an optimizer's is found when planning."""
    model, optimizer = trained(OPTIMIZERS["sgd"])
    record = StoredComponent("optimizer", "optimizer", tree, {})
    with pytest.raises(FormatError, match="optimizer"):
        plan_optimizer(record, optimizer, parameter_names(model))
