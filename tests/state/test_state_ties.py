"""Tied tensors: stored once, restored as they are tied here, never merged unproven."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_model, save_file
from state_helpers import Saved, fill, load, same, save
from torch import nn

from holdfast.errors import MismatchError
from holdfast.state import (
    RestorePlan,
    StoredComponent,
    StoredTensor,
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


def test_tied_tensors_are_stored_once_under_the_first_name() -> None:
    """The second name of a tied tensor is an alias, and both are restored as one tensor."""
    state = capture_module("model", Tied())
    assert list(state.tensors) == ["embed.weight"]
    assert state.aliases == {"out.weight": "embed.weight"}
    target = Tied()
    load(save(state), lambda stored: plan_module(stored, target))
    assert target.out.weight is target.embed.weight


def test_the_file_of_a_tied_model_loads_with_stock_safetensors(tmp_path: Path) -> None:
    """safetensors.torch.load_model accepts the names that are stored."""
    source, target = Tied(), Tied()
    save_file(dict(capture_module("model", source).tensors), tmp_path / "model.safetensors")
    missing, unexpected = load_model(target, str(tmp_path / "model.safetensors"))
    assert not missing
    assert not unexpected
    assert equal(source, target)


def test_views_that_merely_overlap_are_not_tied() -> None:
    """Tensors of one storage are stored once only if offset, shape and stride agree too."""
    base = torch.arange(6.0)
    model = nn.Module()
    for name, view in {
        "a": base[:4],
        "b": base[2:],
        "c": base[:4],
        "t": base[:4].view(2, 2),
    }.items():
        model.register_buffer(name, view)
    state = capture_module("model", model)
    assert list(state.tensors) == ["a", "b", "t"]
    assert state.aliases == {"c": "a"}


def test_a_saved_tie_fills_both_tensors_of_an_untied_model() -> None:
    """The value of a tied tensor reaches every live tensor that has one of its names."""
    source, target = Tied(), Tied(tied=False)
    load(saved(source), lambda stored: plan_module(stored, target))
    assert same(target.embed.weight.data, source.embed.weight.data)
    assert same(target.out.weight.data, source.embed.weight.data)
    assert target.out.weight is not target.embed.weight


def test_untied_values_fit_a_tied_model_only_if_proven_equal() -> None:
    """Two different tensors never silently become one; equal digests are the proof."""
    source = Tied(tied=False)
    assert problems(saved(source), Tied()) == {"out.weight": "alias"}
    with torch.no_grad():
        source.out.weight.copy_(source.embed.weight)
    target = Tied()
    load(saved(source), lambda stored: plan_module(stored, target))
    assert same(target.out.weight.data, source.out.weight.data)
    unproven = saved(source).record
    bare = {name: StoredTensor(t.dtype, t.shape) for name, t in unproven.tensors.items()}
    record = StoredComponent("model", "module", unproven.tree, bare)
    assert [problem.kind for problem in plan_module(record, Tied()).problems] == ["alias"]


def test_a_name_missing_from_the_file_is_filled_through_its_tie() -> None:
    """A file written without the alias, as stock tools do, still fits the tied model."""
    stored = saved(Tied())
    bare = StoredComponent("model", "module", stored.record.tree, stored.record.tensors)
    plan = plan_module(bare, Tied())
    assert not plan.problems
    assert any("out.weight" in line for line in plan.report)


def test_tied_tensors_are_converted_into_both_untied_ones() -> None:
    """Ties and conversion work together."""
    source, target = Tied(), Tied(tied=False)
    target.out.to(torch.bfloat16)
    load(saved(source), lambda stored: plan_module(stored, target, cast="floating"))
    assert same(target.out.weight.data, source.out.weight.data.to(torch.bfloat16))
    assert same(target.embed.weight.data, source.embed.weight.data)


class Transposed(nn.Module):
    """A decoder whose weight is its encoder's, transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Linear(3, 2, bias=False)
        self.dec = nn.Linear(2, 3, bias=False)
        self.dec.weight = nn.Parameter(self.enc.weight.t())


def test_a_transposed_tie_loads_from_its_own_checkpoint() -> None:
    """Two views of one memory are saved apart and agree when they come back."""
    source, target = Transposed(), Transposed()
    load(saved(source), lambda stored: plan_module(stored, target))
    assert equal(source, target)
    assert target.dec.weight.data_ptr() == target.enc.weight.data_ptr()


def test_values_that_contradict_a_transposed_tie_are_refused() -> None:
    """Where live tensors share elements, saved values must agree, or nothing is changed."""
    untied = Transposed()
    untied.dec.weight = nn.Parameter(torch.ones(3, 2))
    stored, target = saved(untied), Transposed()
    before = target.enc.weight.detach().clone()
    plan = planned(stored, target)
    fill(stored, plan)
    with pytest.raises(MismatchError, match="contradict"):
        plan.finish()
    assert same(target.enc.weight.data, before)


def test_interleaved_and_expanded_buffers_come_back() -> None:
    """Columns of one storage and buffers of stride 0 are restored like any other."""

    def build(value: float) -> nn.Module:
        model = nn.Module()
        base = torch.full((3, 4), value)
        model.register_buffer("left", base[:, :2])
        model.register_buffer("right", base[:, 2:])
        model.register_buffer("wide", torch.tensor([value]).expand(5))
        return model

    source, target = build(2.0), build(0.0)
    load(saved(source), lambda stored: plan_module(stored, target))
    assert equal(source, target)
