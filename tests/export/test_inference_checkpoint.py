"""Weights alone: from every source, in every form, truthfully smaller."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from export_world import SIGNATURE, new_tagger
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager, EMAModel, ModelExporter, average
from holdfast.convert import export_original
from holdfast.decay import PowerFunction
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    DamagedError,
    ExportError,
    MismatchError,
)
from holdfast.export import Graph, open_weights
from holdfast.posthoc import plan_ema
from holdfast.storage import NameTakenError

CONFIG = {"width": 8, "layers": [1, 2]}


def _equal(wanted: dict[str, Tensor], found: dict[str, Tensor]) -> bool:
    return wanted.keys() == found.keys() and all(
        torch.equal(wanted[name], found[name]) and wanted[name].dtype == found[name].dtype
        for name in wanted
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module, EMAModel]:
    """A run of four checkpoints with Adam and an EMA; its model as the last one has it."""
    folder = tmp_path_factory.mktemp("runs") / "tagger"
    model = new_tagger()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ema = EMAModel(model, [PowerFunction(0.05), PowerFunction(0.1)])
    config = CheckpointConfig(str(folder), save_total_limit=None, progress=False, provenance=False)
    with CheckpointManager(config, model, optimizer) as manager:
        manager.register("ema", ema)
        for step in range(1, 5):
            model(torch.randint(1, 20, (4, 6))).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            ema.update()
            manager.save(0, step, {"val_loss": 1.0 / step}, model_config=CONFIG)
    return folder, model, ema


@pytest.fixture(scope="module")
def newest(run: tuple[Path, nn.Module, EMAModel]) -> Path:
    """Its last checkpoint."""
    return (run[0] / "latest").resolve()


def test_a_pt_file_loads_with_weights_only(
    run: tuple[Path, nn.Module, EMAModel], newest: Path, tmp_path: Path
) -> None:
    """It holds the weights, ties as ties, and the configuration; the seed's call makes it."""
    made = ModelExporter().export_inference_checkpoint(newest, tmp_path / "model.pt")
    content = torch.load(made, weights_only=True)
    state = content["model_state_dict"]
    assert _equal(dict(run[1].state_dict()), state)
    assert state["output.weight"].data_ptr() == state["embedding.weight"].data_ptr()
    assert content["model_config"] == CONFIG
    assert content["global_step"] == 4
    new_tagger().load_state_dict(state)


def test_the_configuration_can_be_left_out(newest: Path, tmp_path: Path) -> None:
    """As in the original."""
    ModelExporter.export_inference_checkpoint(newest, tmp_path / "model.pt", False)
    assert "model_config" not in torch.load(tmp_path / "model.pt", weights_only=True)


def test_a_safetensors_file_is_read_by_stock_tools(
    run: tuple[Path, nn.Module, EMAModel], newest: Path, tmp_path: Path
) -> None:
    """Tied tensors stand in it once; safetensors' own loader puts both in the model."""
    ModelExporter.export_inference_checkpoint(newest, tmp_path / "model.safetensors")
    model = new_tagger()
    safetensors.torch.load_model(model, str(tmp_path / "model.safetensors"))
    assert _equal(dict(run[1].state_dict()), dict(model.state_dict()))
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["holdfast.aliases"]) == {
            "output.weight": "embedding.weight"
        }


def test_a_folder_is_divided_into_shards_with_an_index(
    run: tuple[Path, nn.Module, EMAModel], newest: Path, tmp_path: Path
) -> None:
    """Above a size there are several files; the index names the file of every tensor."""
    folder = tmp_path / "hub"
    ModelExporter.export_inference_checkpoint(newest, folder, shard_bytes=700, licence="MIT")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    found: dict[str, Tensor] = {}
    for file in set(index["weight_map"].values()):
        found |= safetensors.torch.load_file(folder / file)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in found.values())
    assert {name: found[name].shape for name in index["weight_map"]} == {
        name: tensor.shape
        for name, tensor in run[1].state_dict().items()
        if name != "output.weight"
    }
    assert json.loads((folder / "config.json").read_text()) == CONFIG
    assert (folder / "README.md").read_text().startswith("---\nlicense: MIT\n")
    with pytest.raises(NameTakenError):
        ModelExporter.export_inference_checkpoint(newest, folder)


def test_an_ema_is_exported_by_its_name(
    run: tuple[Path, nn.Module, EMAModel], newest: Path, tmp_path: Path
) -> None:
    """The averaged weights, not the model's."""
    made = ModelExporter.export_inference_checkpoint(newest, tmp_path / "ema.pt", component="ema")
    state = torch.load(made, weights_only=True)["model_state_dict"]
    assert state.keys() == run[1].state_dict().keys()
    assert not torch.equal(state["inner.weight"], run[1].state_dict()["inner.weight"])
    with pytest.raises(ConfigError, match="no model named 'optimizer'") as caught:
        open_weights(newest, component="optimizer")
    assert "it has model, ema" in str(caught.value)


def test_averages_reconstructions_and_original_files_are_sources_too(
    run: tuple[Path, nn.Module, EMAModel], newest: Path, tmp_path: Path
) -> None:
    """Whatever selection ends with can be exported as it is."""
    checkpoints = sorted(path for path in run[0].iterdir() if path.name.startswith("checkpoint_"))
    averaged = average(checkpoints[-2:], tmp_path / "averages")
    weights = open_weights(averaged)
    assert weights.provenance["kind"] == "average"
    assert weights.config == CONFIG
    recipe = plan_ema(run[0], 0.07)
    reconstructed = open_weights(recipe)
    assert _equal(recipe.read(), dict(reconstructed.tensors))
    assert reconstructed.provenance["kind"] == "post-hoc average"
    assert reconstructed.config == CONFIG
    export_original(newest, tmp_path / "original.pt")
    made = ModelExporter.export_inference_checkpoint(
        tmp_path / "original.pt", tmp_path / "model.safetensors"
    )
    assert made.source_bytes == (tmp_path / "original.pt").stat().st_size
    assert open_weights(tmp_path / "original.pt").config == CONFIG


def test_only_weights_are_written_and_the_reduction_is_true(tmp_path: Path) -> None:
    """At most 1.01 times the weights' bytes, at least 3 times less than with Adam's state."""
    config = ModelConfig(1500, 1500)
    model = TranslationTransformer(config)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randint(3, 99, (2, 5)), torch.randint(3, 99, (2, 5))).sum().backward()
    optimizer.step()
    settings = CheckpointConfig(str(tmp_path / "run"), progress=False)
    with CheckpointManager(settings, model, optimizer) as manager:
        checkpoint = manager.save(0, 1, {"val_loss": 1.0}, model_config=config.to_dict())
    assert checkpoint is not None
    full = sum(file.stat().st_size for file in checkpoint.iterdir())
    for name in ("model.pt", "model.safetensors", "folder"):
        made = ModelExporter.export_inference_checkpoint(checkpoint, tmp_path / name)
        assert made.weights_bytes == sum(p.nbytes for p in model.parameters())
        assert made.bytes <= 1.01 * made.weights_bytes
        assert made.source_bytes is not None
        assert abs(made.source_bytes - full) < 20_000
        assert made.reduction is not None
        assert made.reduction >= 3.0
        assert "3.0x smaller than the full Adam checkpoint" in str(made)


def test_a_source_without_an_optimizer_claims_no_reduction(newest: Path, tmp_path: Path) -> None:
    """The figure is what the bytes say."""
    small = ModelExporter.export_inference_checkpoint(newest, tmp_path / "a.pt")
    again = ModelExporter.export_inference_checkpoint(small, tmp_path / "b.pt")
    assert again.reduction is not None
    assert again.reduction == pytest.approx(1.0, abs=0.2)
    assert "Adam" not in str(again)


def test_a_cast_says_what_it_changed(newest: Path, tmp_path: Path) -> None:
    """Of the weights, and of the outputs if a graph is given; counters keep their dtype."""
    graph = Graph("model", new_tagger(), SIGNATURE)
    made = ModelExporter.export_inference_checkpoint(
        newest, tmp_path / "half.pt", dtype="bf16", graph=graph, keep=("norm.*",)
    )
    state = torch.load(made, weights_only=True)["model_state_dict"]
    assert state["inner.weight"].dtype == torch.bfloat16
    assert state["norm.running_mean"].dtype == torch.float32
    assert state["norm.num_batches_tracked"].dtype == torch.int64
    assert state["output.weight"].data_ptr() == state["embedding.weight"].data_ptr()
    effect = made.cast
    assert effect is not None
    assert 1e-4 < effect.relative < 2**-8
    assert effect.worst[1] <= 2**-8
    assert "largest difference" in effect.outputs
    assert effect.tensors == 4


def test_a_cast_that_would_overflow_is_refused(tmp_path: Path) -> None:
    """float16 ends at 65504; nothing is written."""
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight[0, 0] = 1e6
    with pytest.raises(ExportError, match=r"beyond torch.float16: weight \(up to 1e\+06\)"):
        ModelExporter.export_inference_checkpoint(model, tmp_path / "half.pt", dtype="fp16")
    assert not list(tmp_path.iterdir())
    made = ModelExporter.export_inference_checkpoint(model, tmp_path / "b.pt", dtype="bf16")
    assert made.source_bytes is None
    with pytest.raises(ConfigError, match="cannot be cast to int8"):
        ModelExporter.export_inference_checkpoint(model, tmp_path / "c.pt", dtype="int8")


def test_unused_tensors_are_left_out_on_request(tmp_path: Path) -> None:
    """A graph shows what is never used."""

    class Headed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = new_tagger()
            self.old_head = nn.Linear(8, 8)

        def forward(self, ids: Tensor) -> Tensor:
            logits: Tensor = self.inner(ids)
            return logits

    model = Headed()
    graph = Graph("model", model, SIGNATURE)
    made = ModelExporter.export_inference_checkpoint(model, tmp_path / "a.pt", graph=graph)
    assert "old_head" in str(made)
    assert "old_head.weight" in torch.load(made, weights_only=True)["model_state_dict"]
    slim = ModelExporter.export_inference_checkpoint(
        model, tmp_path / "b.pt", graph=graph, remove_unused=True
    )
    state = torch.load(slim, weights_only=True)["model_state_dict"]
    assert not [name for name in state if name.startswith("old_head")]
    assert "inner.norm.num_batches_tracked" in state


def test_weights_of_another_model_do_not_go_in(newest: Path) -> None:
    """Every name and shape that differs is listed, and nothing was changed."""
    model = nn.Linear(8, 8)
    before = model.weight.clone()
    with pytest.raises(MismatchError, match="weight is not in the weights"):
        open_weights(newest).load_into(model)
    assert torch.equal(model.weight, before)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    """With what it is instead, and nothing is written."""
    with pytest.raises(CheckpointNotFoundError):
        open_weights(tmp_path / "nothing")
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint"):
        open_weights(tmp_path)
    (tmp_path / "evil.pt").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(DamagedError, match="not a whole zip archive"):
        open_weights(tmp_path / "evil.pt")
    with pytest.raises(ConfigError, match="names no format"):
        ModelExporter.export_inference_checkpoint(nn.Linear(1, 1), tmp_path / "model.onnx")
