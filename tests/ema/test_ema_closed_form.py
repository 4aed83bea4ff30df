"""The average is the weighted sum it is defined as, in every combination of options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ema_helpers import OneWeight, closed_form, paths
from torch import Tensor, nn

from holdfast import ConstantDecay, EMAModel, HalfLife, PowerFunction
from holdfast.decay import Clock, CountRatio, InverseGamma, Schedule

STEPS = 240
SCHEDULES = {
    "constant": ConstantDecay(0.98),
    "warm-up by inverse gamma": ConstantDecay(0.99, InverseGamma()),
    "warm-up by count": ConstantDecay(0.99, CountRatio()),
    "late start": ConstantDecay(0.95, start=60),
    "half-life in steps": HalfLife(30, "steps"),
    "half-life with ramp-up": HalfLife(60, "steps", ramp_up=0.09),
    "power function": PowerFunction(0.1),
    "plain mean": PowerFunction(gamma=0.0),
}


def follow(model: OneWeight, ema: EMAModel, path: Tensor, **counted: int) -> Tensor:
    """Walk the path with an update at each step; return the first average."""
    for value in path[1:]:
        model.move_to(value)
        ema.update(**counted)
    return average_of(ema)


def average_of(ema: EMAModel, which: int | Schedule = 0) -> Tensor:
    """The averaged weight."""
    value = ema.averaged_state_dict(which)["weight"]
    assert isinstance(value, Tensor)
    return value


@pytest.mark.parametrize("update_every", [1, 7])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("kind", ["constant", "ramp", "random"])
def test_the_average_is_the_closed_form(kind: str, schedule: Schedule, update_every: int) -> None:
    """Constant, ramp and random paths give the float64 weighted sum, to float32 rounding."""
    path = paths(STEPS)[kind]
    model = OneWeight(path[0])
    found = follow(model, EMAModel(model, schedule, update_every=update_every), path)
    wanted = torch.from_numpy(closed_form(path, schedule, update_every=update_every))
    torch.testing.assert_close(found.double(), wanted, rtol=3e-6, atol=3e-6)


def test_in_float64_the_average_is_the_closed_form_to_float64_rounding() -> None:
    """What differs above is float32 rounding and nothing else."""
    path = paths(STEPS)["random"]
    model = OneWeight(path[0])
    ema = EMAModel(model, ConstantDecay(0.99, InverseGamma()), dtype=torch.float64)
    found = follow(model, ema, path)
    wanted = torch.from_numpy(closed_form(path, ema.schedules[0]))
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)


def test_several_decays_are_each_what_they_would_be_alone() -> None:
    """Averages kept together are bit for bit those kept one by one."""
    path = paths(STEPS)["random"]
    wanted = []
    for schedule in SCHEDULES.values():
        model = OneWeight(path[0])
        wanted.append(follow(model, EMAModel(model, schedule), path))
    model = OneWeight(path[0])
    ema = EMAModel(model, list(SCHEDULES.values()))
    follow(model, ema, path)
    for place, alone in enumerate(wanted):
        assert torch.equal(average_of(ema, place), alone)


def test_a_half_life_in_samples_does_not_depend_on_batch_size_or_accumulation() -> None:
    """One path over samples, walked in small and large batches, gives the same decay."""
    life = HalfLife(1_000)
    small = [
        life.kept(Clock(step, 10 * step), Clock(step + 1, 10 * step + 10)) for step in range(8)
    ]
    large = life.kept(Clock(0, 0), Clock(1, 80))
    assert torch.tensor(small, dtype=torch.float64).prod().item() == pytest.approx(large, rel=1e-14)
    path = paths(60)["random"]
    model = OneWeight(path[0])
    ema = EMAModel(model, life)
    for value in path[1:]:
        model.move_to(value)
        for _ in range(4):
            ema.count(8)
        ema.update()
    wanted = torch.from_numpy(closed_form(path, life, samples=[32] * 60))
    torch.testing.assert_close(average_of(ema).double(), wanted, rtol=1e-6, atol=1e-6)


def test_samples_that_nobody_counted_are_asked_for() -> None:
    """A schedule in samples refuses a step of unknown size instead of taking it for none."""
    model = nn.Linear(2, 2)
    ema = EMAModel(model, HalfLife(100))
    with pytest.raises(ValueError, match="counts samples"):
        ema.update()


def scaled_training(fused: bool) -> tuple[OneWeight, EMAModel, Any]:
    """A model trained with a gradient scaler that overflows in every third step."""
    model = OneWeight(torch.ones(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    ema = EMAModel(model, 0.9)
    ema.attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    walked = [model.weight.detach().clone()]
    for step in range(12):
        optimizer.zero_grad()
        loss = model(torch.full((3,), float("inf") if step % 3 == 2 else 0.1)).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if step % 3 != 2:
            walked.append(model.weight.detach().clone())
    return model, ema, torch.stack(walked)


@pytest.mark.parametrize("fused", [False, True], ids=["plain optimizer", "fused optimizer"])
def test_steps_that_the_gradient_scaler_skips_are_not_counted(fused: bool) -> None:
    """Overflowing steps leave no trace, also where the optimizer is stepped and skips by itself."""
    _, ema, walked = scaled_training(fused)
    assert ema.clock.steps == ema.updates == 8
    wanted = torch.from_numpy(closed_form(walked, ConstantDecay(0.9)))
    torch.testing.assert_close(average_of(ema).double(), wanted, rtol=1e-6, atol=1e-6)


def test_updates_use_no_new_memory_after_the_first() -> None:
    """A further update of many tensors, in 32 and in 16 bits, allocates nothing."""
    for dtype in (torch.float32, torch.bfloat16):
        model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(6))).to(dtype)
        ema = EMAModel(model, [0.9, 0.99])
        ema.update()
        with torch.profiler.profile(profile_memory=True) as profile:
            ema.update()
        taken = {
            event.name: event.self_cpu_memory_usage
            for event in profile.events() or []
            if event.self_cpu_memory_usage > 4096
        }
        assert not taken
