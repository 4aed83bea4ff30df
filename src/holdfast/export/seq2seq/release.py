"""Everything a release of a sequence model is made from: graphs, checks, timings, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import nn

from holdfast.decoding.pieces import Vocabulary
from holdfast.export.graph import Runner
from holdfast.export.latency import (
    Effort,
    Point,
    Progress,
    latency_table,
    measure_points,
    to_stderr,
)
from holdfast.export.seq2seq.graphs import SequenceGraphs
from holdfast.export.seq2seq.model import SequenceModel
from holdfast.export.seq2seq.parity import DecodingParity, Score, sequence_model
from holdfast.export.seq2seq.recipe import SUFFIX
from holdfast.export.seq2seq.text import SOURCE_FILE, TARGET_FILE
from holdfast.export.target import Exportable, Measure
from holdfast.jsontext import Json


def sequence_exportable(
    model: nn.Module,
    graphs: SequenceGraphs,
    *,
    name: str,
    sources: Sequence[Sequence[int]],
    widths: Sequence[int] = (1, 4),
    score: Score | None = None,
    drop_max: float | None = None,
    vocabularies: tuple[Vocabulary, Vocabulary] | None = None,
    files: Mapping[str, Path | bytes] | None = None,
    measure: Measure | None = None,
) -> Exportable:
    """What `holdfast.export.release` takes, with the recipe and the vocabularies among its files.

    model: whose state dict the weights are; graphs: of a step module over it. name: that
    `load_onnx(folder, name)` asks for. sources, widths, score, drop_max: what must decode alike, as
    in `DecodingParity`. files: further ones (a reference profile). measure: `decoding_latency` of
    the sources by default.
    """
    more: dict[str, Path | bytes] = {f"{name}{SUFFIX}": graphs.recipe.to_bytes()}
    if vocabularies is not None:
        source, target = vocabularies
        more |= {SOURCE_FILE: source.to_bytes(), TARGET_FILE: target.to_bytes()}
    check = DecodingParity(graphs, sources, widths=widths, score=score, drop_max=drop_max)
    return Exportable(
        model,
        graphs.graphs,
        checks=(check,),
        measure=measure or decoding_latency(graphs, sources),
        files={**more, **(files or {})},
    )


def decoding_latency(
    graphs: SequenceGraphs,
    sources: Sequence[Sequence[int]],
    *,
    batch_sizes: Sequence[int] = (1, 8, 32),
    widths: Sequence[int] = (1, 4),
    effort: Effort | None = None,
    progress: Progress = to_stderr,
) -> Measure:
    """Times the decoding of whole sequences: batches of the shortest, median and longest sources.

    The result is the `measure` of an `Exportable`. An item is a sequence.
    """
    by_length = sorted(sources, key=len)

    def measure(runners: Mapping[str, Mapping[str, Runner]]) -> Mapping[str, Json]:
        models = {
            candidate: sequence_model(graphs.recipe, by_graph)
            for candidate, by_graph in runners.items()
        }
        points = [
            _point(models, chosen, width)
            for batch in batch_sizes
            for chosen in _spans(by_length, batch)
            for width in widths
        ]
        timings = measure_points(points, effort, progress=progress)
        return latency_table(timings, ["Whole sequences decoded; beam 1 is greedy search."])

    return measure


def _spans(by_length: Sequence[Sequence[int]], batch: int) -> Sequence[Sequence[Sequence[int]]]:
    """The shortest, the median and the longest sources; fewer if they are the same."""
    last = max(0, len(by_length) - batch)
    starts = sorted({0, last // 2, last})
    return [by_length[start : start + batch] for start in starts]


def _point(
    models: Mapping[str, SequenceModel], sources: Sequence[Sequence[int]], width: int
) -> Point:
    def call(model: SequenceModel) -> Callable[[], object]:
        return lambda: model.decode(sources, width=width)

    sizes = {"batch": len(sources), "source": max(map(len, sources)), "beam": width}
    calls = {candidate: call(model) for candidate, model in models.items()}
    return Point("decoding", sizes, len(sources), calls)
