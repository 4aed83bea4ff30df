"""Averages made after training equal those that training would have kept."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from posthoc_runs import TRACKED, Walker, finished_run, walk
from torch import Tensor

from holdfast import CheckpointConfig, CheckpointManager, EMAModel, PowerFunction
from holdfast.decay import Clock
from holdfast.errors import CheckpointNotFoundError, ConfigError, DamagedError
from holdfast.posthoc import find_snapshots, open_run, plan_ema, plan_window, stream_recipes

STEPS = 640


def profile_average(path: Tensor, sigma: float, update_every: int = 1) -> Tensor:
    """The EMA of this width over the path, in float64 from its definition."""
    schedule = PowerFunction(sigma)
    average = torch.zeros(path.shape[1], dtype=torch.float64)
    for step in range(update_every, len(path), update_every):
        kept = schedule.kept(Clock(step - update_every), Clock(step))
        average = kept * average + (1.0 - kept) * path[step].double()
    return average


def bytes_of_tensors() -> int:
    """Of all plain tensors alive in this process."""
    return sum(t.nbytes for t in gc.get_objects() if type(t) is Tensor)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 32 snapshots."""
    folder = tmp_path_factory.mktemp("run")
    finished_run(folder, walk(STEPS), saves=32)
    return folder


@pytest.mark.parametrize("sigma", [0.05, 0.10])
def test_a_tracked_length_is_reconstructed_from_itself(run: Path, sigma: float) -> None:
    """Bit for bit what was stored, which is the closed form to rounding."""
    recipe = plan_ema(run, sigma)
    assert len(recipe.parts) == 1
    assert recipe.error == 0.0
    found = recipe.read()["weight"]
    wanted = profile_average(walk(STEPS), sigma)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.03, 0.075, 0.15, 0.20, 0.25])
def test_other_lengths_come_out_as_near_as_was_predicted(run: Path, sigma: float) -> None:
    """The error on the path stays below the predicted one times the size of the profile."""
    path = walk(STEPS)
    recipe = plan_ema(run, sigma)
    assert recipe.error < 0.05
    found, wanted = recipe.read()["weight"].double(), profile_average(path, sigma)
    # Cauchy-Schwarz over the profile, whose norm is at most sqrt((g + 1)**2 / (2 g + 1)).
    gamma = PowerFunction(sigma).gamma
    norm = np.sqrt((gamma + 1) ** 2 / (2 * gamma + 1))
    spread = float((path.double() - wanted).square().mean(0).sqrt().max())
    assert float((found - wanted).abs().max()) <= recipe.error * norm * spread + 5e-3


def test_the_recipe_says_what_it_will_do_before_reading(run: Path) -> None:
    """Predicted error, sum of coefficients, and every source, as text and as JSON."""
    recipe = plan_ema(run, 0.15)
    assert "predicted profile error 0.0023" in str(recipe)
    record = json.loads(json.dumps(recipe.to_dict()))
    assert len(record["parts"]) == 64
    assert sum(part["coefficient"] for part in record["parts"]) == pytest.approx(1.0)


def test_only_snapshots_up_to_the_target_take_part(run: Path) -> None:
    """An average wanted at an earlier checkpoint knows nothing of later ones."""
    names = [snapshot.checkpoint for snapshot in find_snapshots(open_run(run))]
    middle = sorted(set(names))[15]
    recipe = plan_ema(run, 0.15, until=middle)
    assert max(part.clock.steps for part, _ in recipe.parts) == STEPS // 2
    found, wanted = recipe.read()["weight"], profile_average(walk(STEPS)[: STEPS // 2 + 1], 0.15)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=0.02)
    with pytest.raises(CheckpointNotFoundError):
        plan_ema(run, 0.15, until="checkpoint_missing")


def test_updates_at_every_tenth_step_have_the_right_centre_of_mass(tmp_path: Path) -> None:
    """A known library uses the decay of one step for ten, and ends at two thirds of the run."""
    steps = 2_000
    ramp = torch.arange(steps + 1.0)[:, None].repeat(1, 6)
    centre = {}
    for every in (1, 10, 100):
        folder = tmp_path / str(every)
        finished_run(folder, ramp, saves=4, update_every=every)
        centre[every] = float(plan_ema(folder, 0.05).read()["weight"][0])
    power = PowerFunction(0.05).gamma + 1
    for every, found in centre.items():
        times = np.arange(0, steps + 1, every)
        expected = (times[1:] * np.diff((times / steps) ** power)).sum()
        assert found == pytest.approx(expected, rel=1e-5)
        assert found == pytest.approx(steps * power / (power + 1), abs=every)


def test_a_weight_that_never_changed_comes_out_as_it_is(tmp_path: Path) -> None:
    """Large coefficients of both signs cancel: their sum is held at 1."""
    finished_run(tmp_path, torch.full((161, 6), 0.1), saves=16)
    found = plan_ema(tmp_path, 0.02).read()["weight"]
    torch.testing.assert_close(found, torch.full((6,), 0.1), rtol=1e-6, atol=0)


def test_the_result_loads_into_the_model(run: Path) -> None:
    """Every FQN is there: tied names, frozen parameters and the newest buffers."""
    model = Walker(torch.zeros(6))
    plan_ema(run, 0.15).read_into(model)
    assert model.tied is model.weight
    assert float(model.frozen) == 7.0
    assert int(model.get_buffer("seen")) == STEPS


def test_a_resumed_run_is_one_course_and_what_it_abandoned_is_left_out(tmp_path: Path) -> None:
    """Snapshots of a branch that was given up do not enter the reconstruction."""
    path = walk(80)
    model, _ = finished_run(tmp_path, path, saves=8)
    with torch.no_grad():
        model.weight.add_(100.0)
    fresh = Walker(torch.zeros(6))
    ema = EMAModel(fresh, TRACKED)
    config = CheckpointConfig(str(tmp_path), save_total_limit=None, progress=False)
    manager = CheckpointManager(config, fresh)
    manager.register("ema", ema)
    manager.load(tmp_path / "checkpoint_epoch0000_step00000040")
    for step in range(41, 61):
        with torch.no_grad():
            fresh.weight.copy_(path[step] + 1.0)
        ema.update()
        if step % 10 == 0:
            manager.save(0, step, {"val_loss": 1.0})
    found = find_snapshots(open_run(tmp_path))
    times = sorted({snapshot.clock.steps for snapshot in found})
    assert times == [10, 20, 30, 40, 50, 60]
    other = torch.cat([path[:41], path[41:61] + 1.0])
    wanted = profile_average(other, 0.10)
    torch.testing.assert_close(plan_ema(tmp_path, 0.10).read()["weight"].double(), wanted)


def test_damage_is_found_while_reading(tmp_path: Path) -> None:
    """A flipped bit in a snapshot is named, not averaged."""
    finished_run(tmp_path, walk(40), saves=4)
    victim = tmp_path / "checkpoint_epoch0000_step00000020" / "ema.safetensors"
    data = bytearray(victim.read_bytes())
    data[-5] ^= 1
    victim.write_bytes(data)
    with pytest.raises(DamagedError, match="step00000020"):
        plan_ema(tmp_path, 0.15).read()


def test_a_run_without_power_functions_is_refused_with_what_to_train(tmp_path: Path) -> None:
    """Averages of constant decay cannot be turned into others."""
    finished_run(tmp_path, walk(8), saves=2, decay=0.99)
    with pytest.raises(ConfigError, match="PowerFunction"):
        plan_ema(tmp_path, 0.1)


def test_many_snapshots_are_streamed_in_the_memory_of_a_few_tensors(tmp_path: Path) -> None:
    """Each tensor is summed and given out before the next is read."""
    model = torch.nn.Sequential(*(torch.nn.Linear(128, 128, bias=False) for _ in range(12)))
    ema = EMAModel(model, TRACKED)
    config = CheckpointConfig(str(tmp_path), save_total_limit=None, progress=False)
    manager = CheckpointManager(config, model)
    manager.register("ema", ema)
    for step in range(1, 9):
        ema.update()
        manager.save(0, step, {"val_loss": 1.0})
    recipe = plan_ema(tmp_path, 0.15)
    before, most = bytes_of_tensors(), 0
    for _, tensors, _ in stream_recipes([recipe]):
        most = max(most, bytes_of_tensors() - before)
        del tensors
    one = 128 * 128 * 4
    assert most <= 5 * one


def test_windows_are_the_plain_mean_of_every_step_in_them(tmp_path: Path) -> None:
    """From segment means, convex, equal to the mean of the path in float64."""
    path = walk(120)
    finished_run(tmp_path, path, saves=12, decay=0.9, segment_means=True)
    recipe = plan_window(tmp_path, start=60)
    assert recipe.label == "mean of steps 61 to 120"
    assert recipe.coefficient_sum == pytest.approx(1.0)
    torch.testing.assert_close(
        recipe.read()["weight"].double(), path[61:].double().mean(0), rtol=1e-6, atol=1e-6
    )


def test_a_decay_shape_can_be_emulated_from_segments(tmp_path: Path) -> None:
    """Weights by the middle of each segment, never negative, and refused if they are."""
    path = walk(120)
    finished_run(tmp_path, path, saves=12, decay=0.9, segment_means=True)
    recipe = plan_window(tmp_path, start=0, shape=lambda x: 1.0 - x**0.5)
    weights = np.repeat([1.0 - ((i + 0.5) / 12) ** 0.5 for i in range(12)], 10)
    wanted = (weights / weights.sum()) @ path[1:].double().numpy()
    found = recipe.read()["weight"].double().numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    with pytest.raises(ConfigError, match="zero or more"):
        plan_window(tmp_path, start=0, shape=lambda x: x - 1.0)


def test_a_window_with_a_hole_is_refused(tmp_path: Path) -> None:
    """A checkpoint that was deleted took its steps with it."""
    path = walk(60)
    finished_run(tmp_path, path, saves=6, decay=0.9, segment_means=True)
    gone = tmp_path / "checkpoint_epoch0000_step00000040"
    for file in gone.iterdir():
        file.unlink()
    gone.rmdir()
    with pytest.raises(ConfigError, match="steps 31 to 40"):
        plan_window(tmp_path, start=0)
    assert plan_window(tmp_path, start=40).label == "mean of steps 41 to 60"
