"""Loading a part: components by name, tensors by FQN, other dtypes, another device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from manager_helpers import Session, new_manager, new_session
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.errors import ConfigError, LoadError, MismatchError


@pytest.fixture
def saved(tmp_path: Path) -> Session:
    """A session after one step, saved with a history of two records."""
    session = new_session()
    manager = new_manager(tmp_path, session)
    session.step()
    manager.save(0, 1, {"val_loss": 1.0}, extra_state={"mean": torch.arange(3.0)})
    manager.save(0, 2, {"val_loss": 0.5}, extra_state={"mean": torch.arange(3.0)})
    return session


def weights(session: Session) -> dict[str, Tensor]:
    """Copies of the model's tensors."""
    return {name: value.clone() for name, value in session.model.state_dict().items()}


def changed(before: dict[str, Tensor], session: Session) -> set[str]:
    """Names of tensors that are not what they were."""
    now = session.model.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, now[name])}


def test_one_component_is_loaded_and_nothing_else_changes(tmp_path: Path, saved: Session) -> None:
    """components names all that is touched, whatever the flags of the original say."""
    other = new_session(1)
    before = other.state()
    new_manager(tmp_path, other).load(components=["scheduler"], load_optimizer=False)
    after = other.state()
    assert after["scheduler"] == repr(saved.scheduler.state_dict()) != before["scheduler"]
    assert after["optimizer"] == before["optimizer"]
    assert torch.equal(after["random"], before["random"])
    assert all(torch.equal(v, after["model"][k]) for k, v in before["model"].items())


def test_random_states_alone_can_be_loaded(tmp_path: Path, saved: Session) -> None:
    """They go by the component name "rng"."""
    manager = new_manager(tmp_path, saved)
    expected = torch.rand(1)
    manager.load(components=["rng"])
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["0.weight"], {"0.weight"}),
        ("0", {"0.weight", "0.bias"}),
        (["*.bias"], {"0.bias", "1.bias", "3.bias"}),
        (lambda name: name.startswith("3."), {"3.weight", "3.bias"}),
    ],
)
def test_chosen_tensors_are_loaded_into_the_model(
    tmp_path: Path, saved: Session, only: Any, expected: set[str]
) -> None:
    """Names, submodules, patterns and functions choose; optimizer and random state stay."""
    other = new_session(1)
    before, optimizer = weights(other), repr(other.optimizer.state_dict())
    new_manager(tmp_path, other).load(only=only)
    assert changed(before, other) == expected
    assert repr(other.optimizer.state_dict()) == optimizer


def test_a_part_fits_a_model_that_differs_elsewhere(tmp_path: Path, saved: Session) -> None:
    """What was not chosen is neither read nor compared: a backbone goes under another head."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 5))
    CheckpointManager(CheckpointConfig(str(tmp_path), progress=False), model).load(only=["0", "1"])
    assert torch.equal(model.state_dict()["0.weight"], saved.model.state_dict()["0.weight"])


def test_damage_elsewhere_does_not_keep_a_part_from_loading(tmp_path: Path, saved: Session) -> None:
    """Only the components asked for are read; the model loads beside a rotten optimizer."""
    manager = new_manager(tmp_path, saved)
    path = manager.get_latest_checkpoint()
    assert path is not None
    file = path / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    other = new_session(1)
    with pytest.raises(LoadError, match="optimizer"):
        new_manager(tmp_path, other).load()
    new_manager(tmp_path, other).load(components=["model"])
    assert not changed(weights(saved), other)


def test_a_part_is_no_change_of_history(tmp_path: Path, saved: Session) -> None:
    """After a partial load the session still goes on from where it was."""
    other = new_session(1)
    manager = CheckpointManager(
        CheckpointConfig(str(tmp_path / "new"), progress=False), other.model
    )
    path = new_manager(tmp_path, saved).get_latest_checkpoint()
    loaded = manager.load(path, components=["model"])
    assert len(loaded["metrics_history"]) == 2
    manager.save(0, 1, {"val_loss": 2.0})
    (info,) = manager.checkpoints()
    assert info.parents == ()
    assert manager.best_metric == 2.0


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"components": ["modell"]}, "modell"),
        ({"components": "model"}, r"components=\['model'\]"),
        ({"only": ["0.weigth"]}, "0.weight"),
        ({"only": ["encoder.*"]}, "encoder"),
        ({"map_location": "quantum"}, "map_location"),
        ({"map_location": "cuda:99"}, "map_location"),
        ({"map_location": {"cuda:0": "cpu"}}, "map_location"),
    ],
)
def test_a_part_there_is_none_of_is_an_error(
    tmp_path: Path, saved: Session, options: dict[str, Any], hint: str
) -> None:
    """A name misspelt is refused, with what is close to it, and nothing changes."""
    other = new_session(1)
    before = weights(other)
    with pytest.raises(ConfigError, match=hint):
        new_manager(tmp_path, other).load(**options)
    assert not changed(before, other)


def test_a_component_the_checkpoint_lacks_is_an_error(tmp_path: Path, saved: Session) -> None:
    """Asked for by name and not there: refused with what there is, tolerated if not strict."""
    manager = new_manager(tmp_path, saved)
    manager.register("critic", nn.Linear(2, 2))
    with pytest.raises(LoadError, match=r"no critic \(it holds: model, optimizer"):
        manager.load(components=["model", "critic"])
    loaded = manager.load(components=["model", "critic"], strict=False)
    assert "critic" in loaded.report
    assert "absent" in loaded.report


def test_a_model_of_another_precision_takes_the_weights_if_told_to(
    tmp_path: Path, saved: Session
) -> None:
    """dtypes must agree unless cast="floating", and the report says what was converted."""
    model = new_session(1).model.to(torch.bfloat16)
    manager = CheckpointManager(CheckpointConfig(str(tmp_path), progress=False), model)
    with pytest.raises(MismatchError, match="cast="):
        manager.load()
    loaded = manager.load(cast="floating")
    expected = saved.model.state_dict()["0.weight"].to(torch.bfloat16)
    assert torch.equal(model.state_dict()["0.weight"], expected)
    assert "converted" in loaded.report


def test_loads_tell_what_they_did(tmp_path: Path, saved: Session) -> None:
    """The result lists every part of the session: restored, mismatched, absent or skipped."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.1))
    manager = CheckpointManager(CheckpointConfig(str(tmp_path), progress=False), model)
    loaded = manager.load(strict=False, load_rng_state=False)
    states = {line.item: line.status for line in loaded.lines}
    assert states["model"] == "mismatch"
    assert states["optimizer"] == "skipped"
    assert "3.weight" in loaded.report


def test_map_location_places_what_has_no_live_memory(tmp_path: Path, saved: Session) -> None:
    """Extra state and the state dicts of the result go to that device, live tensors stay."""
    manager = new_manager(tmp_path, saved)
    loaded = manager.load(map_location=torch.device("cpu"))
    assert torch.equal(loaded["extra_state"]["mean"], torch.arange(3.0))
    assert loaded["model_state_dict"]["0.weight"].device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_map_location_may_be_a_gpu(tmp_path: Path, saved: Session) -> None:
    """A session on the CPU keeps its model there and gets the rest on the GPU."""
    loaded = new_manager(tmp_path, saved).load(map_location="cuda")
    assert loaded["extra_state"]["mean"].device.type == "cuda"
    assert loaded["model_state_dict"]["0.weight"].device.type == "cuda"
    assert saved.model.state_dict()["0.weight"].device.type == "cpu"
