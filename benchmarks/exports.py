"""Every format for several architectures: does it pass the gate on every shape, or why not?

    python -m benchmarks.exports [--quick] [--write] [--aoti NAME ...] [ARCHITECTURE ...]

The models are small and random, from public configurations, and nothing is downloaded. --write puts
the table into docs/exports.md. --quick leaves out all but the example and two architectures.
Compiling with AOTInductor takes minutes for each model, so it is done for those named only.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.errors import HoldfastError
from holdfast.export import Axis, Input, ModelExporter, Signature, exportable, tokens
from holdfast.export.building import build
from holdfast.export.target import Exportable

FORMATS = ("program", "onnx", "torchscript-trace", "torchscript-script")
WEIGHTS = {".pt": "model.pt", ".safetensors": "model.safetensors", "folder": "folder"}
QUICK = ("example", "GPT-2", "ViT")
PAGE = Path(__file__).parents[1] / "docs" / "exports.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
_REASON_CHARS = 110


BATCH = Axis("batch", 1, 8)
LENGTH = Axis("length", 1, 48)


class Logits(nn.Module):
    """A transformers model as a function of positional tensors that returns its logits.

    names: of the arguments its forward takes, in order.
    """

    def __init__(self, model: nn.Module, *names: str) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Positional tensors to logits."""
        given: dict[str, Any] = dict(zip(self.names, inputs, strict=True))
        logits: Tensor = self.model(**given, return_dict=True).logits
        return logits


def example_model() -> Exportable:
    """The demo's translation Transformer, smaller."""
    model = TranslationTransformer(
        ModelConfig(200, 220, width=32, feedforward_width=64, heads=2, positions_max=64)
    )
    source = tokens("source", (BATCH, Axis("source_length", 1, 48)), 200)
    target = tokens("target", (BATCH, Axis("target_length", 1, 48)), 220)
    return exportable(model, Signature((source, target), ("logits",)))


def gpt2() -> Exportable:
    """GPT-2 (Radford et al., 2019): learned positions."""
    hub = importlib.import_module("transformers")
    config = hub.GPT2Config(
        vocab_size=120, n_positions=64, n_embd=32, n_layer=2, n_head=2, use_cache=False
    )
    return _decoder(hub.GPT2LMHeadModel(config))


def llama() -> Exportable:
    """Llama (arXiv 2302.13971): rotary positions, grouped keys, RMS norms."""
    hub = importlib.import_module("transformers")
    config = hub.LlamaConfig(
        vocab_size=120,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        use_cache=False,
    )
    return _decoder(hub.LlamaForCausalLM(config))


def t5() -> Exportable:
    """T5 (arXiv 1910.10683): encoder and decoder, relative positions, tied embeddings."""
    hub = importlib.import_module("transformers")
    config = hub.T5Config(
        vocab_size=120, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, use_cache=False
    )
    return _translator(hub.T5ForConditionalGeneration(config))


def marian() -> Exportable:
    """Marian (aclanthology P18-4020): encoder and decoder, sinusoidal positions."""
    hub = importlib.import_module("transformers")
    config = hub.MarianConfig(
        vocab_size=120,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        forced_eos_token_id=1,
        use_cache=False,
    )
    return _translator(hub.MarianMTModel(config))


def vit() -> Exportable:
    """ViT (arXiv 2010.11929): images of one size, any number of them."""
    hub = importlib.import_module("transformers")
    config = hub.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
        num_labels=10,
    )
    model = Logits(hub.ViTForImageClassification(config), "pixel_values")
    return exportable(model, Signature((Input("pixel_values", (BATCH, 3, 32, 32)),), ("logits",)))


def resnet() -> Exportable:
    """ResNet (arXiv 1512.03385): convolutions and batch normalisation."""
    hub = importlib.import_module("transformers")
    config = hub.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=10
    )
    model = Logits(hub.ResNetForImageClassification(config), "pixel_values")
    size = Axis("size", 16, 64)
    images = Input("pixel_values", (BATCH, 3, size, size))
    return exportable(model, Signature((images,), ("logits",)))


ARCHITECTURES: dict[str, Callable[[], Exportable]] = {
    "example": example_model,
    "T5": t5,
    "Marian": marian,
    "GPT-2": gpt2,
    "Llama": llama,
    "ViT": vit,
    "ResNet": resnet,
}


def build_model(name: str) -> Exportable:
    """The model of this name, the same weights each time."""
    torch.manual_seed(0)
    return ARCHITECTURES[name]()


def _decoder(model: nn.Module) -> Exportable:
    ids = tokens("input_ids", (BATCH, LENGTH), 120)
    mask = Input("attention_mask", (BATCH, LENGTH), "int64", 0, 1, mask=True)
    wrapped = Logits(model, "input_ids", "attention_mask")
    return exportable(wrapped, Signature((ids, mask), ("logits",)))


def _translator(model: nn.Module) -> Exportable:
    source = Axis("source_length", 1, 48)
    ids = tokens("input_ids", (BATCH, source), 120)
    mask = Input("attention_mask", (BATCH, source), "int64", 0, 1, mask=True)
    target = tokens("decoder_input_ids", (BATCH, Axis("target_length", 1, 40)), 120)
    wrapped = Logits(model, "input_ids", "attention_mask", "decoder_input_ids")
    return exportable(wrapped, Signature((ids, mask, target), ("logits",)))


@dataclass(frozen=True)
class Row:
    """One architecture in one format. outcome: "passed" or the reason it was refused."""

    architecture: str
    format: str
    passed: bool
    outcome: str
    cases: int = 0
    difference: str = ""
    weights: str = ""
    megabytes: str = ""
    seconds: float = 0.0


def main() -> int:
    """Print a row for each, then PASS or MISSED: no artifact may pass and be wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of: {', '.join(ARCHITECTURES)}")
    parser.add_argument("--quick", action="store_true", help="three architectures")
    parser.add_argument("--write", action="store_true", help="write docs/exports.md")
    parser.add_argument("--aoti", nargs="*", default=[], help="also compile these architectures")
    options = parser.parse_args()
    names = options.names or (QUICK if options.quick else list(ARCHITECTURES))
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in names:
        formats = [*FORMATS, *(["aoti"] if name in options.aoti else [])]
        for row in _rows(name, formats):
            rows.append(row)
            shown = f"{row.cases} shapes, {row.difference}" if row.passed else row.outcome
            what = f"{row.architecture:<10} {row.format:<20}"
            print(f"{what} {shown}  {row.seconds:.1f} s", flush=True)
    if options.write:
        _write(rows)
    unexplained = [row for row in rows if not row.passed and not row.outcome]
    shipped = {row.architecture for row in rows if row.passed and row.format == "onnx"}
    good = not unexplained and shipped == set(names)
    verdict = "PASS" if good else "MISSED"
    print(f"{verdict}: {len(shipped)} of {len(names)} architectures pass as ONNX")
    print(f"{sum(row.passed for row in rows)} of {len(rows)} exports passed, the others say why")
    return 0 if good else 1


def _rows(name: str, formats: Sequence[str]) -> list[Row]:
    target = build_model(name)
    rows = [_weights_row(name, target, form) for form in WEIGHTS]
    for form in formats:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            try:
                built, _ = build(target, Path(place), [form])
            except HoldfastError as error:
                rows.append(Row(name, form, False, _short(error.what)))
                continue
            seconds = time.monotonic() - began
            for refusal in built.refusals:
                rows.append(Row(name, form, False, _short(refusal.reasons[0]), seconds=seconds))
            for report in built.reports:
                size = sum((Path(place) / file).stat().st_size for file in report.artifact.files)
                rows.append(
                    Row(
                        name,
                        form,
                        True,
                        "passed",
                        len(report.cases),
                        f"{report.worst.absolute:.1e}",
                        report.weights.replace("tensors are in it bit for bit", "bit for bit"),
                        f"{size / 1e6:.2f}",
                        seconds,
                    )
                )
    return rows


def _weights_row(name: str, target: Exportable, form: str) -> Row:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        try:
            made = ModelExporter.export_inference_checkpoint(
                target.model, Path(place) / WEIGHTS[form]
            )
        except HoldfastError as error:
            return Row(name, form, False, _short(error.what))
        return Row(
            name,
            form,
            True,
            "passed",
            0,
            "0",
            "all bit for bit",
            f"{made.bytes / 1e6:.2f}",
            time.monotonic() - began,
        )


def _short(reason: str) -> str:
    # Addresses differ from run to run.
    plain = re.sub(r" at 0x[0-9a-f]+", "", " ".join(reason.split()))
    return plain if len(plain) <= _REASON_CHARS else f"{plain[:_REASON_CHARS]}…"


def _write(rows: Sequence[Row]) -> None:
    """Replace what stands between the marks of the page."""
    packages = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    lines = [
        BEGIN,
        f"Made by `python -m benchmarks.exports --write` with {versions}.",
        "",
        "| architecture | format | outcome | shapes | largest difference | weights | MB |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row.architecture} | {row.format} | {'passed' if row.passed else 'refused: '}"
            f"{'' if row.passed else row.outcome.replace('|', '/')} | {row.cases or ''} | "
            f"{row.difference} | {row.weights} | {row.megabytes} |"
            for row in rows
        ),
        END,
    ]
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(before + "\n".join(lines) + after, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
