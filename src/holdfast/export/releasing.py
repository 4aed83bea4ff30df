"""Making a release: weights, artifacts that passed the gate, card, sums; whole or not at all."""

from __future__ import annotations

import os
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from holdfast import jsontext
from holdfast.errors import ConfigError, GateError
from holdfast.export.building import Built, Refusal, build
from holdfast.export.card import render_card
from holdfast.export.card_facts import card_facts
from holdfast.export.checkpoint_file import write_tensors, write_weights_file
from holdfast.export.formats import FormatOptions
from holdfast.export.gate import GateReport
from holdfast.export.hub_folder import SHARD_BYTES, write_weights
from holdfast.export.identity import find_released, graph_formats, release_identity
from holdfast.export.prepare import Prepared
from holdfast.export.publishing import published
from holdfast.export.record import (
    CARD_FILE,
    CARD_JSON_FILE,
    EXAMPLES_FILE,
    RECORD_FILE,
    SCHEMA,
    SUMS_FILE,
    ReleaseRecord,
    check_version,
    content_digest,
    read_record,
    render_sums,
)
from holdfast.export.source import Weights, WeightsLike, open_weights
from holdfast.export.target import About, Exportable
from holdfast.export.tolerance import Tolerance
from holdfast.jsontext import Json
from holdfast.manifest import CONFIG_FILE, iso_time
from holdfast.storage.durable import check_name

_RESERVED = frozenset(
    (CARD_FILE, CARD_JSON_FILE, EXAMPLES_FILE, RECORD_FILE, SUMS_FILE, CONFIG_FILE)
)


@dataclass(frozen=True)
class Release:
    """A release on disk. reports: of the gate, empty if it was there already. refused: formats
    left out, if that was allowed. fresh: whether this call made it."""

    path: Path
    record: ReleaseRecord
    reports: tuple[GateReport, ...]
    refused: tuple[Refusal, ...]
    latency: Mapping[str, Any]
    fresh: bool

    def __str__(self) -> str:
        head = f"{self.path}: {self.record.name} {self.record.version} ({self.record.digest})"
        if not self.fresh:
            return f"{head} was released before with the same content; nothing was written"
        lines = [head, *map(str, self.reports)]
        return "\n".join([*lines, *(f"left out: {one}" for one in self.refused)])


def release(
    target: Exportable,
    to: str | os.PathLike[str],
    *,
    weights: WeightsLike | Weights | None = None,
    formats: Sequence[str] = ("program", "onnx"),
    version: str | None = None,
    about: About | None = None,
    options: FormatOptions | None = None,
    tolerance: Tolerance | None = None,
    allow_refusals: bool = False,
    remove_unused: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> Release:
    """Export a model to a new release folder, gated.

    to: the folder, named after its version unless `version` is given. weights: what the model is
    to hold, loaded into it; None takes the model as it is. formats: see
    `holdfast.export.formats`; the weights as safetensors are always beside them, since no compiled
    format promises to load in later versions, and as `.pt` with "pt". allow_refusals: leave out
    formats that cannot be made or do not pass, instead of raising. remove_unused: leave tensors
    that nothing uses out of the artifacts; the weights stay whole.

    The same version with the same content is found and left as it is; with other content it is
    refused. Raises ConfigError for that, GateError listing what did not pass, ExportError for a
    model that cannot be exported at all, MismatchError for weights that are not the model's.
    Nothing is visible then.
    """
    place = Path(to)
    about = about or About()
    chosen = check_version(version if version is not None else place.name)
    held = weights if isinstance(weights, Weights) else _open(target, weights)
    held.load_into(target.model)
    identity = release_identity(target, held, formats, about)
    found = find_released(place, chosen, identity)
    if found is not None:
        return Release(place, found, (), (), {}, False)
    head = _head(about, chosen, identity)
    with published(place) as folder:
        files = [*_write_files(target, folder), *_write_weights(held, folder, formats, shard_bytes)]
        built, latency = build(
            target,
            folder,
            graph_formats(formats),
            options=_with_card(options, _inner_card(target, held, head)),
            tolerance=tolerance,
            remove_unused=remove_unused,
        )
        if built.refusals and not allow_refusals:
            raise _refused(built, place)
        _write_examples(built.graphs, folder)
        _describe(folder, card_facts(head, about, held, built, latency, files, folder))
        _write_record(folder, head, held, built)
        sums = render_sums(folder, (entry.name for entry in folder.iterdir()))
        (folder / SUMS_FILE).write_bytes(sums)
    return Release(
        place, read_record(place), tuple(built.reports), tuple(built.refusals), latency, True
    )


def _open(target: Exportable, weights: WeightsLike | None) -> Weights:
    return open_weights(target.model if weights is None else weights)


def _write_files(target: Exportable, folder: Path) -> list[str]:
    for name, value in target.files.items():
        if check_name(name) in _RESERVED:
            raise ConfigError(f"{name} is a name of the release itself", fix="rename the file")
        (folder / name).write_bytes(value if isinstance(value, bytes) else Path(value).read_bytes())
    return list(target.files)


def _write_weights(
    weights: Weights, folder: Path, formats: Sequence[str], shard_bytes: int
) -> Iterator[str]:
    yield from write_weights(weights, folder, shard_bytes=shard_bytes)
    if "pt" in formats:
        write_weights_file(weights, folder / "model.pt")
        yield "model.pt"
    if weights.config is not None:
        (folder / CONFIG_FILE).write_bytes(jsontext.dump(weights.config, indent=2) + b"\n")


def _with_card(options: FormatOptions | None, card: Mapping[str, Json]) -> FormatOptions:
    given = options or FormatOptions()
    return FormatOptions(given.opset, given.external_data, jsontext.dump(dict(card)))


def _describe(folder: Path, facts: dict[str, Json]) -> None:
    (folder / CARD_JSON_FILE).write_bytes(jsontext.dump(facts, indent=2) + b"\n")
    (folder / CARD_FILE).write_text(render_card(facts), encoding="utf-8")


def _refused(built: Built, place: Path) -> GateError:
    problems = [
        f"{one.format} of {one.graph}: {reason}" for one in built.refusals for reason in one.reasons
    ]
    return GateError(
        f"{len(built.refusals)} formats did not pass; nothing was released:",
        problems=problems[:20],
        where=str(place),
        fix="leave these formats out, or allow refusals to release the others",
    )


def _write_examples(graphs: Sequence[Prepared], folder: Path) -> None:
    """Inputs and eager outputs of two cases a graph, so that any host can prove its runtime."""
    tensors: dict[str, Tensor] = {}
    for one in graphs:
        names = [given.name for given in one.graph.signature.inputs]
        last = len(one.cases) - 1
        for number, index in enumerate(dict.fromkeys((0, last))):
            stem = f"{one.graph.name}/{number}"
            case, outputs = one.cases[index], one.expected[index]
            tensors |= {
                f"{stem}/in/{name}": tensor for name, tensor in zip(names, case.inputs, strict=True)
            }
            tensors |= {
                f"{stem}/out/{name}": tensor
                for name, tensor in zip(one.graph.signature.outputs, outputs, strict=True)
            }
    write_tensors({n: t.cpu().contiguous() for n, t in tensors.items()}, folder / EXAMPLES_FILE, {})


def _head(about: About, version: str, identity: Mapping[str, str]) -> dict[str, Json]:
    return {
        "name": about.name,
        "version": version,
        "digest": content_digest(identity),
        "identity": dict(identity),
        "licence": about.licence,
        "created": iso_time(clock.time()),
    }


def _inner_card(target: Exportable, weights: Weights, head: Mapping[str, Json]) -> dict[str, Json]:
    """What travels inside an artifact: who it is and how to call it."""
    keys = ("kind", "name", "id", "run", "global_step")
    return {
        **{key: value for key, value in head.items() if key != "created"},
        "graphs": {graph.name: graph.signature.to_dict() for graph in target.graphs},
        "from": {key: weights.provenance[key] for key in keys if key in weights.provenance},
    }


def _write_record(folder: Path, head: Mapping[str, Json], weights: Weights, built: Built) -> None:
    record: dict[str, Json] = {
        "schema": SCHEMA,
        **head,
        "graphs": [
            {"name": one.graph.name, "signature": one.graph.signature.to_dict()}
            for one in built.graphs
        ],
        "artifacts": [
            {
                "graph": report.artifact.graph,
                "format": report.artifact.format,
                "files": list(report.artifact.files),
                "legacy": report.artifact.legacy,
            }
            for report in built.reports
        ],
        "provenance": dict(weights.provenance),
    }
    (folder / RECORD_FILE).write_bytes(jsontext.dump(record, indent=2) + b"\n")
