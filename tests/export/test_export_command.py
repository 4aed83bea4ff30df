"""`holdfast export` and `holdfast release verify`, as people use them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from export_world import new_tagger
from typer.testing import CliRunner, Result

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.cli.app import app

pytestmark = pytest.mark.xdist_group("export")

SHOP = """
from export_world import SIGNATURE, Tagger

def build(config):
    assert config == {"width": 8}
    return Tagger(), SIGNATURE

def broken(config):
    return config["nothing"]
"""


@pytest.fixture
def holdfast(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in the working directory."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a run and the code of its model."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "shop.py").write_text(SHOP)
    model = new_tagger()
    config = CheckpointConfig(str(folder / "run"), progress=False)
    with CheckpointManager(config, model, torch.optim.AdamW(model.parameters())) as manager:
        manager.save(0, 1, {"val_loss": 0.5}, model_config={"width": 8})
        manager.save(0, 2, {"val_loss": 0.9}, model_config={"width": 8})
    return folder


def test_a_release_is_made_verified_and_damage_to_it_found(
    place: Path, holdfast: Callable[..., Result]
) -> None:
    """From a run's best checkpoint and the model's code; exit code 3 for damage."""
    arguments = ("export", "run@best", "--model", "shop:build", "--format", "program")
    made = holdfast(*arguments, "--to", "releases/1.0.0", "--licence", "MIT", "--json")
    assert made.exit_code == 0, made.stderr
    data = json.loads(made.stdout)
    assert data["schema"] == "holdfast-export/1"
    assert [one["format"] for one in data["artifacts"]] == ["program"]
    assert "exporting run/checkpoint_epoch0000_step00000001" in made.stderr
    verified = holdfast("release", "verify", "releases/1.0.0", "--run")
    assert verified.exit_code == 0, verified.stdout + verified.stderr
    assert verified.stdout.startswith("ok      model 1.0.0 (sha256:")
    (place / "releases" / "1.0.0" / "model.pt2").write_bytes(b"x")
    damaged = holdfast("release", "verify", "releases/1.0.0")
    assert damaged.exit_code == 3
    assert "model.pt2: its SHA-256 is" in damaged.stdout


def test_weights_alone_need_no_code(place: Path, holdfast: Callable[..., Result]) -> None:
    """The suffix says what is written, and the size is told beside the source's."""
    made = holdfast("export", "run@latest", "--to", "model.pt", "--dtype", "bf16")
    assert made.exit_code == 0, made.stderr
    assert "smaller than the full Adam checkpoint" in made.stdout
    assert "rounded to bfloat16" in made.stdout
    assert torch.load(place / "model.pt", weights_only=True)["global_step"] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--format", "onnx"), "the model's code is needed"),
        (("--model", "shop"), "names no function"),
        (("--model", "shop:nothing"), "Could not import shop:nothing"),
        (("--model", "shop:broken"), "KeyError('nothing')"),
        (("--model", "shop:build", "--dtype", "bf16"), "casts weights that are exported alone"),
        (("--model", "shop:build", "--format", "tflite"), "There is no format 'tflite'"),
    ],
)
def test_wrong_use_is_explained(
    place: Path, holdfast: Callable[..., Result], arguments: tuple[str, ...], told: str
) -> None:
    """With exit code 2, and nothing is written."""
    made = holdfast("export", "run@latest", "--to", "out/1.0.0", *arguments)
    assert made.exit_code == 2
    assert told in made.stderr
    assert not (place / "out").exists() or not list((place / "out").iterdir())
