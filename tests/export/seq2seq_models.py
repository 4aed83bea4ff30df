"""Two tiny Transformers, one with cached keys and one without, released once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from holdfast.decoding import LengthRule, Marks
from holdfast.decoding.pieces import BOS, EOS, PAD, Vocabulary
from holdfast.decoding.tensors import TensorSteps
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.steps import CachedSteps, WholeSteps
from holdfast.export import Release, Runner, release
from holdfast.export.latency import Effort
from holdfast.export.prepare import flatten
from holdfast.export.seq2seq import SequenceModel, load_onnx
from holdfast.export.seq2seq.graphs import SequenceGraphs, sequence_graphs
from holdfast.export.seq2seq.program import load_program
from holdfast.export.seq2seq.release import decoding_latency, sequence_exportable

MARKS = Marks(begin=BOS, end=EOS, never=(PAD, BOS))
SOURCE_SIZE, TARGET_SIZE, LONGEST = 41, 31, 24
EXPORTED = {"cached": ("onnx", "program"), "whole": ("program",)}
"""Formats by kind of decoding; `benchmarks.decoding` does ONNX without cached keys, too."""


@dataclass
class Exported:
    """The releases that were made, and the modules they were made of."""

    modules: dict[str, nn.Module]
    graphs: dict[str, SequenceGraphs]
    releases: dict[str, Release]
    progress: list[str]

    def folder(self, name: str) -> Path:
        """Of the release."""
        return self.releases[name].path

    def eager(self, name: str) -> SequenceModel:
        """The module itself."""
        module = self.modules[name]
        return SequenceModel(TensorSteps(module), self.graphs[name].recipe)  # type: ignore[arg-type]

    def exported(self, name: str, kind: str) -> SequenceModel:
        """Loaded from its files."""
        load = load_onnx if kind == "onnx" else load_program
        return load(self.folder(name), name)

    def runners(self, name: str) -> dict[str, Runner]:
        """The graphs in eager mode."""
        return {graph.name: _runner(graph.module) for graph in self.graphs[name].graphs}


def tiny_transformer(seed: int) -> TranslationTransformer:
    """Random weights whose hypotheses differ; one layer on each side."""
    torch.manual_seed(seed)
    config = ModelConfig(
        SOURCE_SIZE,
        TARGET_SIZE,
        width=16,
        feedforward_width=32,
        encoder_layers=1,
        decoder_layers=1,
        positions_max=LONGEST,
    )
    model = TranslationTransformer(config)
    model.output.weight = nn.Parameter(torch.randn(TARGET_SIZE, 16))
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
    """Release "cached" and "whole", each of another model."""
    transformers = {"cached": tiny_transformer(1), "whole": tiny_transformer(2)}
    modules: dict[str, nn.Module] = {
        "cached": CachedSteps(transformers["cached"]).eval(),
        "whole": WholeSteps(transformers["whole"]).eval(),
    }
    done = Exported(modules, {}, {}, [])
    for name, module in modules.items():
        graphs = graphs_of(module, name)
        done.graphs[name] = graphs
        target = sequence_exportable(
            transformers[name],
            graphs,
            name=name,
            sources=some_sources(40),
            widths=(1, 3),
            vocabularies=(letters(SOURCE_SIZE), letters(TARGET_SIZE)),
            files={"monitor.profile.json": b"{}"},
            measure=decoding_latency(
                graphs,
                some_sources(40),
                batch_sizes=(2,),
                widths=(1,),
                effort=Effort(rounds=5, warmup=1),
                progress=done.progress.append,
            ),
        )
        done.releases[name] = release(
            target, folder / name, version="1.0.0", formats=EXPORTED[name]
        )
    return done


def letters(size: int) -> Vocabulary:
    """The special tokens and Greek letters."""
    special = Vocabulary.build([]).pieces
    return Vocabulary([*special, *(chr(945 + i) for i in range(size - len(special)))])


def _runner(module: nn.Module) -> Runner:
    return lambda *inputs: flatten(module(*inputs))
