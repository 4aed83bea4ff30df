"""What is particular to a format: legacy, extras, refusals; and public architectures."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from export_world import SIGNATURE, new_tagger, ready
from torch import Tensor, nn

from holdfast import ModelExporter
from holdfast.errors import ConfigError, ExportError, HoldfastWarning
from holdfast.export import Axis, Input, Signature, exportable, tokens
from holdfast.export.building import build
from holdfast.export.formats import FORMATS, FormatOptions, find_format
from holdfast.export.prepare import Prepared

pytestmark = pytest.mark.xdist_group("export")


def test_torchscript_is_offered_as_legacy(tagger: Prepared, tmp_path: Path) -> None:
    """Who asks for it is warned, and the card carries torch's own deprecation and the tracer's
    warnings."""
    with pytest.warns(HoldfastWarning, match="torch has deprecated TorchScript"):
        made = find_format("torchscript").write(tagger, tmp_path, "model", FormatOptions())
    assert made.legacy
    deprecations: Any = made.facts["deprecations"]
    assert any("`torch.jit.trace` is deprecated" in text for text in deprecations)


def test_script_passes_or_says_why_not(tmp_path: Path) -> None:
    """A module that cannot be compiled is refused with torch's reason, and leaves no file."""

    class Slippery(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * len({*"ab"})

    signature = Signature((Input("x", (Axis("batch", 1, 4), 2)),))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HoldfastWarning)
        built, _ = build(exportable(Slippery(), signature), tmp_path, ["torchscript-script"])
        scripted, _ = build(
            exportable(nn.Sequential(nn.Linear(2, 2)), signature), tmp_path, ["script"]
        )
    assert "Could not script the graph" in built.refusals[0].reasons[0]
    assert scripted.reports[0].passed
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.script.pt"]


def test_a_graph_that_depends_on_values_is_refused_with_the_reason(tmp_path: Path) -> None:
    """What the exporter cannot follow is not guessed at."""

    class Deciding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if bool(x.sum() > 0) else x - 1

    target = exportable(Deciding(), Signature((Input("x", (Axis("batch", 1, 4), 2)),)))
    built, _ = build(target, tmp_path, ["program"])
    assert "Could not export the graph" in built.refusals[0].reasons[0]
    assert not list(tmp_path.iterdir())


def test_a_trace_that_baked_in_a_decision_does_not_pass(tmp_path: Path) -> None:
    """Tracing follows one case and says nothing; the matrix shows it."""

    class Deciding(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if x.shape[0] > 2 else x - 1

    target = exportable(Deciding(), Signature((Input("x", (Axis("batch", 1, 4), 2)),)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HoldfastWarning)
        built, _ = build(target, tmp_path, ["torchscript-trace"])
    assert any("batch 1" in reason for reason in built.refusals[0].reasons)
    assert not list(tmp_path.iterdir())


def test_aoti_without_a_compiler_is_refused(
    tagger: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ExportError, match=r"no C\+\+ compiler") as caught:
        FORMATS["aoti"].write(tagger, tmp_path, "model", FormatOptions())
    assert "g++" in str(caught.value)


@pytest.mark.soak
def test_aoti_passes_where_there_is_a_compiler(tmp_path: Path) -> None:
    """Compiling takes a minute and more, however small the model."""
    built, _ = build(exportable(new_tagger(), SIGNATURE), tmp_path, ["aoti"])
    assert built.reports, built.refusals
    assert built.reports[0].passed


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    """Where ONNX is not installed, the error says what to install, and everything else works."""
    code = """
import sys
for name in ("onnx", "onnxscript", "onnxruntime"):
    sys.modules[name] = None
from export_world import ready
from holdfast.errors import ConfigError
from holdfast.export.formats import FORMATS, FormatOptions
from pathlib import Path
with ready() as found:
    try:
        FORMATS["onnx"].write(found, Path("."), "model", FormatOptions())
    except ConfigError as error:
        print(error)
"""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install 'holdfast[onnx]'" in run.stdout


def test_unknown_and_repeated_formats_are_refused(tmp_path: Path) -> None:
    """Before anything is exported."""
    target = exportable(new_tagger(), SIGNATURE)
    with pytest.raises(ConfigError, match="no format 'tensorrt'"):
        build(target, tmp_path, ["tensorrt"])
    with pytest.raises(ConfigError, match="twice"):
        build(target, tmp_path, ["program", "pt2"])


class _Logits(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


@pytest.fixture(scope="module")
def gpt2() -> Any:
    """A GPT-2 of transformers, tiny, from its configuration alone."""
    hub = importlib.import_module("transformers")
    torch.manual_seed(0)
    config = hub.GPT2Config(
        vocab_size=50,
        n_positions=16,
        n_embd=16,
        n_layer=1,
        n_head=2,
        use_cache=False,
        bos_token_id=1,
        eos_token_id=2,
    )
    return hub.GPT2LMHeadModel(config)


@pytest.mark.slow
def test_a_public_architecture_passes(gpt2: Any, tmp_path: Path) -> None:
    """GPT-2 as a program and as ONNX; more architectures are in docs/exports.md."""
    axes = (Axis("batch", 1, 4), Axis("length", 1, 16))
    mask = Input("attention_mask", axes, "int64", 0, 1, mask=True)
    signature = Signature((tokens("input_ids", axes, 50), mask), ("logits",))
    built, _ = build(exportable(_Logits(gpt2), signature), tmp_path, ["program", "onnx"])
    assert not built.refusals, built.refusals
    assert all(report.passed for report in built.reports)


def test_a_folder_of_weights_is_loaded_by_transformers(gpt2: Any, tmp_path: Path) -> None:
    """With its configuration, shards and ties, by the library's own `from_pretrained`."""
    folder = tmp_path / "gpt2"
    made = ModelExporter.export_inference_checkpoint(gpt2, folder, shard_bytes=5000)
    loaded = type(gpt2).from_pretrained(folder)
    for name, tensor in gpt2.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert made.source_bytes is None
    assert "library_name: transformers" in (folder / "README.md").read_text()


def test_a_vision_model_has_axes_of_one_input_only() -> None:
    """Fixed dimensions are numbers in the signature, and nothing is padded."""
    signature = Signature((Input("pixels", (Axis("batch", 1, 3), 1, 8, 8)),))
    with ready(nn.Conv2d(1, 2, 3), signature) as found:
        assert [case.name for case in found.cases] == [
            "the example",
            "everything shortest",
            "unlike the example",
        ]
