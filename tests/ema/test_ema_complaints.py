"""What users of other libraries report of their averages, each as a behaviour that is not ours.

The comments name the report, as in the survey of issue trackers.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from ema_helpers import OneWeight, closed_form, new_session
from safetensors.torch import load_file
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager, ConstantDecay, EMAModel, HalfLife
from holdfast.decay import InverseGamma
from holdfast.errors import AverageError, ConfigError


def manager_of(folder: Path, model: nn.Module, optimizer: object = None) -> CheckpointManager:
    """A manager that says nothing."""
    config = CheckpointConfig(str(folder), progress=False, provenance=False)
    return CheckpointManager(config, model, optimizer)  # type: ignore[arg-type]


# Megvii-BaseDetection/YOLOX#1318; OpenNMT-py saves the average only
def test_raw_weights_are_saved_beside_the_average(tmp_path: Path) -> None:
    """A resumed run goes on from the raw weights, never from the average."""
    session = new_session()
    ema = EMAModel(session.model, 0.9)
    manager = manager_of(tmp_path, session.model, session.optimizer)
    manager.register("ema", ema)
    session.step()
    ema.update()
    raw = session.model.get_parameter("0.weight").detach().clone()
    manager.save(0, 1, {"val_loss": 1.0})
    session.step()
    manager.load()
    assert torch.equal(session.model.get_parameter("0.weight"), raw)
    assert not torch.equal(ema.averaged_state_dict()["0.weight"], raw)


# schnetpack#785
def test_a_checkpoint_written_during_validation_holds_the_training_weights(tmp_path: Path) -> None:
    """Even though the average is live at that moment."""
    session = new_session()
    ema = EMAModel(session.model, 0.9)
    session.step()
    ema.update()
    raw = session.model.get_parameter("0.weight").detach().clone()
    with ema.applied():
        folder = manager_of(tmp_path, session.model).save(0, 1, {"val_loss": 1.0})
    assert folder is not None
    assert torch.equal(load_file(folder / "model.safetensors")["0.weight"], raw)


# lightly-train#892
def test_the_update_counter_is_saved_so_that_a_warm_up_does_not_begin_again(tmp_path: Path) -> None:
    """After a resume the decay is that of the next step, not of the first."""
    path = torch.linspace(0, 1, 41)[:, None].repeat(1, 3)
    model = OneWeight(path[0])
    schedule = ConstantDecay(0.999, InverseGamma())
    ema = EMAModel(model, schedule)
    manager = manager_of(tmp_path, model)
    manager.register("ema", ema)
    for value in path[1:21]:
        model.move_to(value)
        ema.update()
    manager.save(0, 20, {"val_loss": 1.0})
    fresh = OneWeight(path[0])
    resumed = EMAModel(fresh, schedule)
    manager = manager_of(tmp_path, fresh)
    manager.register("ema", resumed)
    manager.resume(verbose=False)
    for value in path[21:]:
        fresh.move_to(value)
        resumed.update()
    found = resumed.averaged_state_dict()["weight"].double()
    wanted = torch.from_numpy(closed_form(path, schedule))
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)


# ace#349, ace#819
def test_a_restored_average_is_not_overwritten_by_a_fresh_one(tmp_path: Path) -> None:
    """What resume restores is what the next update starts from."""
    session = new_session()
    ema = EMAModel(session.model, 0.9)
    manager = manager_of(tmp_path, session.model)
    manager.register("ema", ema)
    session.step()
    ema.update()
    manager.save(0, 1, {"val_loss": 1.0})
    saved = {name: tensor.clone() for name, tensor in ema.averaged_state_dict().items()}
    session = new_session(seed=5)
    ema = EMAModel(session.model, 0.9)
    manager = manager_of(tmp_path, session.model)
    manager.register("ema", ema)
    manager.resume(verbose=False)
    ema.attach(session.optimizer)
    assert all(torch.equal(saved[name], t) for name, t in ema.averaged_state_dict().items())
    assert ema.updates == 1


# lightly-train#968, F5-TTS#631
def test_micro_batches_of_an_accumulated_step_count_as_one() -> None:
    """Attached to the optimizer, the average moves once for each step, not for each backward."""
    session = new_session()
    ema = EMAModel(session.model, 0.9)
    ema.attach(session.optimizer)
    for _ in range(3):
        for _ in range(4):
            session.model(torch.randn(6, 4)).sum().backward()
        session.optimizer.step()
        session.optimizer.zero_grad()
    assert ema.updates == ema.clock.steps == 3


# OneTrainer#556
def test_a_decay_can_be_given_in_samples_whatever_the_batch_size() -> None:
    """Half of the old average is left after half_life samples, in batches of 1 or of 50."""
    for batch in (1, 50):
        model = OneWeight(torch.zeros(2, dtype=torch.float64))
        ema = EMAModel(model, HalfLife(100))
        model.move_to(torch.ones(2))
        for _ in range(100 // batch):
            ema.update(samples=batch)
        torch.testing.assert_close(
            ema.averaged_state_dict()["weight"], torch.full((2,), 0.5, dtype=torch.float64)
        )


# sd_dreambooth_extension#1417; the constant-target test of the survey
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("decay", "steps"), [(0.999, 2_000), (0.9999, 20_000)])
def test_the_average_of_a_half_precision_model_reaches_its_target(
    dtype: torch.dtype, decay: float, steps: int
) -> None:
    """From 0.02 towards 0.03 it ends at the truth, 0.0286, instead of standing still."""
    model = OneWeight(torch.full((2,), 0.02, dtype=dtype))
    ema = EMAModel(model, decay)
    start = float(model.weight.detach()[0])
    model.move_to(torch.full((2,), 0.03))
    target = float(model.weight.detach()[0])
    for _ in range(steps):
        ema.update()
    truth = target + (start - target) * decay**steps
    average = ema.averaged_state_dict()["weight"]
    assert average.dtype == torch.float32
    assert float(average[0]) == pytest.approx(truth, rel=2e-3)
    assert truth == pytest.approx(0.0286, rel=5e-3)


def test_an_average_in_half_precision_is_refused() -> None:
    """Nobody gets one by asking for it either."""
    with pytest.raises(ConfigError, match="stand still"):
        EMAModel(nn.Linear(2, 2), dtype=torch.bfloat16)


# ema-pytorch#36; torch's AveragedModel raises for the foreach function
def test_a_bf16_model_needs_no_option_to_be_averaged_in_float32() -> None:
    """Weights and averages of different dtypes just work, one or several."""
    model = nn.Linear(3, 3).bfloat16()
    for decay in (0.9, [0.9, 0.99]):
        ema = EMAModel(model, decay)
        ema.update()
        with ema.applied():
            assert model(torch.ones(1, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


# pytorch#84053
def test_buffers_of_the_average_are_not_stale() -> None:
    """By default they are those of the last update."""
    session = new_session()
    ema = EMAModel(session.model, 0.9)
    for _ in range(3):
        session.step()
        ema.update()
    average = ema.averaged_state_dict()
    assert torch.equal(average["1.running_mean"], session.model.get_buffer("1.running_mean"))
    assert int(average["1.num_batches_tracked"]) == 3


# ignite#2592, pytorch-image-models#106
def test_buffers_are_copied_averaged_or_ignored_by_choice_and_integers_stay_whole() -> None:
    """Averaged statistics follow the closed form; counters are never averaged."""
    model = nn.BatchNorm1d(2)
    kept = {
        policy: EMAModel(model, 0.5, buffers=policy) for policy in ("copy", "average", "ignore")
    }
    path = [torch.zeros(2)]
    for _ in range(3):
        model(torch.randn(4, 2) + 1.0)
        path.append(model.get_buffer("running_mean").clone())
        for ema in kept.values():
            ema.update()
    last = path[-1].clone()
    model(torch.randn(4, 2))
    found = {policy: ema.averaged_state_dict() for policy, ema in kept.items()}
    assert torch.equal(found["copy"]["running_mean"], last)
    wanted = torch.from_numpy(closed_form(torch.stack(path), ConstantDecay(0.5)))
    torch.testing.assert_close(found["average"]["running_mean"].double(), wanted, rtol=1e-6, atol=0)
    assert torch.equal(found["ignore"]["running_mean"], model.get_buffer("running_mean"))
    counters = {policy: state["num_batches_tracked"] for policy, state in found.items()}
    assert counters == {"copy": 3, "average": 3, "ignore": 4}
    assert all(counter.dtype == torch.int64 for counter in counters.values())


# MultimediaTechLab/YOLO#97
def test_an_attached_average_is_updated_without_a_call() -> None:
    """No call can be forgotten, and none can be made on top."""
    session = new_session()
    ema = EMAModel(session.model, 0.9)
    ema.attach(session.optimizer)
    for _ in range(2):
        session.step()
    assert ema.updates == 2
    with pytest.raises(AverageError, match="count double"):
        ema.update()
    with pytest.raises(AverageError, match="already"):
        ema.attach(session.optimizer)
    ema.detach()
    session.step()
    assert ema.updates == 2


# Open-Sora-Plan#186
def test_weights_are_restored_after_validation_that_fails() -> None:
    """Whatever happens inside, training goes on from its own weights."""
    session = new_session()
    ema = EMAModel(session.model, 0.9)
    session.step()
    ema.update()
    before = copy.deepcopy(session.model.state_dict())
    with pytest.raises(RuntimeError), ema.applied() as model:
        model(torch.randn(3, 99))
    assert all(torch.equal(v, before[k]) for k, v in session.model.state_dict().items())


# pytorch-lightning#21724
def test_validation_before_the_first_update_does_not_score_the_initial_weights() -> None:
    """It is refused, with the way to ask for it."""
    ema = EMAModel(nn.Linear(2, 2), update_every=10)
    ema.update()
    with pytest.raises(AverageError, match=r"initial=True"), ema.applied():
        pass


def whole_of(sharded: Any) -> Tensor:
    """The value of a sharded tensor."""
    value: Tensor = sharded.full_tensor().detach().clone()
    return value


# pytorch-lightning#21414, fairscale#789, miles-credit#414
def test_sharded_parameters_are_averaged_shard_by_shard() -> None:
    """Each rank averages what it holds, with no communication and its own memory only."""
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available():
        pytest.skip("torch was built without torch.distributed")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        model = nn.Linear(4, 4, bias=False)
        whole = model.weight.detach().clone()
        model.weight = nn.Parameter(distribute_tensor(whole.clone(), mesh, [Shard(0)]))
        ema = EMAModel(model, 0.5)
        with torch.no_grad():
            model.weight.add_(1.0)
        ema.update()
        with ema.applied():
            found = whole_of(model.weight)
        torch.testing.assert_close(found, whole + 0.5)
        torch.testing.assert_close(whole_of(model.weight), whole + 1.0)
    finally:
        distributed.destroy_process_group()
