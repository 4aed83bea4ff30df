"""Files that did not change are linked: on disk, after deletion, and after damage."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.errors import HoldfastWarning
from holdfast.manifest import MANIFEST_FILE, parse_manifest


def disk_bytes(run: Path) -> int:
    """Bytes that all checkpoints of the run take on the disk, shared ones once."""
    blocks = {}
    for path in run.glob("checkpoint_*/*"):
        found = path.stat()
        blocks[found.st_ino] = found.st_blocks * 512
    return sum(blocks.values())


class Adapted(nn.Module):
    """A large frozen backbone and a small head, as in fine-tuning."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(1000, 900)
        self.head = nn.Linear(1000, 90)
        self.backbone.requires_grad_(False)


def manager_of(run: Path, model: nn.Module, **options: object) -> CheckpointManager:
    """A manager that keeps everything."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    config = CheckpointConfig(str(run), progress=False, save_total_limit=None, **options)  # type: ignore[arg-type]
    return CheckpointManager(config, model, optimizer)


@pytest.mark.parametrize("async_save", [False, True])
def test_a_save_of_what_did_not_change_writes_metadata_only(
    tmp_path: Path, async_save: bool
) -> None:
    """Two saves of the same weights take the disk of one, and little more."""
    manager = manager_of(tmp_path, Adapted(), async_save=async_save)
    manager.save(0, 1)
    manager.wait()
    once = disk_bytes(tmp_path)
    manager.save(0, 2)
    manager.save(0, 3)
    manager.close()
    assert disk_bytes(tmp_path) - once < 100_000
    costs = manager.stats.saves
    assert costs[0].bytes_linked == 0
    assert all(cost.bytes_linked > 3_900_000 for cost in costs[1:])
    assert all(cost.bytes_written < 50_000 for cost in costs[1:])


def test_the_cost_stands_in_the_manifest(tmp_path: Path) -> None:
    """Anybody can see later what a save cost."""
    manager = manager_of(tmp_path, Adapted())
    manager.save(0, 1)
    path = manager.save(0, 2)
    assert path is not None
    cost = parse_manifest((path / MANIFEST_FILE).read_bytes(), where="test").cost
    assert cost["mode"] == "sync"
    assert cost["bytes_linked"] == manager.stats.saves[-1].bytes_linked
    manager.close()


@pytest.mark.parametrize("async_save", [False, True])
def test_with_a_frozen_backbone_only_what_changed_is_written(
    tmp_path: Path, async_save: bool
) -> None:
    """Nine tenths frozen: a save takes at most 1.05 times what is trained, by disk usage."""
    model = Adapted()
    manager = manager_of(tmp_path, model, async_save=async_save, split_frozen_bytes=1 << 20)
    frozen = sum(p.nbytes for p in model.backbone.parameters())
    trained = sum(p.nbytes for p in model.head.parameters())
    assert frozen > 0.9 * (frozen + trained)
    manager.save(0, 1)
    manager.wait()
    used = [disk_bytes(tmp_path)]
    for step in (2, 3):
        with torch.no_grad():
            model.head.weight.add_(1)
        manager.save(0, step)
        manager.wait()
        used.append(disk_bytes(tmp_path))
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for before, after in itertools.pairwise(used):
        assert after - before <= 1.05 * trained + 12 * 4096
    for parameter in model.parameters():
        parameter.data.zero_()
    manager.load()
    assert all(torch.equal(v, expected[k]) for k, v in model.state_dict().items())
    manager.close()


def test_a_divided_model_reads_with_stock_tools(tmp_path: Path) -> None:
    """Shards and index are those that transformers reads; the file names in it exist."""
    model = Adapted()
    manager = manager_of(tmp_path, model, split_frozen_bytes=1 << 20)
    path = manager.save(0, 1)
    assert path is not None
    index = json.loads((path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(model.state_dict())
    read: dict[str, torch.Tensor] = {}
    for file in set(index["weight_map"].values()):
        read |= load_file(path / file)
    assert all(torch.equal(read[name], value) for name, value in model.state_dict().items())
    assert index["metadata"]["total_size"] == sum(v.nbytes for v in read.values())
    manager.close()


def test_a_small_frozen_part_leaves_one_file(tmp_path: Path) -> None:
    """By default a model is one `model.safetensors` unless a large part of it is frozen."""
    manager = manager_of(tmp_path, Adapted())
    path = manager.save(0, 1)
    assert path is not None
    assert (path / "model.safetensors").is_file()
    manager.close()


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_deleting_any_checkpoint_leaves_the_others_whole(tmp_path: Path, gone: int) -> None:
    """A linked file belongs to each checkpoint that has it."""
    model = Adapted()
    manager = manager_of(tmp_path, model)
    paths = [manager.save(0, step) for step in (1, 2, 3)]
    manager.close()
    doomed = paths[gone]
    assert doomed is not None
    shutil.rmtree(doomed)
    expected = model.backbone.weight.clone()
    for path in paths:
        if path is not None and path != doomed:
            with torch.no_grad():
                model.backbone.weight.zero_()
            manager.load(path)
            assert torch.equal(model.backbone.weight, expected)


def test_rotation_keeps_linked_files(tmp_path: Path) -> None:
    """Retention deletes the checkpoint a file came from; the file stays with the others."""
    model = Adapted()
    config = CheckpointConfig(str(tmp_path), progress=False, save_total_limit=2)
    manager = CheckpointManager(config, model, torch.optim.SGD(model.head.parameters(), lr=0.1))
    for step in range(1, 8):
        manager.save(0, step, {"val_loss": 1.0})
    assert len(manager.checkpoints()) == 2
    manager.load()
    manager.close()


def test_a_resumed_run_links_to_what_it_resumed_from(tmp_path: Path) -> None:
    """The first save of a session knows the checkpoints of the last one."""
    torch.manual_seed(0)
    manager = manager_of(tmp_path, Adapted())
    manager.save(0, 1)
    manager.close()
    again = manager_of(tmp_path, Adapted())
    again.resume(verbose=False)
    again.save(0, 2)
    assert again.stats.saves[0].bytes_linked > 3_900_000
    again.close()


def test_a_file_cut_short_is_not_linked(tmp_path: Path) -> None:
    """What can be seen to be damaged is written anew from memory."""
    manager = manager_of(tmp_path, Adapted())
    first = manager.save(0, 1)
    manager.close()
    assert first is not None
    os.truncate(first / "model.safetensors", 5000)
    again = manager_of(tmp_path, Adapted())
    with pytest.warns(HoldfastWarning, match="already holds"):
        path = again.save(0, 2)
    again.load(path)
    again.close()


def test_linking_can_be_switched_off(tmp_path: Path) -> None:
    """link_unchanged=False gives every checkpoint files of its own."""
    manager = manager_of(tmp_path, Adapted(), link_unchanged=False)
    manager.save(0, 1)
    once = disk_bytes(tmp_path)
    manager.save(0, 2)
    manager.close()
    assert disk_bytes(tmp_path) > 1.9 * once
