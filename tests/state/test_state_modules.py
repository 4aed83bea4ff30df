"""Modules: what is captured, where it is restored, and what a load refuses before it starts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_model, save_file
from state_helpers import Saved, fill, load, same, save, small_model, train
from torch import Tensor, nn

from holdfast.errors import FormatError, InterruptedLoadError, MismatchError, UnsavableError
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


def test_tied_tensors_are_converted_into_both_untied_ones() -> None:
    """Ties and conversion work together."""
    source, target = Tied(), Tied(tied=False)
    target.out.to(torch.bfloat16)
    load(saved(source), lambda stored: plan_module(stored, target, cast="floating"))
    assert same(target.out.weight.data, source.out.weight.data.to(torch.bfloat16))
    assert same(target.embed.weight.data, source.embed.weight.data)


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
    with pytest.raises(FormatError, match="not that of a module"):
        plan_module(StoredComponent("model", "module", [1], {}), small_model())
