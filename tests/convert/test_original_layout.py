"""The original `.pt` layout: read without running code, written so that others can do the same."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager, resume_training
from holdfast.convert import export_original, import_original
from holdfast.errors import DamagedError, FormatError, LoadError, SaveError

Objects = tuple[nn.Module, torch.optim.Optimizer, Any, torch.amp.GradScaler]


def objects(seed: int = 0) -> Objects:
    """A session as the original's users had it."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    return model, optimizer, scheduler, torch.amp.GradScaler("cpu")


def original(folder: Path) -> tuple[Path, Objects]:
    """A file with all ten components of the original, as torch.save writes it."""
    model, optimizer, scheduler, scaler = session = objects()
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).sum().backward()
        optimizer.step()
        scheduler.step()
    path = folder / "checkpoint.pt"
    content = {
        "epoch": 2,
        "global_step": 3,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": scheduler.state_dict(),
        "scaler_state_dict": scaler.state_dict(),
        "rng_states": {
            "python": random.getstate(),
            "numpy": np.random.get_state(),
            "torch": torch.get_rng_state(),
            "cuda": None,
        },
        "metrics_history": [{"epoch": 1, "val_loss": np.float64(1.5)}],
        "best_metric": 1.5,
        "model_config": {"width": 8},
        "metrics": {"val_loss": np.float64(1.5)},
    }
    torch.save(content, path)
    return path, session


def draws() -> tuple[float, float, float]:
    """The next number of each random stream."""
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def equal(first: Objects, second: Objects) -> bool:
    """Whether model, optimizer, scheduler and scaler hold the same state, bit for bit."""
    weights, others = first[0].state_dict(), second[0].state_dict()
    return all(torch.equal(weights[k], others[k]) for k in weights) and all(
        repr(a.state_dict()) == repr(b.state_dict())
        for a, b in zip(first[1:], second[1:], strict=True)
    )


def test_all_ten_components_come_back(tmp_path: Path) -> None:
    """resume_training on an original file restores every object, stream, record and counter."""
    path, saved = original(tmp_path)
    expected = draws()
    fresh = objects(1)
    found = resume_training(path, *fresh)
    assert draws() == expected
    assert equal(saved, fresh)
    assert (found["epoch"], found["global_step"], found["best_metric"]) == (2, 3, 1.5)
    assert found["metrics_history"] == [{"epoch": 1, "val_loss": 1.5}]


def test_an_imported_file_is_a_checkpoint_like_any_other(tmp_path: Path) -> None:
    """Importing writes a checkpoint folder from which a manager resumes."""
    path, saved = original(tmp_path)
    expected = draws()
    folder = import_original(path, tmp_path / "run")
    assert folder.name == "checkpoint_epoch0002_step00000003"
    fresh = objects(1)
    manager = CheckpointManager(CheckpointConfig(str(tmp_path / "run"), progress=False), *fresh)
    report = manager.resume(verbose=False)
    assert draws() == expected
    assert equal(saved, fresh)
    assert manager.checkpoints()[0].metrics == {"val_loss": 1.5}
    assert report.values["model_config"] == {"width": 8}


def test_an_export_round_trips_and_needs_no_trust(tmp_path: Path) -> None:
    """What is exported loads with stock weights_only=True and resumes the same session."""
    path, saved = original(tmp_path)
    expected = draws()
    exported = export_original(import_original(path, tmp_path / "run"), tmp_path / "out.pt")
    content = torch.load(exported, weights_only=True)
    np.random.set_state(content["rng_states"]["numpy"])
    assert content["metrics_history"] == [{"epoch": 1, "val_loss": 1.5}]
    fresh = objects(1)
    resume_training(exported, *fresh)
    assert draws() == expected
    assert equal(saved, fresh)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "out.pt", "run"]


def test_a_state_that_no_safe_file_can_hold_is_not_exported(tmp_path: Path) -> None:
    """The export is refused before the name appears, and says what to change."""
    model = nn.Linear(2, 2)
    manager = CheckpointManager(CheckpointConfig(str(tmp_path / "run"), progress=False), model)
    folder = manager.save(0, 1, {}, extra_state={"where": Path("x")})
    assert folder is not None
    with pytest.raises(SaveError, match="extra_state"):
        export_original(folder, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()


def test_a_bare_state_dict_counts_as_a_model(tmp_path: Path) -> None:
    """A file of tensors alone, prefixed by a wrapper, fills a plain model."""
    model = objects()[0]
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, tmp_path / "bare.pt")
    fresh = objects(1)
    manager = CheckpointManager(CheckpointConfig(str(tmp_path / "run"), progress=False), fresh[0])
    manager.load(tmp_path / "bare.pt")
    assert torch.equal(fresh[0].state_dict()["0.weight"], model.state_dict()["0.weight"])


class Payload:
    """Runs code when it is unpickled without restriction."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code ran",))


def hostile(folder: Path, case: str) -> Path:
    """A file that a trusting loader would act upon, choke on, or misread."""
    path, _ = original(folder)
    if case == "code":
        torch.save({"model_state_dict": {"a": torch.ones(1)}, "x": Payload()}, path)
    elif case == "sparse":
        torch.save({"model_state_dict": {"a": torch.eye(2).to_sparse()}}, path)
    elif case == "no model":
        torch.save({"weights": 1}, path)
    elif case == "a list":
        torch.save([torch.ones(1)], path)
    elif case == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif case == "flipped":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif case == "text":
        path.write_text("not a checkpoint")
    else:
        with zipfile.ZipFile(path) as source:
            members = {info.filename: source.read(info) for info in source.infolist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            for name, content in members.items():
                zeros = b"\0" * (64 << 20) if "data/0" in name else b""
                target.writestr(name, content + zeros)
    return path


@pytest.mark.parametrize(
    "case",
    ["code", "sparse", "no model", "a list", "truncated", "flipped", "text", "deflate bomb"],
)
def test_hostile_and_damaged_files_are_refused_by_name(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No code runs, nothing live changes, and the error names the file."""
    path = hostile(tmp_path, case)
    fresh = objects(1)
    before = {k: v.clone() for k, v in fresh[0].state_dict().items()}
    with pytest.raises(LoadError, match=r"checkpoint\.pt") as caught:
        resume_training(path, *fresh)
    assert isinstance(caught.value, (FormatError, DamagedError))
    assert "weights_only" not in str(caught.value)
    assert "code ran" not in capsys.readouterr().out
    assert all(torch.equal(v, fresh[0].state_dict()[k]) for k, v in before.items())
