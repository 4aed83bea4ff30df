"""Every format for several architectures: does it pass the gate on every shape, or why not?

    python -m benchmarks.exports [--quick] [--write] [--aoti NAME ...] [ARCHITECTURE ...]

The models are small and random, from public configurations, and nothing is downloaded. --write puts
the table into docs/exports.md. --quick leaves out all but the example and two architectures.
Compiling with AOTInductor takes minutes for each model, so it is done for those named only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks._export_models import ARCHITECTURES, build
from holdfast.errors import HoldfastError
from holdfast.export import ModelExporter
from holdfast.export.building import build as build_formats
from holdfast.export.target import Exportable

FORMATS = ("program", "onnx", "torchscript-trace", "torchscript-script")
WEIGHTS = {".pt": "model.pt", ".safetensors": "model.safetensors", "folder": "folder"}
QUICK = ("example", "GPT-2", "ViT")
PAGE = Path(__file__).parents[1] / "docs" / "exports.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
_REASON_CHARS = 110


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
    target = build(name)
    rows = [_weights_row(name, target, form) for form in WEIGHTS]
    for form in formats:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as place:
            try:
                built, _ = build_formats(target, Path(place), [form])
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
    plain = " ".join(reason.split())
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
