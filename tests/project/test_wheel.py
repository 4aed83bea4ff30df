"""The built wheel works alone: no extras, no sources."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import importlib.util, pathlib, sys
import torch
import holdfast
from holdfast import CheckpointConfig, CheckpointManager

assert pathlib.Path(holdfast.__file__).is_relative_to(sys.argv[1]), holdfast.__file__
assert (pathlib.Path(holdfast.__file__).parent / "py.typed").exists()
extras = "sacrebleu", "babel", "onnx", "onnxruntime", "transformers", "vl_convert"
for extra in (*extras, "prometheus_client"):
    assert not importlib.util.find_spec(extra), extra
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.AdamW(model.parameters())
manager = CheckpointManager(CheckpointConfig("run"), model, optimizer)
assert not manager.resume(verbose=False)
manager.save(0, 1, {"val_loss": 1.0})
assert manager.resume(verbose=False).global_step == 1
holdfast.ModelExporter.export_inference_checkpoint(manager.get_latest_checkpoint(), "model.pt")
assert torch.load("model.pt", weights_only=True)["model_state_dict"].keys() == {"weight", "bias"}
"""


@pytest.mark.slow
def test_the_wheel_saves_and_resumes_in_an_environment_without_extras(tmp_path: Path) -> None:
    """Built, installed alone and imported from there, it saves, resumes and lists.

    The core dependencies are linked in one by one from this environment, so that nothing has to be
    downloaded and nothing else is importable.
    """
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    environment = tmp_path / "env"
    venv.create(environment, with_pip=False)
    site = next(environment.glob("lib/python*/site-packages"))
    for folder in Path(sys.prefix).glob("lib/python*/site-packages"):
        for entry in folder.iterdir():
            if not entry.name.lower().startswith(_LEFT_OUT):
                (site / entry.name).symlink_to(entry)
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps"]
    subprocess.run([*install, "--no-index", str(wheel)], check=True, capture_output=True)
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([python, "-c", PROGRAM, str(site)], check=True, cwd=tmp_path, env=alone)
    for command in (["ls", "run"], ["best", "run"], ["verify", "run"], ["--help"]):
        subprocess.run(
            [environment / "bin" / "holdfast", *command],
            check=True,
            cwd=tmp_path,
            env=alone,
            capture_output=True,
        )


_LEFT_OUT = (
    *("holdfast", "_holdfast", "__editable__", "_editable"),
    *("sacrebleu", "babel", "torchdata", "pytest", "hypothesis", "mypy", "onnx", "matplotlib"),
    *("transformers", "vl_convert", "accelerate", "tokenizers", "lightning"),
    *("prometheus_client", "tensorboard", "playwright", "jsonschema"),
    *("pip", "setuptools", "distutils-precedence", "_distutils_hack"),
)
"""Everything that is not a dependency of the core, by the beginning of its name."""
