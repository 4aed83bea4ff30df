"""Averages: exact, the same in any order, written as ordinary checkpoints."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from selection_helpers import Tied, Words, nudge, save_run, states
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager, ModelSelector, average
from holdfast.selection import Recalibration, average_state
from holdfast.weights import mean_of


@pytest.fixture
def model() -> Tied:
    """A model with one tensor of each kind."""
    torch.manual_seed(0)
    return Tied()


def test_floats_are_averaged_exactly_and_the_rest_by_kind(tmp_path: Path, model: Tied) -> None:
    """Floating tensors are the nearest to the mean, counters of the newest, tables as they are."""
    paths = save_run(tmp_path / "run", model)
    members = states(paths)
    mean = average_state(paths)
    for name in members[0]:
        stored = [member[name] for member in members]
        expected = mean_of(stored) if stored[0].is_floating_point() else stored[-1]
        assert torch.equal(mean[name], expected), name
    assert mean["norm.num_batches_tracked"] == 4


def test_tied_tensors_stay_tied_and_layouts_stay_as_they_were(tmp_path: Path, model: Tied) -> None:
    """A tied tensor is averaged once; channels-last weights come back channels-last."""
    mean = average_state(save_run(tmp_path / "run", model))
    assert mean["output.weight"] is mean["embedding.weight"]
    assert mean["conv.weight"].is_contiguous(memory_format=torch.channels_last)


def test_the_seed_call_gives_a_state_dict_the_model_loads(tmp_path: Path, model: Tied) -> None:
    """`ModelSelector.average_checkpoints(paths, model)`, on the class and on an instance."""
    paths = save_run(tmp_path / "run", model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for selector in (ModelSelector, ModelSelector()):
        state = selector.average_checkpoints([str(path) for path in paths], model)
        assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
        Tied().load_state_dict(state)
        assert list(state) == list(model.state_dict())
    assert state["norm.num_batches_tracked"].dtype == torch.int64


def test_a_wrapped_model_gets_its_own_names(tmp_path: Path, model: Tied) -> None:
    """The state dict fits the wrapper that was given."""
    paths = save_run(tmp_path / "run", model)
    wrapped = nn.DataParallel(model)
    wrapped.load_state_dict(ModelSelector.average_checkpoints(paths, wrapped))


def test_original_files_are_averaged_too_and_mix_with_folders(tmp_path: Path, model: Tied) -> None:
    """`.pt` files of the original layout count like checkpoints of ours."""
    paths = save_run(tmp_path / "run", model, 3)
    files = []
    for index, state in enumerate(states(paths)):
        state["output.weight"] = state["embedding.weight"]
        file = tmp_path / f"old{index}.pt"
        torch.save({"model_state_dict": state, "global_step": 10 * index}, file)
        files.append(file)
    ours = average_state(paths)
    for members in (files, [paths[0], files[1], paths[2]]):
        theirs = average_state(members)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_order_of_members_changes_no_bit_of_what_is_written(
    tmp_path: Path, model: Tied
) -> None:
    """Files, recipe and digests are the same for every order, weights included."""
    paths = save_run(tmp_path / "run", model)
    weights = [1, 2, 3, 4]
    first = average(paths, tmp_path / "a", weights=weights)
    order = list(range(4))
    random.Random(3).shuffle(order)
    second = average([paths[i] for i in order], tmp_path / "b", weights=[weights[i] for i in order])
    assert first.recipe == second.recipe
    name = "model.safetensors"
    assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_an_average_is_an_ordinary_checkpoint_without_optimizer(
    tmp_path: Path, model: Tied
) -> None:
    """It loads through a manager, holds config and parents, and no optimizer state."""
    paths = save_run(tmp_path / "run", model, config={"width": 8})
    written = average(paths)
    other = Tied()
    manager = CheckpointManager(CheckpointConfig(str(tmp_path / "other"), progress=False), other)
    loaded = manager.load(written.path)
    assert loaded["model_config"] == {"width": 8}
    assert loaded["global_step"] == 30
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in average_state(paths).items())
    manifest = json.loads((written.path / "manifest.json").read_text())
    assert set(manifest["components"]) == {"model", "run"}
    assert [p["relation"] for p in manifest["parents"]] == ["averaged_from"] * 4
    assert json.loads((written.path / "config.json").read_text()) == {"width": 8}


def test_an_average_is_neither_resumed_from_nor_rotated_away(tmp_path: Path, model: Tied) -> None:
    """The run's newest, its best and its rotation know nothing of averages."""
    paths = save_run(tmp_path / "run", model)
    written = average(paths, metrics={"val_loss": 0.0})
    config = CheckpointConfig(str(tmp_path / "run"), save_total_limit=1, progress=False)
    manager = CheckpointManager(config, model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert manager.get_latest_checkpoint() == paths[-1]
    assert manager.get_best_checkpoint() == paths[-1]
    assert manager.resume(verbose=False).info.name == paths[-1].name  # type: ignore[union-attr]
    manager.save(9, 90, {"val_loss": 0.5})
    assert len(manager.checkpoints()) < 4
    assert (written.path / "manifest.json").exists()


def test_weights_and_subsets(tmp_path: Path, model: Tied) -> None:
    """Weighted means; tensors that no pattern names are those of the newest member."""
    paths = save_run(tmp_path / "run", model, 2)
    old, new = states(paths)
    mean = average_state(paths, weights=[0.25, 0.75], only=["inner.*"])
    name = "inner.weight"
    assert torch.equal(mean[name], mean_of([old[name], new[name]], [1, 3]))
    assert torch.equal(mean["embedding.weight"], new["embedding.weight"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_narrow_members_can_be_averaged_into_a_wider_dtype(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    """bfloat16 members keep what averaging gains when the result is float32."""
    model = Tied().to(dtype)
    paths = save_run(tmp_path / "run", model, 3)
    kept, wide = average_state(paths), average_state(paths, dtype=torch.float32)
    stored = [state["inner.weight"] for state in states(paths)]
    assert torch.equal(kept["inner.weight"], mean_of(stored))
    assert torch.equal(wide["inner.weight"], mean_of(stored, dtype=torch.float32))
    assert wide["norm.num_batches_tracked"].dtype == torch.int64


def test_frozen_tensors_are_read_once_and_come_out_unchanged(tmp_path: Path) -> None:
    """Equal bytes need no mean: infinities in a mask survive, and are not taken for damage."""

    class Masked(nn.Module):
        causal: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))
            self.register_buffer("causal", torch.full((2, 2), float("-inf")).triu(1))

    model = Masked()
    manager = CheckpointManager(
        CheckpointConfig(str(tmp_path / "run"), save_total_limit=None, progress=False), model
    )
    paths = []
    for step in range(3):
        with torch.no_grad():
            model.weight.add_(1)
        path = manager.save(step, step)
        assert path is not None
        paths.append(path)
    mean = average_state(paths)
    assert torch.equal(mean["causal"], model.causal)
    assert torch.equal(mean["weight"], torch.full((3,), 2.0))


def test_large_tensors_and_many_small_ones_stream_to_the_same_result(tmp_path: Path) -> None:
    """More than one chunk, neighbours read together, scalars and tensors without elements."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.large = nn.Parameter(torch.randn(700, 999))
            self.narrow = nn.Parameter(torch.randn(33).bfloat16())
            self.many = nn.ParameterList(nn.Parameter(torch.randn(i % 7)) for i in range(90))
            self.scalar = nn.Parameter(torch.tensor(1.5))

    model = Mixed()
    paths = save_run(tmp_path / "run", model, 3)
    written = average(paths)
    (result,) = states([written.path])
    members = states(paths)
    for name, tensor in result.items():
        assert torch.equal(tensor, mean_of([member[name] for member in members])), name


def test_vocabularies_that_agree_travel_along(tmp_path: Path, model: Tied) -> None:
    """What the indices stand for belongs to the model."""
    words = {"source_vocabulary": Words(["a", "b"])}
    paths = save_run(tmp_path / "run", model, 2, objects=words)
    written = average(paths)
    taken = Words([])
    manager = CheckpointManager(CheckpointConfig(str(tmp_path / "x"), progress=False), Tied())
    manager.register("source_vocabulary", taken)
    manager.load(written.path)
    assert taken.words == ["a", "b"]


def test_normalisation_statistics_can_be_measured_anew(tmp_path: Path) -> None:
    """With a loader they are those of the averaged weights; without, the report says they are
    averages."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
    paths = save_run(tmp_path / "run", model, 3)
    plain = average(paths)
    assert any("normalisation statistics" in note for note in plain.notes)
    batches = [torch.randn(16, 4) for _ in range(3)]
    measured = average(paths, tmp_path / "out", recalibrate=Recalibration(model, batches))
    (state,) = states([measured.path])
    outputs = torch.stack(
        [nn.functional.linear(b, state["0.weight"], state["0.bias"]) for b in batches]
    )
    torch.testing.assert_close(state["1.running_mean"], outputs.mean((0, 1)))
    assert state["1.num_batches_tracked"] == 3
    assert "1.running_mean" in measured.recipe.recalibrated
    assert model.training


def test_averaging_the_same_twice_is_one_checkpoint(tmp_path: Path, model: Tied) -> None:
    """A retried average is found again; another one gets a name of its own."""
    paths = save_run(tmp_path / "run", model, 3)
    first, again, other = average(paths), average(paths), average(paths, weights=[1, 1, 2])
    assert first.path == again.path
    assert other.path != first.path


def test_the_original_weights_are_not_needed_in_memory(tmp_path: Path, model: Tied) -> None:
    """The model given to `average_state` is never changed, not even in mode."""
    paths = save_run(tmp_path / "run", model, 2)
    nudge(model, 99)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average_state(paths, model.train())
    assert model.training
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
