"""Two tiny Transformers, one with cached keys and one without, exported and gated once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from holdfast.decoding import LengthRule, Marks
from holdfast.decoding.pieces import BOS, EOS, PAD
from holdfast.decoding.tensors import TensorSteps
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.steps import CachedSteps, WholeSteps
from holdfast.export.formats import FORMATS, FormatOptions
from holdfast.export.gate import GateReport, inspect
from holdfast.export.graph import CheckResult, Graph, Runner
from holdfast.export.prepare import flatten, prepared
from holdfast.export.seq2seq import SequenceModel, load_onnx
from holdfast.export.seq2seq.graphs import SequenceGraphs, sequence_graphs
from holdfast.export.seq2seq.parity import DecodingParity
from holdfast.export.seq2seq.program import load_program

MARKS = Marks(begin=BOS, end=EOS, never=(PAD, BOS))
SOURCE_SIZE, LONGEST = 41, 24
EXPORTED = {"cached": ("onnx", "program"), "whole": ("program",)}
"""Formats by kind of decoding; `benchmarks.decoding` does ONNX without cached keys, too."""


@dataclass
class Exported:
    """What was exported, what the gate said, and what was reloaded."""

    folder: Path
    modules: dict[str, nn.Module]
    graphs: dict[str, SequenceGraphs]
    reports: list[GateReport]
    eager_runners: dict[str, Runner]
    runners: dict[tuple[str, str], Runner]
    parity: dict[tuple[str, str], CheckResult]

    def eager(self, name: str) -> SequenceModel:
        """The module itself."""
        module = self.modules[name]
        return SequenceModel(TensorSteps(module), self.graphs[name].recipe)  # type: ignore[arg-type]

    def exported(self, name: str, kind: str) -> SequenceModel:
        """Loaded from its files."""
        load = load_onnx if kind == "onnx" else load_program
        return load(self.folder, name)


def tiny_transformer(seed: int) -> TranslationTransformer:
    """Random weights whose hypotheses differ; one layer on each side."""
    torch.manual_seed(seed)
    config = ModelConfig(
        SOURCE_SIZE,
        31,
        width=16,
        feedforward_width=32,
        encoder_layers=1,
        decoder_layers=1,
        positions_max=LONGEST,
    )
    model = TranslationTransformer(config)
    model.output.weight = nn.Parameter(torch.randn(31, 16))
    return model.eval()


def some_sources(count: int) -> list[list[int]]:
    """Random ids with an end mark, of lengths from 1 to the longest."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(0, LONGEST, (count,), generator=generator).tolist()
    return [
        [*torch.randint(4, SOURCE_SIZE, (n,), generator=generator).tolist(), EOS] for n in lengths
    ]


def graphs_of(module: nn.Module, name: str) -> SequenceGraphs:
    """The graphs of a step module over these vocabularies."""
    return sequence_graphs(
        module,
        name=name,
        source_size=SOURCE_SIZE,
        source_max=LONGEST,
        marks=MARKS,
        pad=PAD,
        lengths=LengthRule(LONGEST),
        rows_max=600,
    )


def export_both(folder: Path) -> Exported:
    """Export "cached" and "whole", each another model, in both formats."""
    modules: dict[str, nn.Module] = {
        "cached": CachedSteps(tiny_transformer(1)).eval(),
        "whole": WholeSteps(tiny_transformer(2)).eval(),
    }
    done = Exported(folder, modules, {}, [], {}, {}, {})
    for name, module in modules.items():
        graphs = graphs_of(module, name)
        done.graphs[name] = graphs
        graphs.recipe.write(folder, name)
        for graph in graphs.graphs:
            _export_graph(done, folder, graph, EXPORTED[name])
        check = DecodingParity(graphs, some_sources(40), widths=(1, 3))
        for kind in EXPORTED[name]:
            artifact = {graph.name: done.runners[graph.name, kind] for graph in graphs.graphs}
            done.parity[name, kind] = check(done.eager_runners, artifact)
    return done


def _export_graph(done: Exported, folder: Path, graph: Graph, formats: Sequence[str]) -> None:
    module = graph.module
    done.eager_runners[graph.name] = lambda *inputs: flatten(module(*inputs))
    with prepared(graph) as ready:
        for kind in formats:
            artifact = FORMATS[kind].write(ready, folder, graph.name, FormatOptions())
            report, reloaded = inspect(ready, FORMATS[kind], folder, artifact)
            done.reports.append(report)
            assert reloaded is not None, report.problems
            done.runners[graph.name, kind] = reloaded.run
