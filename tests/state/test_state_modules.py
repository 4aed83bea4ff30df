"""Modules: what is captured, where it is restored, and what a load refuses before it starts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from state_helpers import Saved, load, same, save, small_model, train
from torch import Tensor, nn

from holdfast.errors import FormatError, MismatchError, UnsavableError
from holdfast.state import (
    RestorePlan,
    StoredComponent,
    capture_module,
    plan_module,
)


class Tied(nn.Module):
    """An embedding whose weight is also the output layer's, unless told otherwise."""

    def __init__(self, *, tied: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5, bias=False)
        if tied:
            self.out.weight = self.embed.weight


def channels_last(module: Any) -> nn.Module:
    """The module with its weights laid out channels last."""
    moved: nn.Module = module.to(memory_format=torch.channels_last)
    return moved


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


@pytest.mark.parametrize(
    "build",
    [
        small_model,
        lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(3, 4)),
        lambda: nn.utils.spectral_norm(nn.Linear(3, 4)),
        lambda: nn.InstanceNorm1d(3, track_running_stats=True, affine=True),
        lambda: channels_last(nn.Conv2d(3, 4, 3)),
        lambda: Tied(),
        lambda: nn.Linear(3, 2).to(torch.bfloat16),
        lambda: nn.Sequential(),
    ],
)
def test_real_modules_come_back_bit_for_bit(build: Any) -> None:
    """Every kind of module is restored exactly into another instance of itself."""
    source, target = build(), build()
    with torch.no_grad():
        for tensor in target.state_dict().values():
            tensor.fill_(1)
    load(saved(source), lambda stored: plan_module(stored, target))
    assert equal(source, target)


def test_live_tensors_are_filled_in_place() -> None:
    """Targets are the live parameters' and buffers' own memory, so nothing is held twice."""
    model = small_model()
    plan = planned(saved(small_model(1)), model)
    live = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    assert {name: target.data_ptr() for name, target in plan.targets.items()} == live
    assert plan.live


def test_capturing_copies_nothing_and_changes_nothing() -> None:
    """A captured state is a view of the live memory, without gradients."""
    model = small_model()
    train(model, torch.optim.SGD(model.parameters(), 0.1), 1)
    before = copy.deepcopy(model.state_dict())
    state = capture_module("model", model)
    assert all(
        tensor.data_ptr() == model.state_dict()[name].data_ptr() and not tensor.requires_grad
        for name, tensor in state.tensors.items()
    )
    assert same(dict(before), dict(model.state_dict()))


def test_planning_changes_nothing() -> None:
    """A live module keeps its values until targets are filled."""
    model = small_model()
    before = copy.deepcopy(model)
    planned(saved(small_model(1)), model)
    assert equal(model, before)


def test_buffers_that_are_not_persistent_are_not_saved() -> None:
    """Only what the state dict holds is captured."""
    model = nn.Linear(2, 2)
    model.register_buffer("scratch", torch.zeros(3), persistent=False)
    assert list(capture_module("model", model).tensors) == ["weight", "bias"]


def test_every_problem_is_reported_at_once() -> None:
    """Missing, unexpected, shape and dtype problems come in one error that names each."""
    source = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 2), "gone": nn.Linear(1, 1)})
    target = nn.ModuleDict(
        {"a": nn.Linear(2, 4), "b": nn.Linear(2, 2).half(), "c": nn.Linear(5, 1)}
    )
    plan = planned(saved(source), target)
    assert {problem.name: problem.kind for problem in plan.problems} == {
        "a.weight": "shape",
        "a.bias": "shape",
        "b.weight": "dtype",
        "b.bias": "dtype",
        "gone.weight": "unexpected",
        "gone.bias": "unexpected",
        "c.weight": "missing",
        "c.bias": "missing",
    }
    assert not plan.targets
    with pytest.raises(
        MismatchError, match=r"a\.weight.*float32\[4, 2\].*float32\[3, 2\]"
    ) as error:
        plan.finish()
    assert error.value.problems == plan.problems


def test_a_renamed_layer_is_suggested() -> None:
    """Missing and unexpected names that look alike and have one shape point at each other."""
    source = nn.ModuleDict({"encoder_proj": nn.Linear(2, 3)})
    target = nn.ModuleDict({"encoder_projection": nn.Linear(2, 3)})
    texts = [str(problem) for problem in planned(saved(source), target).problems]
    assert any(
        "encoder_projection.weight" in text and "'encoder_proj.weight'" in text for text in texts
    )


def test_without_strict_what_fits_is_loaded_and_the_rest_reported() -> None:
    """Names on one side only are tolerated and listed; shapes still have to agree."""
    source = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 2)})
    target = nn.ModuleDict({"a": nn.Linear(2, 3), "c": nn.Linear(2, 2)})
    plan = load(saved(source), lambda stored: plan_module(stored, target, strict=False))
    assert same(target["a"].weight.data, source["a"].weight.data)
    assert {problem.name for problem in plan.tolerated} == {
        "b.weight",
        "b.bias",
        "c.weight",
        "c.bias",
    }
    wrong = nn.ModuleDict({"a": nn.Linear(9, 3)})
    assert problems(saved(source), wrong, strict=False) == {"a.weight": "shape"}


def test_chosen_names_are_loaded_and_nothing_else_is_touched() -> None:
    """A partial load neither reads nor requires the other names."""
    source, target = small_model(0), small_model(1)
    before = copy.deepcopy(target)
    plan = load(
        saved(source),
        lambda stored: plan_module(stored, target, only=lambda name: name.startswith("0.")),
    )
    assert set(plan.targets) == {"0.weight", "0.bias"}
    assert same(target[0].weight.data, source[0].weight.data)
    assert equal(target[1], before[1])
    assert equal(target[3], before[3])


def test_floating_dtypes_are_converted_on_request_only() -> None:
    """A float32 checkpoint fits a bfloat16 model with cast, integers stay what they are."""
    source, target = small_model(), small_model(1).to(torch.bfloat16)
    assert set(problems(saved(source), target).values()) == {"dtype"}
    load(saved(source), lambda stored: plan_module(stored, target, cast="floating"))
    assert same(target[0].weight.data, source[0].weight.data.to(torch.bfloat16))
    counter = nn.Module()
    counter.register_buffer("n", torch.zeros(1))
    whole = nn.Module()
    whole.register_buffer("n", torch.zeros(1, dtype=torch.int64))
    assert problems(saved(counter), whole, cast="floating") == {"n": "dtype"}


def test_modules_without_memory_say_what_to_do() -> None:
    """Loading into a meta module and saving one are refused with a remedy."""
    with torch.device("meta"):
        empty = nn.Linear(2, 2)
    plan = planned(saved(nn.Linear(2, 2)), empty)
    assert {problem.kind for problem in plan.problems} == {"device"}
    assert "to_empty" in plan.problems[0].suggestion
    with pytest.raises(UnsavableError, match="weight"):
        capture_module("model", empty)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_lazy_modules_load_but_cannot_be_saved_before_they_have_a_shape() -> None:
    """A lazy module takes its shape from the checkpoint, and is refused when saved too early."""
    lazy = nn.LazyLinear(2)
    with pytest.raises(UnsavableError, match="lazy"):
        capture_module("model", lazy)
    source = nn.Linear(3, 2)
    load(saved(source), lambda stored: plan_module(stored, lazy))
    assert equal(source, lazy)


@pytest.mark.parametrize(
    "build",
    [
        lambda: torch.eye(2).to_sparse(),
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "quantised"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_dense_memory_are_refused_by_name(build: Callable[[], Tensor]) -> None:
    """Sparse and quantised tensors are refused before anything is written."""
    model = nn.Module()
    model.register_buffer("odd", build())
    with pytest.raises(UnsavableError, match="odd"):
        capture_module("model", model)


def test_conjugated_views_are_saved_with_the_values_they_show() -> None:
    """A lazily conjugated buffer is stored resolved, and not taken for its base."""
    base = torch.tensor([1 + 2j])
    model = nn.Module()
    model.register_buffer("z", base)
    model.register_buffer("conj", base.conj())
    state = capture_module("model", model)
    assert state.tensors["conj"].tolist() == [1 - 2j]
    assert not state.tensors["conj"].is_conj()


def test_a_component_of_another_kind_is_a_problem() -> None:
    """A module is not loaded from an optimizer's component, nor from a tree that is none."""
    record = StoredComponent("model", "optimizer", {}, {})
    assert [problem.kind for problem in plan_module(record, small_model()).problems] == ["kind"]
    tree: Any = {"extra": {}, "versions": {}}
    for damaged, aliases in (([1], {}), ({**tree, "versions": {"": 1}}, {}), (tree, {"a": "b"})):
        record = StoredComponent("model", "module", damaged, {}, aliases)
        with pytest.raises(FormatError, match="not that of a module"):
            plan_module(record, small_model())
