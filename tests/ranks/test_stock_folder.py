"""Folders of stock `torch.distributed.checkpoint`: compared and consolidated, never unpickled."""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
)

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.compare import compare
from holdfast.convert import consolidate
from holdfast.engine.checkpoint_files import open_files
from holdfast.engine.dcp_folder import DcpFolder
from holdfast.engine.dcp_metadata import read_records
from holdfast.errors import HoldfastError, LoadError
from holdfast.export.source import open_weights
from holdfast.session import LiveObjects, load_into
from holdfast.storage import LocalRun


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(30, 20), nn.BatchNorm1d(20), nn.Linear(20, 5).bfloat16())


def _save(state: dict[str, Any], folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state_dict_saver.save(state, checkpoint_id=folder, no_dist=True)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """What was saved."""
    return _model()


@pytest.fixture(scope="module")
def stock(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the examples of torch save a session; nobody may change it."""
    folder = tmp_path_factory.mktemp("stock") / "dcp"
    optimizer = {"state": {"0.weight": {"exp_avg": torch.ones(20, 30)}}, "lr": 0.1}
    _save({"model": model.state_dict(), "optim": optimizer, "epoch": 3}, folder)
    return folder


def test_the_model_is_compared_with_ours(stock: Path, model: nn.Module, tmp_path: Path) -> None:
    """The tensors under "model" are those of a checkpoint of the same model."""
    config = CheckpointConfig(str(tmp_path), progress=False, provenance=False)
    ours = CheckpointManager(config, model).save(0, 1)
    assert ours is not None
    found = compare(stock, ours, components=["model"])
    assert len(found.tensors) == len(model.state_dict())
    assert found.different() == []


def test_the_weights_become_one_file(stock: Path, model: nn.Module, tmp_path: Path) -> None:
    """Under their FQN; what else there is, is named as left out."""
    made = consolidate(stock, tmp_path / "model.safetensors")
    assert set(made.left_out) == {"optim", "epoch"}
    found = safetensors.torch.load_file(made.path)
    wanted = model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_the_weights_become_a_checkpoint(stock: Path, model: nn.Module, tmp_path: Path) -> None:
    """It is whole, loads into the model, and a trial of it writes nothing."""
    tried = consolidate(stock, tmp_path / "run", dry_run=True)
    assert not (tmp_path / "run").exists()
    made = consolidate(stock, tmp_path / "run")
    assert (made.tensors, made.left_out) == (tried.tensors, tried.left_out)
    with open_files(LocalRun(tmp_path / "run"), made.path.name) as files:
        assert files.damage() == []
    fresh = _model()
    torch.nn.init.zeros_(next(fresh.parameters()))
    load_into(made.path, LiveObjects(fresh))
    wanted = model.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in fresh.state_dict().items())
    assert open_weights(made.path).tensors.keys() == wanted.keys()


def test_a_bare_state_dict_is_a_model(model: nn.Module, tmp_path: Path) -> None:
    """Where nothing is under "model", all tensors are the model's."""
    _save(dict(model.state_dict()), tmp_path / "dcp")
    assert DcpFolder(tmp_path / "dcp").model().keys() == model.state_dict().keys()


class _Attack:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, ("owned",)


def _copied(stock: Path, to: Path) -> Path:
    return Path(shutil.copytree(stock, to / "dcp"))


def _edited(stock: Path, to: Path, edit: Callable[[Metadata], object]) -> Path:
    """A folder whose index was changed by someone; the test trusts what it made itself."""
    copy = _copied(stock, to)
    index: Metadata = pickle.loads((copy / ".metadata").read_bytes())  # noqa: S301
    edit(index)
    (copy / ".metadata").write_bytes(pickle.dumps(index))
    return copy


def _attack(index: Metadata) -> None:
    index.planner_data = _Attack()


def _hole(index: Metadata) -> None:
    index.state_dict_metadata["model.0.weight"].chunks.clear()  # type: ignore[union-attr]


def _overlap(index: Metadata) -> None:
    chunk = ChunkStorageMetadata(torch.Size([0, 0]), torch.Size([20, 30]))
    index.state_dict_metadata["model.0.weight"].chunks.append(chunk)  # type: ignore[union-attr]


def _escape(index: Metadata) -> None:
    next(iter(index.storage_data.values())).relative_path = "../dcp/__0_0.distcp"


def _beyond(index: Metadata) -> None:
    index.storage_data[MetadataIndex("epoch")].length = 1 << 40


def _endless(index: Metadata) -> None:
    entry = index.state_dict_metadata["model.0.weight"]
    entry.size = entry.chunks[0].sizes = torch.Size([1 << 40, 30])  # type: ignore[union-attr]


def _exchanged(index: Metadata) -> None:
    data = index.storage_data
    data[MetadataIndex("model.0.weight", torch.Size([0, 0]))] = data[
        MetadataIndex("model.1.weight", torch.Size([0]))
    ]


def _transformed(index: Metadata) -> None:
    next(iter(index.storage_data.values())).transform_descriptors = ["zstd"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_attack, "posix.mkdir|nt.mkdir"),
        (_hole, "not whole"),
        (_overlap, "not whole"),
        (_escape, "the file name"),
        (_beyond, "cut short"),
        (_endless, "bytes takes"),
        (_exchanged, "bytes takes"),
        (_transformed, "compressed"),
    ],
)
def test_a_hostile_index_is_refused(
    stock: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[Metadata], object],
    message: str,
) -> None:
    """Code, holes, paths outside, absurd sizes: refused by name, nothing run, nothing written."""
    folder = _edited(stock, tmp_path, edit)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LoadError, match=message):
        consolidate(folder, tmp_path / "model.safetensors")
    with pytest.raises(LoadError, match=message):
        compare(folder, folder)
    assert sorted(os.listdir(tmp_path)) == ["dcp"]


def test_pieces_are_put_together(stock: Path, model: nn.Module, tmp_path: Path) -> None:
    """A tensor in two pieces of two files is whole; without one of the files it is refused."""
    weight = model.state_dict()["0.weight"]
    parts = {"__1_0.distcp": ([0, 0], weight[:, :7]), "__2_0.distcp": ([0, 7], weight[:, 7:])}

    def divide(index: Metadata) -> None:
        name = "model.0.weight"
        chunks = index.state_dict_metadata[name].chunks  # type: ignore[union-attr]
        info = index.storage_data.pop(MetadataIndex(name, torch.Size([0, 0])))
        chunks.clear()
        for file, (at, part) in parts.items():
            torch.save(part.clone(), tmp_path / file)
            length = (tmp_path / file).stat().st_size
            chunks.append(ChunkStorageMetadata(torch.Size(at), part.shape))
            index.storage_data[MetadataIndex(name, torch.Size(at))] = type(info)(file, 0, length)

    folder = _edited(stock, tmp_path, divide)
    for file in parts:
        (tmp_path / file).rename(folder / file)
    made = consolidate(folder, tmp_path / "model.safetensors")
    assert made.ranks == 3
    assert torch.equal(safetensors.torch.load_file(made.path)["0.weight"], weight)
    (folder / "__2_0.distcp").unlink()
    with pytest.raises(LoadError, match="__2_0"):
        consolidate(folder, tmp_path / "model.safetensors")


def test_flipped_bits_in_the_data_are_found(stock: Path, tmp_path: Path) -> None:
    """By the checksums that every piece has inside."""
    copy = _copied(stock, tmp_path)
    (path,) = copy.glob("*.distcp")
    data = bytearray(path.read_bytes())
    at = data.find(_model().state_dict()["0.weight"].numpy().tobytes())
    assert at > 0
    data[at + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(LoadError):
        consolidate(copy, tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_other_index_is_read_or_refused(stock: Path, data: st.DataObject) -> None:
    """Whatever bytes are changed, what comes out is records or an error of ours."""
    index = bytearray((stock / ".metadata").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        index[data.draw(st.integers(0, len(index) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_records(bytes(index), where="index")
    except HoldfastError as error:
        assert error.where == "index"  # noqa: PT017
