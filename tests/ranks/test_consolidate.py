"""What many ranks saved, put together as one plain checkpoint or one file of weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from sharded_runs import save_sharded, session
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.compare import compare
from holdfast.convert import consolidate, export_original
from holdfast.engine.checkpoint_files import open_files
from holdfast.engine.save import SaveReceipt
from holdfast.errors import ConfigError, LoadError, SaveError
from holdfast.export.source import open_weights
from holdfast.session import LiveObjects, load_into
from holdfast.storage import LocalRun


@pytest.fixture(scope="module")
def objects() -> LiveObjects:
    """What was saved: with ties, complex values, a tensor without rows, optimizer state."""
    return session()


@pytest.fixture(scope="module")
def folder(objects: LiveObjects, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of three ranks."""
    run = tmp_path_factory.mktemp("run")
    (first, *_) = save_sharded(run, 3, objects)
    assert isinstance(first, SaveReceipt), first
    return run / first.name


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_result_is_a_checkpoint_of_one_process(
    folder: Path, objects: LiveObjects, tmp_path: Path
) -> None:
    """It verifies, compares as equal, says where it is from, and restores a session bit for bit."""
    made = consolidate(folder, tmp_path)
    assert (made.ranks, made.left_out) == (3, ("rng",))
    assert made.path.name == folder.name
    with open_files(LocalRun(tmp_path), made.path.name) as files:
        assert files.damage() == []
        manifest = files.manifest
    assert manifest.world == {"size": 1, "layout": "single"}
    assert [parent.relation for parent in manifest.parents] == ["consolidated_from"]
    assert manifest.bytes == made.bytes
    found = compare(folder, made.path, components=["model", "optimizer", "run"])
    assert found.different() == []
    assert {tree.path for tree in found.trees} == {"world.layout", "world.size"}
    fresh = session(seed=1)
    load_into(made.path, fresh)
    assert objects.optimizer is not None
    assert fresh.optimizer is not None
    for name, value in objects.model.state_dict().items():
        assert torch.equal(value, fresh.model.state_dict()[name]), name
    state = fresh.optimizer.state_dict()["state"]
    for index, entry in objects.optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, state[index][key]) for key, value in entry.items())


def test_it_is_what_one_process_would_have_stored(
    folder: Path, objects: LiveObjects, tmp_path: Path
) -> None:
    """The tensor files are, byte for byte, those that one process writes of the same session."""
    config = CheckpointConfig(str(tmp_path / "single"), progress=False, provenance=False)
    with CheckpointManager(config, objects.model, objects.optimizer) as manager:
        single = manager.save(1, 2)
    assert single is not None
    made = consolidate(folder, tmp_path / "made").path
    for file in ("model.safetensors", "optimizer.safetensors"):
        assert (made / file).read_bytes() == (single / file).read_bytes()


def test_a_run_can_keep_both(folder: Path, tmp_path: Path) -> None:
    """In its own run the result has a name of its own; done again, it is not there twice."""
    run = tmp_path / "run"
    run.mkdir()
    (run / folder.name).mkdir()
    for path in folder.iterdir():
        (run / folder.name / path.name).write_bytes(path.read_bytes())
    first = consolidate(run / folder.name, run).path
    assert first.name == f"{folder.name}_2"
    assert consolidate(run / folder.name, run).path == first
    assert len(LocalRun(run).names()) == 2


def test_a_trial_writes_nothing(folder: Path, tmp_path: Path) -> None:
    """It says what there would be, of a run and of a file."""
    made = consolidate(folder, tmp_path / "run")
    tried = consolidate(folder, tmp_path / "other", dry_run=True)
    assert (tried.tensors, tried.left_out) == (made.tensors, made.left_out)
    assert tried.bytes < made.bytes
    assert not (tmp_path / "other").exists()


def _plain_model(folder: Path) -> nn.Module:
    """A model that stock safetensors can hold, saved by two ranks."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(600, 500), nn.BatchNorm1d(500), nn.Linear(500, 500))
    model[2].weight = nn.Parameter(torch.randn(500, 500))
    model.append(nn.Linear(500, 500, bias=False))
    model[3].weight = model[2].weight
    (first, *_) = save_sharded(folder, 2, LiveObjects(model))
    assert isinstance(first, SaveReceipt), first
    return model


def test_weights_alone_are_a_stock_file(tmp_path: Path) -> None:
    """Stock safetensors reads every name, tied ones too; a file of the name is replaced."""
    model = _plain_model(tmp_path / "run")
    target = tmp_path / "model.safetensors"
    target.write_bytes(b"what was there")
    (checkpoint,) = (tmp_path / "run").glob("checkpoint_*")
    consolidate(checkpoint, target, dry_run=True)
    assert target.read_bytes() == b"what was there"
    made = consolidate(checkpoint, target)
    assert set(made.left_out) == {"run", "rng"}
    found = safetensors.torch.load_file(target)
    wanted = model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_what_cannot_be_put_together_is_refused(folder: Path, tmp_path: Path) -> None:
    """A plain checkpoint, raw dtypes in a stock file, a file as a run: each says what to do."""
    plain = consolidate(folder, tmp_path / "plain").path
    with pytest.raises(ConfigError, match="One process saved it"):
        consolidate(plain, tmp_path / "again")
    with pytest.raises(SaveError, match="waves"):
        consolidate(folder, tmp_path / "model.safetensors")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="a file"):
        consolidate(folder, tmp_path / "file")
    assert not (tmp_path / "model.safetensors").exists()


def test_damage_is_never_passed_on(folder: Path, tmp_path: Path) -> None:
    """A flipped bit in any rank's file, or a lost file, ends it; nothing becomes visible."""
    for number, file in enumerate(sorted(path.name for path in folder.glob("[mo]*.safetensors"))):
        copy = tmp_path / "in" / str(number) / folder.name
        copy.mkdir(parents=True)
        for path in folder.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        data = bytearray((copy / file).read_bytes())
        data[len(data) * 2 // 3] ^= 1
        (copy / file).write_bytes(data)
        out = tmp_path / "out" / str(number)
        with pytest.raises(LoadError, match=file):
            consolidate(copy, out)
        assert LocalRun(out).names() == []
        assert not list(out.glob(".holdfast-tmp-*"))
        (copy / file).unlink()
        with pytest.raises(LoadError, match=file):
            consolidate(copy, out)


def test_tools_of_one_process_take_it_as_it_is(tmp_path: Path) -> None:
    """Weights for export, and a file of the original layout, come straight from the pieces."""
    model = _plain_model(tmp_path / "run")
    (checkpoint,) = (tmp_path / "run").glob("checkpoint_*")
    weights = open_weights(checkpoint)
    wanted = model.state_dict()
    assert weights.tensors.keys() == wanted.keys()
    assert all(torch.equal(weights.tensors[name], wanted[name]) for name in wanted)
    written = export_original(checkpoint, tmp_path / "whole.pt")
    assert compare(checkpoint, written, components=["model"]).different() == []
