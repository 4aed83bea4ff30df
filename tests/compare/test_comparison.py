"""What a comparison of two checkpoints finds, layout by layout."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.compare import compare
from holdfast.compare.picture import cells_of, draw_heatmap
from holdfast.convert import export_original
from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    DamagedError,
    FormatError,
    LoadError,
)


class Net(nn.Module):
    """Two blocks and a tie."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))
        self.second = nn.Linear(6, 6)
        self.tied = nn.Linear(6, 6, bias=False)
        self.tied.weight = self.second.weight


@pytest.fixture
def run(tmp_path: Path) -> tuple[Path, Path]:
    """Two checkpoints ten steps apart: only the second block changed."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    config = CheckpointConfig(
        str(tmp_path / "run"), save_total_limit=None, progress=False, provenance=False
    )
    with CheckpointManager(config, model, optimizer, scheduler) as manager:
        first = manager.save(0, 10, {"loss": 2.0}, model_config={"width": 6})
        with torch.no_grad():
            model.second.weight += 0.5
            model.second.bias[0] = math.nan
        optimizer.param_groups[0]["momentum"] = 0.5
        torch.rand(3)
        second = manager.save(1, 20, {"loss": 1.0}, model_config={"width": 7})
    assert first is not None
    assert second is not None
    return first, second


def test_values_are_measured_and_equal_digests_are_not_read(run: tuple[Path, Path]) -> None:
    """Norms, angle, extremes and counts agree with torch; the rest is equal by digest."""
    found = compare(*run)
    changed = {t.name: t for t in found.different() if t.component == "model"}
    assert set(changed) == {"second.weight", "second.bias"}
    before = torch.load(export_original(run[0], run[0].parent / "a.pt"), weights_only=True)
    after = torch.load(export_original(run[1], run[0].parent / "b.pt"), weights_only=True)
    a: Tensor = before["model_state_dict"]["second.weight"].double()
    b: Tensor = after["model_state_dict"]["second.weight"].double()
    numbers = changed["second.weight"].numbers
    assert numbers is not None
    assert numbers.relative_l2 == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-12)
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
    assert numbers.cosine == pytest.approx(float(cosine), rel=1e-9)
    assert numbers.max_abs == float((b - a).abs().max())
    assert (numbers.changed, numbers.elements) == (36, 36)
    assert found.update_ratio(numbers) == pytest.approx(numbers.relative_l2 / 10)
    odd = changed["second.bias"].numbers
    assert odd is not None
    assert (odd.nan_left, odd.nan_right, odd.changed, odd.squares_delta) == (0, 1, 1, 0.0)
    read = sum(t.elements for t in found.tensors if t.numbers is not None)
    assert read < sum(t.elements for t in found.tensors)
    assert not compare(run[0], run[0]).bytes_read


def test_what_is_no_tensor_is_told_by_its_path(run: tuple[Path, Path]) -> None:
    """Metrics, position, configuration, schedule, groups and random states that differ."""
    found = compare(*run)
    told = {(t.component, t.path): (t.left, t.right) for t in found.trees}
    assert told["checkpoint", "metrics.loss"] == ("2.0", "1.0")
    assert told["checkpoint", "global_step"] == ("10", "20")
    assert told["run", "model_config.width"] == ("6", "7")
    assert told["optimizer", "state_dict.param_groups[0].momentum"] == ("0.9", "0.5")
    assert any(t.component == "rng" and "torch:cpu" in t.name for t in found.different())
    assert found.steps == 10


def test_modules_roll_up_to_the_same_totals_at_every_depth(run: tuple[Path, Path]) -> None:
    """Whatever the depth, the elements, counts and squares of a component add up alike."""
    found = compare(*run)
    for component in ("model", "rng"):
        sums = set()
        for depth in range(4):
            modules = [m for m in found.modules(depth) if m.component == component]
            sums.add(
                (
                    sum(m.tensors for m in modules),
                    sum(m.equal for m in modules),
                    sum(m.numbers.elements for m in modules),
                    sum(m.numbers.changed for m in modules),
                    math.fsum(m.numbers.squares_delta for m in modules),
                    max(m.numbers.max_abs for m in modules),
                )
            )
        assert len(sums) == 1


def test_every_layout_compares_with_every_other(run: tuple[Path, Path], tmp_path: Path) -> None:
    """The same weights are the same in our folder, a .pt file, safetensors and a hub folder."""
    first = run[0]
    exported = export_original(first, tmp_path / "old.pt")
    state = torch.load(exported, weights_only=True)["model_state_dict"]
    bare = tmp_path / "bare.pt"
    torch.save(state, bare)
    untied = {name: tensor for name, tensor in state.items() if name != "tied.weight"}
    save_file(untied, tmp_path / "model.safetensors")
    hub = _hub_folder(tmp_path / "hub", untied)
    sides = [first, exported, bare, tmp_path / "model.safetensors", hub]
    for left in sides:
        for right in sides:
            found = compare(left, right, components=["model"])
            assert {t.status for t in found.tensors if not t.same} == set(), (left, right)
    changed = compare(hub, run[1])
    assert {t.name for t in changed.different()} == {"second.weight", "second.bias"}
    assert set(changed.not_compared) == {"optimizer", "scheduler", "rng", "run"}


def _hub_folder(folder: Path, state: dict[str, Tensor]) -> Path:
    """Two shards with an index, reached through links as in a hub's cache."""
    (folder / "blobs").mkdir(parents=True)
    names = list(state)
    index: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, folder / "blobs" / str(number))
        (folder / file).symlink_to(folder / "blobs" / str(number))
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text('{"width": 6}')
    return folder


def test_names_shapes_and_dtypes_that_changed_are_told_apart(tmp_path: Path) -> None:
    """Added, removed, renamed, reshaped and recast; a rename by digest is certain, else a guess."""
    a, b = torch.arange(12.0).reshape(3, 4), torch.randn(5, 5)
    common = {"kept": torch.ones(2), "wide": torch.zeros(2, 3), "half": torch.tensor([1.0, 2.0])}
    left = {"enc.weight": a, "only.left": torch.ones(7), "block.bias": b, **common}
    right = {
        "model.enc.weight": a,
        "only.right": torch.ones(9),
        "model.block.bias": b + 1,
        **common,
    }
    right["wide"] = torch.zeros(3, 2)
    right["half"] = torch.tensor([1.0, 2.5], dtype=torch.bfloat16)
    save_file(left, tmp_path / "left.safetensors")
    save_file(right, tmp_path / "right.safetensors")
    found = compare(tmp_path / "left.safetensors", tmp_path / "right.safetensors")
    status = {t.name: (t.status, t.left_name) for t in found.tensors if not t.same}
    assert status == {
        "model.enc.weight": ("renamed", "enc.weight"),
        "model.block.bias": ("renamed", "block.bias"),
        "only.left": ("removed", None),
        "only.right": ("added", None),
        "wide": ("reshaped", None),
        "half": ("recast", None),
    }
    numbers = {t.name: t.numbers for t in found.tensors if t.numbers is not None}
    assert numbers["half"].changed == 1
    assert numbers["model.enc.weight"].changed == 0


def test_a_rename_of_equal_bytes_is_certain(tmp_path: Path) -> None:
    """Between checkpoints of ours the digest proves that only the name changed."""
    torch.manual_seed(0)
    config = CheckpointConfig(str(tmp_path), progress=False, provenance=False)
    inner = nn.Linear(3, 3)
    first = CheckpointManager(config, nn.Sequential(inner)).save(0, 1)
    with pytest.warns(UserWarning, match="already holds"):
        second = CheckpointManager(config, nn.ModuleDict({"new": inner})).save(0, 2)
    assert first is not None
    assert second is not None
    found = compare(first, second, components=["model"])
    assert {(t.name, t.left_name, t.certain) for t in found.tensors} == {
        ("new.weight", "0.weight", True),
        ("new.bias", "0.bias", True),
    }
    assert found.bytes_read == 0


def test_within_the_tolerance_is_the_same(run: tuple[Path, Path]) -> None:
    """Elements that differ by no more count as equal; NaN against a number never does."""
    assert compare(*run, tolerance=0.6).counts()["changed"] == 2
    bias = [t for t in compare(*run, tolerance=0.6).different() if t.component == "model"]
    assert [t.name for t in bias] == ["second.bias"]
    with pytest.raises(ConfigError):
        compare(*run, tolerance=math.nan)


def test_bytes_that_are_not_what_was_committed_are_not_compared(run: tuple[Path, Path]) -> None:
    """A flipped bit in what is read is damage, not a difference."""
    file = run[1] / "model.safetensors"
    data = bytearray(file.read_bytes())
    at = data.rfind(b"\x00\x00\xc0\x7f")
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedError, match=r"second\.bias|not what was committed"):
        compare(*run)


@pytest.mark.parametrize(
    "name", ["../../secret", "/etc/passwd", "", ".hidden", 7, "sub/model.safetensors"]
)
def test_an_index_cannot_lead_elsewhere(name: object, tmp_path: Path) -> None:
    """Files named by an index are plain names in its folder."""
    index = {"weight_map": {"w": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises((FormatError, CheckpointNotFoundError)):
        compare(tmp_path, tmp_path)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    """Empty folders, distributed checkpoints, missing and foreign files are named as such."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "dcp").mkdir()
    (tmp_path / "dcp" / ".metadata").write_bytes(b"x")
    (tmp_path / "x.pt").write_bytes(b"no zip")
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 40)
    for name, error in {
        "empty": "holds no checkpoint",
        "dcp": "index",
        "nothing": "no such",
        "x.pt": "zip",
        "x.safetensors": "header",
    }.items():
        with pytest.raises((LoadError, CheckpointNotFoundError), match=error):
            compare(tmp_path / name, tmp_path / name)


def test_the_picture_has_a_cell_for_each_module_and_kind(
    run: tuple[Path, Path], tmp_path: Path
) -> None:
    """Rows are modules, columns kinds of tensors, colour is the relative change."""
    found = compare(*run)
    rows, columns, cells = cells_of(found, "model")
    assert (rows, columns) == (["second"], ["weight", "bias"])
    assert cells[0][0] < 1
    assert math.isnan(cells[0][1])
    for suffix in (".svg", ".png"):
        assert draw_heatmap(found, tmp_path / f"x{suffix}").stat().st_size > 1000
    with pytest.raises(ConfigError, match=r"\.svg"):
        draw_heatmap(found, tmp_path / "x.gif")
    with pytest.raises(ConfigError, match="no picture"):
        draw_heatmap(compare(run[0], run[0]), tmp_path / "x.png")
