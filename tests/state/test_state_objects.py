"""Schedulers, scalers, values and random streams: handed over whole, rolled back if refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from state_helpers import Saved, fill, load, same, save, small_model
from torch import Tensor, nn, optim
from torch.optim import lr_scheduler

from holdfast.errors import ConfigError, FormatError, UnsavableError
from holdfast.state import (
    StoredComponent,
    StoredTensor,
    StreamLine,
    capture_object,
    capture_rng,
    plan_object,
    plan_rng,
    plan_value,
)
from holdfast.state.object_plan import REVERSIBLE_BYTES_MAX


def sequence(optimizer: optim.Optimizer) -> lr_scheduler.LRScheduler:
    """A warm-up followed by an exponential decay."""
    parts: list[lr_scheduler.LRScheduler] = [
        lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3),
        lr_scheduler.ExponentialLR(optimizer, 0.9),
    ]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[3])


SCHEDULERS: dict[str, Callable[[optim.Optimizer], Any]] = {
    "multi_step": lambda o: lr_scheduler.MultiStepLR(o, [2, 4, 4]),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "sequential": sequence,
    "one_cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.5, total_steps=20),
    "warm_restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)),
}


def stepped(build: Callable[[optim.Optimizer], Any], steps: int) -> tuple[optim.Optimizer, Any]:
    """An optimizer and its scheduler after some steps."""
    optimizer = optim.SGD(small_model().parameters(), 0.1, momentum=0.9)
    scheduler = build(optimizer)
    for step in range(steps):
        optimizer.step()
        advance(scheduler, step)
    return optimizer, scheduler


def advance(scheduler: Any, step: int) -> None:
    """One step of the schedule, with a rising loss where it wants one."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(float(step))
    else:
        scheduler.step()


@pytest.mark.parametrize("kind", SCHEDULERS)
@pytest.mark.parametrize("steps", [0, 3, 5])
def test_schedulers_continue_where_they_were(kind: str, steps: int) -> None:
    """A restored schedule gives the same learning rates, integer keys and infinities included."""
    optimizer, scheduler = stepped(SCHEDULERS[kind], steps)
    other, target = stepped(SCHEDULERS[kind], 0)
    other.load_state_dict(optimizer.state_dict())
    stored = save(capture_object("scheduler", scheduler))
    load(stored, lambda record: plan_object(record, target))
    assert same(target.state_dict(), scheduler.state_dict())
    for step in range(6):
        for one in (optimizer, other):
            one.step()
        advance(scheduler, step)
        advance(target, step)
        assert other.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_a_grad_scaler_keeps_its_scale() -> None:
    """The scale and growth tracker survive."""
    scaler, target = torch.amp.GradScaler("cpu", init_scale=8.0), torch.amp.GradScaler("cpu")
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), 0.1)
    scaler.scale(model(torch.ones(1, 2)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    load(save(capture_object("scaler", scaler)), lambda record: plan_object(record, target))
    assert same(target.state_dict(), scaler.state_dict())
    assert target.get_scale() == 8.0


class Holder:
    """An object with any state; refuses a state that says so, after having taken it."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        """Return the state itself."""
        return self.state

    def load_state_dict(self, state: Any) -> None:
        """Take the state, then complain if it asks for that."""
        self.state = state
        if isinstance(state, dict) and state.get("refuse"):
            raise ValueError("no")


STATES = [
    {"a": torch.arange(3), 1: [torch.ones(2, dtype=torch.bool), None], ("x", 2): {"y"}},
    {"dtype": torch.bfloat16, "device": torch.device("cuda:1"), "size": torch.Size([2, 3])},
    {"layout": torch.strided, "format": torch.channels_last, "empty": {}, "none": []},
    {"large": np.arange(10_000.0).reshape(100, 100), "small": np.float32(1.5)},
]


@pytest.mark.parametrize("state", STATES)
def test_any_state_of_known_types_comes_back(state: Any) -> None:
    """Tensors, torch's small types, arrays and odd keys come back equal, with their types."""
    target = Holder({})
    load(save(capture_object("thing", Holder(state))), lambda record: plan_object(record, target))
    expected = {key: value for key, value in state.items() if not isinstance(value, np.ndarray)}
    actual = {key: value for key, value in target.state.items() if key in expected}
    assert same(actual, expected)
    arrays = [(state[key], target.state[key]) for key in state.keys() - expected.keys()]
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in arrays)


def test_tensors_are_named_by_their_path_and_stored_once() -> None:
    """The same tensor at two places is stored once and is one tensor again after loading."""
    shared = torch.ones(2)
    state = capture_object("thing", {"a": {"b": shared}, "c": [shared, torch.zeros(1)]})
    assert list(state.tensors) == ["thing/a.b", "thing/c[1]"]
    plan = load(save(state), plan_value)
    value: Any = plan.value
    assert value["a"]["b"] is value["c"][0]


def test_a_bare_tensor_is_a_state_too() -> None:
    """A value that is nothing but a tensor has a name as well."""
    stored = save(capture_object("thing", torch.ones(2)))
    assert same(load(stored, plan_value).value, torch.ones(2))


def test_what_cannot_be_saved_is_refused_by_path() -> None:
    """An unknown type and a tensor subclass are named before anything is written."""

    class Marked(Tensor):
        """A subclass that would be lost."""

    with pytest.raises(UnsavableError, match=r"thing\.a\[0\]"):
        capture_object("thing", Holder({"a": [object()]}))
    with pytest.raises(UnsavableError, match=r"thing\.m.*\n.*subclass"):
        capture_object("thing", Holder({"m": torch.ones(1).as_subclass(Marked)}))


def test_a_parameter_in_a_state_comes_back_as_a_tensor() -> None:
    """Parameters go by reference like any tensor, without gradient."""
    stored = save(capture_object("thing", {"p": nn.Parameter(torch.ones(2))}))
    value: Any = load(stored, plan_value).value
    assert same(value, {"p": torch.ones(2)})
    assert not value["p"].requires_grad


def test_a_refused_state_is_rolled_back() -> None:
    """An object that raises after taking a state gets the one it had, tensors included."""
    tensor = torch.zeros(2)
    target = Holder({"t": tensor, "n": 3})
    stored = save(capture_object("thing", Holder({"refuse": True, "t": torch.ones(2)})))
    plan = plan_object(stored.record, target)
    fill(stored, plan)
    with pytest.raises(ValueError, match="no"):
        plan.finish()
    assert plan.reversible
    tensor.fill_(7)
    plan.rollback()
    assert same(target.state, {"t": torch.zeros(2), "n": 3})


def test_a_finished_load_can_be_rolled_back_too() -> None:
    """When a later component refuses, an earlier one is put back."""
    target = Holder({"n": 1})
    plan = load(save(capture_object("thing", {"n": 2})), lambda record: plan_object(record, target))
    assert target.state == {"n": 2}
    plan.rollback()
    assert target.state == {"n": 1}


def test_large_and_unsavable_present_states_are_not_kept() -> None:
    """No copy is made of a large state, of one that cannot be saved, or when told not to."""
    big = Holder({"t": torch.empty(REVERSIBLE_BYTES_MAX + 1, dtype=torch.uint8)})
    strange = Holder({"o": object()})
    stored = save(capture_object("thing", {"n": 2}))
    for target in (big, strange):
        assert not load(stored, lambda record, t=target: plan_object(record, t)).reversible  # type: ignore[misc]
    told = load(stored, lambda record: plan_object(record, Holder({}), reversible=False))
    assert not told.reversible


def test_an_object_that_cannot_load_is_a_problem() -> None:
    """Something without load_state_dict is reported, not called."""
    stored = save(capture_object("thing", {"n": 2}))
    assert [problem.kind for problem in plan_object(stored.record, object()).problems] == ["kind"]


def test_a_tree_that_refers_to_no_stored_tensor_is_refused() -> None:
    """A reference into nowhere is found when planning."""
    tree = {"a": {"$": "tensor", "v": "elsewhere"}}
    with pytest.raises(FormatError, match="elsewhere"):
        plan_value(StoredComponent("thing", "object", tree, {}))


@pytest.mark.parametrize(
    "tree",
    [
        {"$": "torch.dtype", "v": "torch.float"},
        {"$": "torch.dtype", "v": ["torch.float32"]},
        {"$": "torch.device", "v": "moon:0"},
        {"$": "torch.device", "v": {}},
        {"$": "torch.Size", "v": [1, -1]},
        {"$": "torch.Size", "v": [True]},
        {"$": "torch.layout", "v": "torch.nn"},
    ],
)
def test_damaged_torch_values_are_refused(tree: Any) -> None:
    """A torch value is looked up in a table, never by attribute of a module."""
    with pytest.raises(FormatError, match="thing"):
        plan_value(StoredComponent("thing", "object", tree, {}))


def draw(generators: dict[str, Any]) -> list[Any]:
    """A number from every stream."""
    return [
        random.random(),
        np.random.rand(),
        np.random.standard_normal(),
        torch.rand(3).tolist(),
        generators["pcg"].random(),
        generators["mt"].standard_normal(),
        generators["legacy"].rand(),
        generators["python"].random(),
        torch.rand(3, generator=generators["torch"]).tolist(),
    ]


def generators(seed: int) -> dict[str, Any]:
    """One generator of each kind."""
    return {
        "pcg": np.random.default_rng(seed),
        "mt": np.random.Generator(np.random.MT19937(seed)),
        "philox": np.random.Generator(np.random.Philox(seed)),
        "sfc": np.random.Generator(np.random.SFC64(seed)),
        "legacy": np.random.RandomState(seed),
        "python": random.Random(seed),
        "torch": torch.Generator().manual_seed(seed),
    }


def restored(stored: Saved, live: dict[str, Any]) -> dict[str, StreamLine]:
    """Restore the streams; the checklist by stream."""
    value: Any = load(stored, lambda record: plan_rng(record, live)).value
    return {line.stream: line for line in value}


def test_every_random_stream_repeats_itself() -> None:
    """After restoring, every stream draws what it drew after the capture."""
    first = generators(1)
    draw(first)
    stored = save(capture_rng("rng", first))
    expected = draw(first)
    second = generators(2)
    lines = restored(stored, second)
    assert draw(second) == expected
    assert {line.status for line in lines.values()} == {"restored"}
    assert {"python", "numpy", "torch:cpu", "generator:sfc"} <= lines.keys()


def test_capturing_random_streams_advances_none() -> None:
    """What is drawn next does not depend on whether a checkpoint was taken."""
    some = generators(1)
    stored = save(capture_rng("rng", some))
    drawn = draw(some)
    restored(stored, some)
    capture_rng("rng", some)
    assert draw(some) == drawn


def test_streams_on_one_side_only_are_listed() -> None:
    """A generator that is new, gone or of another kind has its line, and the rest is restored."""
    live = {"new": random.Random(1), "b": np.random.default_rng(1)}
    saved_ones: dict[str, Any] = {
        "gone": random.Random(1),
        "b": np.random.Generator(np.random.MT19937(1)),
    }
    lines = restored(save(capture_rng("rng", saved_ones)), live)
    assert {name: line.status for name, line in lines.items()} == {
        "python": "restored",
        "numpy": "restored",
        "torch:cpu": "restored",
        "generator:new": "absent",
        "generator:gone": "absent",
        "generator:b": "mismatch",
    }
    assert "numpy.MT19937" in str(lines["generator:b"])


def test_another_number_of_cuda_devices_is_a_mismatch() -> None:
    """States of CUDA devices that do not exist here are listed with both counts."""
    stored = save(capture_rng("rng"))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    missing = f"torch:cuda:{count}"
    state = {"kind": "torch.cuda", "state": {"$": "tensor", "v": "cuda"}}
    record = StoredComponent(
        "rng",
        "object",
        {**stored.record.tree, missing: state},  # type: ignore[dict-item]
        {**stored.record.tensors, "cuda": StoredTensor(torch.uint8, (16,))},
    )
    data = {**stored.data, "cuda": torch.zeros(16, dtype=torch.uint8)}
    line = restored(Saved(record, data), {})[missing]
    assert line.status == "mismatch"
    assert f"here are {count}" in line.reason


def test_a_state_that_a_stream_refuses_is_a_mismatch() -> None:
    """A state the library does not accept leaves its stream alone and says why."""
    stored = save(capture_rng("rng"))
    before = torch.get_rng_state()
    data = {name: torch.zeros_like(tensor) for name, tensor in stored.data.items()}
    lines = restored(Saved(stored.record, data), {})
    assert lines["torch:cpu"].status == "mismatch"
    assert same(torch.get_rng_state(), before)


def test_random_streams_can_be_rolled_back() -> None:
    """If the load fails after the streams were set, they go back to where they were."""
    other = save(capture_rng("rng", generators(2)))
    draw(generators(1))
    live = generators(1)
    before = save(capture_rng("rng", live))
    expected = draw(live)
    restored(before, live)
    plan = load(other, lambda record: plan_rng(record, live))
    plan.rollback()
    assert draw(live) == expected


def test_generators_without_state_are_refused() -> None:
    """A generator of the operating system, or something else, cannot be captured."""
    with pytest.raises(ConfigError, match="operating system"):
        capture_rng("rng", {"os": random.SystemRandom()})
    odd: Any = object()
    with pytest.raises(ConfigError, match="odd"):
        capture_rng("rng", {"odd": odd})


def test_a_tree_that_is_no_random_state_is_refused() -> None:
    """A damaged tree is found when planning."""
    with pytest.raises(FormatError, match="random streams"):
        plan_rng(StoredComponent("rng", "object", {"python": 3}, {}))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_streams_repeat_themselves() -> None:
    """Each CUDA device draws on from where it was."""
    torch.rand(1, device="cuda")
    stored = save(capture_rng("rng"))
    expected = torch.rand(3, device="cuda").tolist()
    lines = restored(stored, {})
    assert torch.rand(3, device="cuda").tolist() == expected
    assert lines["torch:cuda:0"].status == "restored"
