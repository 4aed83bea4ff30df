"""Loading: what comes back, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from manager_helpers import Session, new_manager, new_session, same
from safetensors.torch import load_file, load_model
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager, ResumableLoader, resume_training
from holdfast.errors import (
    ConfigError,
    DamagedError,
    HoldfastError,
    LoadError,
    MismatchError,
    NothingToResumeError,
)


def trained(folder: Path, count: int = 3) -> tuple[CheckpointManager, Session, list[Path]]:
    """A session with `count` checkpoints, one after each step."""
    session = new_session()
    manager = new_manager(folder, session)
    paths = []
    for step in range(1, count + 1):
        session.step()
        path = manager.save(0, step, {"val_loss": 1.0 / step}, {"width": 8}, {"seen": step})
        assert path is not None
        paths.append(path)
    return manager, session, paths


def flip(file: Path, position: int) -> None:
    """Change one bit."""
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    """Weights, optimizer, scheduler with integer keys, scaler and random state are as saved."""
    _, session, _ = trained(tmp_path)
    saved = session.state()
    other = new_session(1)
    report = new_manager(tmp_path, other).resume(verbose=False)
    assert same(saved, other.state())
    assert (report.epoch, report.global_step, report.extra_state) == (0, 3, {"seen": 3})
    torch.set_rng_state(saved["random"])
    session.step()
    torch.set_rng_state(saved["random"])
    other.step()
    assert same(session.state(), other.state())


def test_load_returns_what_the_original_returned(tmp_path: Path) -> None:
    """The dict has the documented keys, and answers to the components when asked."""
    manager, session, _ = trained(tmp_path)
    loaded = manager.load()
    assert set(loaded) == {
        *("epoch", "global_step", "best_metric", "metrics", "metrics_history"),
        *("timestamp", "model_config", "extra_state"),
    }
    assert loaded["best_metric"] == pytest.approx(1 / 3)
    assert loaded["model_config"] == {"width": 8}
    assert "model_state_dict" in loaded
    weights = loaded["model_state_dict"]
    assert weights.keys() == session.model.state_dict().keys()
    assert all(torch.equal(weights[k], v) for k, v in session.model.state_dict().items())
    assert repr(loaded["optimizer_state_dict"]) == repr(session.optimizer.state_dict())
    assert loaded["scheduler_state_dict"] == session.scheduler.state_dict()
    assert set(loaded["rng_states"]) >= {"python", "numpy", "torch:cpu"}
    assert loaded.get("ema_state_dict", "none") == "none"
    with pytest.raises(KeyError):
        loaded["ema_state_dict"]


def test_optimizer_and_random_state_can_be_left_alone(tmp_path: Path) -> None:
    """load_optimizer and load_rng_state say what is touched."""
    trained(tmp_path)
    other = new_session(1)
    before = other.state()
    new_manager(tmp_path, other).load(load_optimizer=False, load_rng_state=False)
    after = other.state()
    assert before["optimizer"] == after["optimizer"]
    assert before["scheduler"] == after["scheduler"]
    assert torch.equal(before["random"], after["random"])
    assert not torch.equal(before["model"]["0.weight"], after["model"]["0.weight"])


def test_stock_tools_read_every_file(tmp_path: Path) -> None:
    """safetensors reads the tensors, json reads the rest, load_model fills a model."""
    _, session, paths = trained(tmp_path)
    model = new_session(1).model
    load_model(model, paths[-1] / "model.safetensors")
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in session.model.state_dict().items())
    for file in paths[-1].iterdir():
        if file.suffix == ".safetensors":
            assert load_file(file)
        else:
            assert json.loads(file.read_text())
    assert json.loads((paths[-1] / "config.json").read_text()) == {"width": 8}


@pytest.mark.parametrize("file", ["model", "optimizer", "state"])
def test_a_flipped_bit_is_reported_and_nothing_live_changes(tmp_path: Path, file: str) -> None:
    """Damage in any tensor file refuses the whole load, naming the file."""
    manager, session, paths = trained(tmp_path)
    damaged = paths[-1] / f"{file}.safetensors"
    flip(damaged, damaged.stat().st_size - 1)
    session.step()
    before = session.state()
    with pytest.raises(DamagedError, match=damaged.name):
        manager.load()
    assert same(before, session.state())


def test_resume_walks_back_over_damage_and_says_why(tmp_path: Path) -> None:
    """The newest sound checkpoint is used, and each passed over one has its reason."""
    _, _, paths = trained(tmp_path)
    flip(paths[2] / "model.safetensors", 4200)
    (paths[1] / "manifest.json").unlink()
    other = new_session(1)
    report = new_manager(tmp_path, other).resume(verbose=False)
    assert report.global_step == 1
    assert len(report.passed_over) == 2
    assert "passed over" in report.checklist
    assert "model.safetensors" in report.checklist


def test_nothing_usable_is_an_error_and_not_a_fresh_start(tmp_path: Path) -> None:
    """A folder of damaged checkpoints does not silently restart training from nothing."""
    _, _, paths = trained(tmp_path)
    for path in paths:
        flip(path / "state.json", 100)
    with pytest.raises(NothingToResumeError, match=r"state\.json"):
        new_manager(tmp_path, new_session()).resume()


def test_an_empty_folder_is_a_fresh_start(tmp_path: Path) -> None:
    """resume() in a new folder returns a falsy report that starts from zero."""
    report = new_manager(tmp_path / "new", new_session()).resume(verbose=False)
    assert not report
    assert (report.epoch, report.global_step, report.metrics_history) == (0, 0, [])


def test_a_checkpoint_of_another_model_is_refused_with_every_difference(tmp_path: Path) -> None:
    """All missing, unexpected and mismatched names stand in one error; nothing has changed."""
    trained(tmp_path)
    model = nn.Sequential(nn.Linear(4, 9), nn.BatchNorm1d(9), nn.Dropout(0.1), nn.Linear(9, 2))
    manager = CheckpointManager(CheckpointConfig(str(tmp_path), progress=False), model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(MismatchError) as caught:
        manager.load()
    text = str(caught.value)
    assert "0.weight" in text
    assert "3.weight" in text
    assert "1.running_mean" in text
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_strict_false_restores_what_fits_and_lists_the_rest(tmp_path: Path) -> None:
    """Missing and unexpected names are tolerated on request and reported."""
    _, session, _ = trained(tmp_path)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1))
    manager = CheckpointManager(CheckpointConfig(str(tmp_path), progress=False), model)
    report = manager.resume(strict=False, verbose=False)
    assert torch.equal(model.state_dict()["0.weight"], session.model.state_dict()["0.weight"])
    assert "3.weight" in report.checklist
    assert "mismatch" in report.checklist


class Refusing:
    """An object that takes no state back."""

    def state_dict(self) -> dict[str, Any]:
        """Some state."""
        return {"n": 1}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Never accepts."""
        raise RuntimeError("not today")


class Counting:
    """An object that counts."""

    def __init__(self) -> None:
        self.n = 0

    def state_dict(self) -> dict[str, Any]:
        """The count."""
        return {"n": self.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the count back."""
        self.n = state["n"]


def test_if_one_object_refuses_its_state_the_others_are_put_back(tmp_path: Path) -> None:
    """A load_state_dict that raises leaves every object as it was, the model included."""
    session = new_session()
    manager = new_manager(tmp_path, session)
    counting = Counting()
    manager.register("counting", counting)
    manager.register("refusing", Refusing())
    counting.n = 7
    manager.save(0, 1, {})
    counting.n = 8
    session.step()
    before = session.state()
    with pytest.raises(LoadError, match=r"refusing refused its saved state: not today"):
        manager.load()
    assert counting.n == 8
    assert same(before, session.state())


def test_registered_objects_are_saved_and_restored(tmp_path: Path) -> None:
    """A further module, optimizer and counter come back under their names."""
    session, other = new_session(), new_session(1)
    extra, target = nn.Linear(3, 3), nn.Linear(3, 3)
    counting, fresh = Counting(), Counting()
    counting.n = 5
    first, second = new_manager(tmp_path, session), new_manager(tmp_path, other)
    for manager, module, counter in ((first, extra, counting), (second, target, fresh)):
        manager.register("critic", module)
        manager.register("critic_optimizer", torch.optim.SGD(module.parameters(), momentum=0.9))
        manager.register("counting", counter)
    path = first.save(0, 1, {})
    assert path is not None
    assert set(load_file(path / "critic.safetensors")) == {"weight", "bias"}
    second.resume(verbose=False)
    assert torch.equal(extra.weight, target.weight)
    assert fresh.n == 5


@pytest.mark.parametrize("name", ["model", "rng", "state", "a/b", "", "2nd", "counting"])
def test_component_names_that_cannot_work_are_refused(tmp_path: Path, name: str) -> None:
    """Taken, reserved and unusable names are errors at registration."""
    manager = new_manager(tmp_path, new_session())
    manager.register("counting", Counting())
    with pytest.raises(ConfigError):
        manager.register(name, Counting())
    with pytest.raises(ConfigError, match="state_dict"):
        manager.register("fine", object())


def test_a_run_folder_may_move(tmp_path: Path) -> None:
    """No path inside a checkpoint is absolute: a copied folder resumes and knows its best."""
    trained(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere", symlinks=True)
    shutil.rmtree(tmp_path / "a")
    manager = new_manager(tmp_path / "elsewhere", new_session(1))
    assert manager.resume(verbose=False).global_step == 3
    assert manager.load_best()["global_step"] == 3
    assert manager.load(tmp_path / "elsewhere" / "latest")["global_step"] == 3


def test_wrapped_and_plain_models_load_each_other(tmp_path: Path) -> None:
    """A checkpoint of a compiled model loads into a plain one, and the other way round."""
    plain = nn.Linear(3, 3)
    inner = nn.Linear(3, 3)
    compiled: Any = torch.compile(inner, backend="eager")
    config = CheckpointConfig(str(tmp_path), progress=False)
    CheckpointManager(config, plain).save(0, 1, {})
    CheckpointManager(config, compiled).load()
    assert torch.equal(inner.weight, plain.weight)
    with torch.no_grad():
        inner.weight.add_(1)
    with pytest.warns(UserWarning, match="did not resume"):
        path = CheckpointManager(config, compiled).save(0, 2, {})
    assert path is not None
    assert set(load_file(path / "model.safetensors")) == {"weight", "bias"}
    CheckpointManager(config, plain).load()
    assert torch.equal(inner.weight, plain.weight)


def test_resume_training_prints_the_checklist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was restored, what was absent, and whether the counters agree."""
    _, _, paths = trained(tmp_path)
    other = new_session(1)
    found = resume_training(paths[-1], other.model, other.optimizer, other.scheduler)
    printed = capsys.readouterr().out
    assert (found["epoch"], found["global_step"]) == (0, 3)
    assert len(found["metrics_history"]) == 3
    for line in ("model", "optimizer", "scheduler", "random python", "history", "agrees"):
        assert line in printed
    assert "scaler" in printed
    assert "not given here" in printed


def test_counters_of_what_was_not_saved_are_not_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without optimizer and scheduler in the checkpoint nothing agrees with them."""
    session = new_session()
    session.step()
    path = new_manager(tmp_path, session, save_optimizer=False).save(0, 1)
    assert path is not None
    resume_training(path, session.model, session.optimizer, session.scheduler)
    printed = capsys.readouterr().out
    assert "the checkpoint was saved without it" in printed
    assert "scheduler count" not in printed
    assert "optimizer count" not in printed


def test_a_path_to_nothing_is_an_error_people_can_act_on(tmp_path: Path) -> None:
    """A missing checkpoint is also a FileNotFoundError, with the path in it."""
    manager = new_manager(tmp_path, new_session())
    with pytest.raises(FileNotFoundError, match="nowhere") as caught:
        manager.load(tmp_path / "nowhere")
    assert isinstance(caught.value, HoldfastError)


def test_a_changed_batch_order_is_refused_or_reported(tmp_path: Path) -> None:
    """A loader of another batch size refuses its position; on request it is reported instead."""
    data = [torch.tensor([float(i)]) for i in range(12)]

    def manager_with(batch_size: int) -> tuple[CheckpointManager, ResumableLoader]:
        manager = new_manager(tmp_path, new_session())
        loader = ResumableLoader(data, batch_size=batch_size, shuffle=True, seed=3)
        manager.register("loader", loader)
        return manager, loader

    manager, loader = manager_with(3)
    next(iter(loader))
    manager.save(0, 1, {})
    same_order, again = manager_with(3)
    assert "batch order verified: epoch 0, 1 of 4" in same_order.resume(verbose=False).checklist
    assert again.position == 1
    other, _ = manager_with(4)
    with pytest.raises(HoldfastError, match="batch"):
        other.resume(verbose=False)
    report = other.resume(strict=False, verbose=False)
    assert "mismatch" in report.checklist
    assert "batch size" in report.checklist or "batch_size" in report.checklist
