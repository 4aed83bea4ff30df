"""Averages in checkpoints: both kinds of weights, whichever is live, and exact on resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ema_helpers import Session, new_session
from safetensors.torch import load_file
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager, ConstantDecay, EMAModel, PowerFunction
from holdfast.decay import InverseGamma, Schedule
from holdfast.errors import AverageError, ConfigError, MismatchError

SCHEDULES: list[Schedule | float] = [ConstantDecay(0.99, InverseGamma()), PowerFunction(0.1)]


def start(
    folder: Path, seed: int = 0, decay: Any = SCHEDULES, **options: Any
) -> tuple[Session, EMAModel, CheckpointManager]:
    """A session whose optimizer updates a registered average."""
    session = new_session(seed)
    ema = EMAModel(session.model, decay, **options)
    ema.attach(session.optimizer)
    config = CheckpointConfig(str(folder), progress=False, provenance=False)
    manager = CheckpointManager(config, session.model, session.optimizer)
    manager.register("ema", ema)
    return session, ema, manager


def everything(ema: EMAModel) -> dict[str, Any]:
    """Averages by value and all counters."""
    state = ema.state_dict()
    tensors = {
        f"{place} {name}": tensor.clone()
        for place, average in enumerate(state["averages"])
        for name, tensor in average.pop("shadow").items()
    }
    copies = {name: tensor.clone() for name, tensor in state.pop("shadow").items()}
    return {"tensors": tensors, "copies": copies, "counters": repr(state)}


def equal(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Whether two averages are equal bit for bit."""
    return left["counters"] == right["counters"] and all(
        torch.equal(tensor, right[kind][name])
        for kind in ("tensors", "copies")
        for name, tensor in left[kind].items()
    )


@pytest.mark.parametrize("update_every", [1, 3])
def test_a_killed_and_resumed_run_has_the_averages_of_the_uninterrupted_one(
    tmp_path: Path, update_every: int
) -> None:
    """k steps, a new process, and k steps more equal 2 k steps, bit for bit."""
    options = {"update_every": update_every, "segment_means": True}
    session, ema, manager = start(tmp_path, **options)
    for _ in range(5):
        session.step()
    manager.save(0, 5, {"val_loss": 1.0})
    for _ in range(5):
        session.step()
    wanted = everything(ema)
    session, ema, manager = start(tmp_path, seed=9, **options)
    session.step()
    manager.resume(verbose=False)
    for _ in range(5):
        session.step()
    assert equal(everything(ema), wanted)


def test_the_saved_average_loads_as_a_model_with_stock_tools(tmp_path: Path) -> None:
    """ema.safetensors has the model's own keys; so has every further average, in a file each."""
    session, ema, manager = start(tmp_path, segment_means=True)
    session.step()
    folder = manager.save(0, 1, {"val_loss": 1.0})
    assert folder is not None
    stock = load_file(folder / "ema.safetensors")
    assert stock.keys() == session.model.state_dict().keys()
    session.model.load_state_dict(stock)
    assert {path.name for path in folder.glob("ema*")} == {
        "ema.safetensors",
        "ema-2.safetensors",
        "ema-segment.safetensors",
    }
    average = ema.averaged_state_dict(1)
    for name, tensor in load_file(folder / "ema-2.safetensors").items():
        assert torch.equal(tensor, average[name])


@pytest.mark.parametrize("registered", [True, False], ids=["registered", "unknown to the manager"])
@pytest.mark.parametrize("swap", ["auto", "copy"])
def test_a_checkpoint_taken_while_swapped_holds_training_weights_and_average(
    tmp_path: Path, swap: Any, registered: bool
) -> None:
    """Whichever is live in the model, `model` is the weights and `ema` the average."""
    session = new_session()
    ema = EMAModel(session.model, 0.9, swap=swap)
    ema.attach(session.optimizer)
    config = CheckpointConfig(str(tmp_path), progress=False, provenance=False)
    manager = CheckpointManager(config, session.model, session.optimizer)
    if registered:
        manager.register("ema", ema)
    for _ in range(3):
        session.step()
    weights = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
    average = {name: tensor.clone() for name, tensor in ema.averaged_state_dict().items()}
    with ema.applied():
        folder = manager.save(0, 3, {"val_loss": 1.0})
    assert folder is not None
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(stored[name], tensor) for name, tensor in weights.items())
    if registered:
        stored = load_file(folder / "ema.safetensors")
        assert all(torch.equal(stored[name], tensor) for name, tensor in average.items())


def test_loading_while_swapped_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """A load would overwrite the average in the weights' place."""
    session, ema, manager = start(tmp_path)
    session.step()
    manager.save(0, 1, {"val_loss": 1.0})
    session.step()
    before = everything(ema)
    with ema.applied(), pytest.raises(AverageError, match="load"):
        manager.load()
    assert equal(everything(ema), before)


def test_an_average_that_the_checkpoint_lacks_starts_from_the_restored_weights(
    tmp_path: Path,
) -> None:
    """It does not keep the weights the process started with."""
    session = new_session()
    config = CheckpointConfig(str(tmp_path), progress=False, provenance=False)
    CheckpointManager(config, session.model, session.optimizer).save(0, 1, {"val_loss": 1.0})
    other, ema, manager = start(tmp_path, seed=7)
    other.step()
    manager.resume(verbose=False)
    assert ema.updates == 0
    for name, tensor in ema.averaged_state_dict().items():
        assert torch.equal(tensor, session.model.state_dict()[name])


def test_a_profile_cannot_change_its_kind_on_resume(tmp_path: Path) -> None:
    """A constant decay does not become a power function half-way; the message names both."""
    session, _, manager = start(tmp_path, decay=0.9)
    session.step()
    manager.save(0, 1, {"val_loss": 1.0})
    _, _, manager = start(tmp_path, decay=PowerFunction(0.1))
    with pytest.raises(MismatchError, match="PowerFunction"):
        manager.load()


def test_a_changed_decay_is_said_in_the_checklist(tmp_path: Path) -> None:
    """Counters and tensors go on; the new decay applies, and the report says so."""
    session, _, manager = start(tmp_path, decay=0.9)
    session.step()
    manager.save(0, 1, {"val_loss": 1.0})
    _, ema, manager = start(tmp_path, decay=0.99)
    report = manager.resume(verbose=False)
    assert any("from here on" in line.detail for line in report.lines if line.item == "ema")
    assert ema.updates == 1
    assert ema.decay == 0.99


def test_tied_parameters_are_averaged_and_stored_once(tmp_path: Path) -> None:
    """Both names share one average, in memory and in the file, and are tied when swapped in."""
    session = new_session()
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    ema = EMAModel(model, 0.5)
    with torch.no_grad():
        model.get_parameter("0.weight").add_(1.0)
    ema.update()
    assert ema.state_dict()["shadow"].keys() == {"0.weight"}
    manager = CheckpointManager(
        CheckpointConfig(str(tmp_path), progress=False, provenance=False), model, session.optimizer
    )
    manager.register("ema", ema)
    folder = manager.save(0, 1, {"val_loss": 1.0})
    assert folder is not None
    assert load_file(folder / "ema.safetensors").keys() == {"0.weight"}
    with ema.applied():
        assert model[1].weight is model[0].weight
    ema.reset()
    manager.load()
    assert ema.updates == 1


def test_the_plain_state_dict_round_trips(tmp_path: Path) -> None:
    """torch.save of state_dict(), loaded with weights_only, gives the same averages."""
    session, ema, _ = start(tmp_path)
    for _ in range(3):
        session.step()
    wanted = everything(ema)
    torch.save(ema.state_dict(), tmp_path / "ema.pt")
    _, ema, _ = start(tmp_path, seed=4)
    ema.load_state_dict(torch.load(tmp_path / "ema.pt", weights_only=True))
    assert equal(everything(ema), wanted)


def test_a_state_dict_of_the_original_class_loads(tmp_path: Path) -> None:
    """A dict with "shadow" and "decay" alone is enough; missing or misshapen names are refused."""
    model = nn.Linear(2, 2)
    ema = EMAModel(model, 0.9)
    shadow: dict[str, Tensor] = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    ema.load_state_dict({"decay": 0.9, "shadow": shadow})
    assert torch.equal(ema.averaged_state_dict()["weight"], torch.ones(2, 2))
    with ema.applied():
        pass
    for broken in ({"weight": torch.ones(2, 2)}, {**shadow, "bias": torch.zeros(3)}):
        with pytest.raises(MismatchError):
            ema.load_state_dict({"decay": 0.9, "shadow": broken})


def test_the_average_can_be_read_without_an_ema(tmp_path: Path) -> None:
    """A load without a registered average still gives it as a state dict when asked."""
    session, ema, manager = start(tmp_path)
    session.step()
    folder = manager.save(0, 1, {"val_loss": 1.0})
    config = CheckpointConfig(str(tmp_path), progress=False, provenance=False)
    loaded = CheckpointManager(config, session.model, session.optimizer).load(folder)
    session.model.load_state_dict(loaded["ema_state_dict"])
    assert torch.equal(
        session.model.state_dict()["0.weight"], ema.averaged_state_dict()["0.weight"]
    )


def test_a_part_of_an_average_can_be_loaded(tmp_path: Path) -> None:
    """`only` chooses tensors of averages as it does of models; counters are of whole averages."""
    session, ema, manager = start(tmp_path, decay=[0.9, 0.5])
    for _ in range(3):
        session.step()
    manager.save(0, 3, {})
    saved = everything(ema)
    manager.close()
    _, other, loading = start(tmp_path, seed=9, decay=[0.9, 0.5])
    before = everything(other)
    name = next(iter(saved["tensors"])).partition(" ")[2]
    loading.load(components=["ema", "ema-2"], only=[name], load_rng_state=False)
    after = everything(other)
    assert after["counters"] == before["counters"]
    for key, tensor in after["tensors"].items():
        source = saved if key.partition(" ")[2] == name else before
        assert torch.equal(tensor, source["tensors"][key]), key
    with pytest.raises(ConfigError, match="fits nothing"):
        loading.load(components=["ema"], only=["no.such.tensor"])
