"""Every graph in every format, each written, read back and put through the gate."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from holdfast.errors import ConfigError, ExportError, GateError
from holdfast.export.formats import Artifact, Format, FormatOptions, find_format
from holdfast.export.gate import GateReport, inspect
from holdfast.export.graph import Runner
from holdfast.export.prepare import Prepared, flatten, identical, prepared
from holdfast.export.target import Exportable
from holdfast.export.tolerance import Tolerance
from holdfast.export.unused import without_unused


@dataclass(frozen=True, slots=True)
class Refusal:
    """A format that could not be made or did not pass, with the reasons."""

    graph: str
    format: str
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.format} of {self.graph}: {self.reasons[0]}"


@dataclass
class Built:
    """What came of it. runners: by format, then by graph; "eager" among the formats."""

    graphs: list[Prepared] = field(default_factory=list)
    reports: list[GateReport] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    runners: dict[str, dict[str, Runner]] = field(default_factory=dict)


def build(
    target: Exportable,
    folder: Path,
    formats: Sequence[str],
    *,
    options: FormatOptions | None = None,
    tolerance: Tolerance | None = None,
    seed: int = 0,
    measured: bool = True,
    remove_unused: bool = False,
) -> tuple[Built, Mapping[str, object]]:
    """Write into the folder what passes; leave nothing of what does not.

    Returns what was built, and the table `target.measure` made of it (empty without one). A format
    is refused as a whole if one of its graphs or a check fails. remove_unused: export copies
    without what no case uses, proven to answer the same. Raises ExportError for what is wrong with
    the model itself, ConfigError for unknown formats.
    """
    writers = [find_format(name) for name in formats]
    if len({writer.name for writer in writers}) != len(writers):
        raise ConfigError("A format is asked for twice", fix="name each once")
    built = Built()
    with contextlib.ExitStack() as stack:
        built.graphs = [stack.enter_context(prepared(graph, seed=seed)) for graph in target.graphs]
        if remove_unused:
            built.graphs = [_slim(one, stack, seed) for one in built.graphs]
        built.runners["eager"] = {one.graph.name: eager_runner(one) for one in built.graphs}
        for writer in writers:
            _build_format(built, target, folder, writer, options or FormatOptions(), tolerance)
        table: Mapping[str, object] = {}
        if target.measure is not None and measured and len(built.runners) > 1:
            table = target.measure(built.runners)
    return built, table


def _slim(one: Prepared, stack: contextlib.ExitStack, seed: int) -> Prepared:
    if not one.unused.names:
        return one
    module = without_unused(one.graph.module, one.unused)
    slim = stack.enter_context(prepared(replace(one.graph, module=module), seed=seed))
    if not all(map(identical, one.expected, slim.expected)):
        raise ExportError(
            f"Without what seems unused ({one.unused}) the model answers otherwise",
            where=f"graph {one.graph.name}",
            fix="export it whole",
        )
    return replace(slim, removed=one.unused)


def eager_runner(one: Prepared) -> Runner:
    """The graph's module as a runner; it must be in evaluation mode when called."""
    module = one.graph.module

    def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return flatten(module(*inputs))

    return run


def _build_format(
    built: Built,
    target: Exportable,
    folder: Path,
    writer: Format,
    options: FormatOptions,
    tolerance: Tolerance | None,
) -> None:
    reports: list[GateReport] = []
    runners: dict[str, Runner] = {}
    artifacts: list[Artifact] = []
    try:
        for one in built.graphs:
            artifact = writer.write(one, folder, one.graph.name, options)
            artifacts.append(artifact)
            report, reloaded = inspect(one, writer, folder, artifact, tolerance=tolerance)
            report.require()
            reports.append(report)
            if reloaded is not None:
                runners[one.graph.name] = reloaded.run
        reports = _checked(built, target, reports, runners)
    except (ExportError, ConfigError) as error:
        reasons = error.problems if isinstance(error, GateError) else (error.what,)
        graph = artifacts[-1].graph if artifacts else built.graphs[0].graph.name
        built.refusals.append(Refusal(graph, writer.name, tuple(reasons)))
        _remove(folder, writer, built)
        return
    built.reports += reports
    built.runners[writer.name] = runners


def _checked(
    built: Built,
    target: Exportable,
    reports: Sequence[GateReport],
    runners: Mapping[str, Runner],
) -> list[GateReport]:
    """The reports with the outcome of the checks. Raises GateError if one failed."""
    results = tuple(check(built.runners["eager"], runners) for check in target.checks)
    failed = [f"{result.name}: {result.text}" for result in results if not result.passed]
    if failed:
        raise GateError("The artifacts do not do together what the model does:", problems=failed)
    return [replace(report, checks=results) for report in reports]


def _remove(folder: Path, writer: Format, built: Built) -> None:
    """Remove what a refused format wrote, half-written files too."""
    kept = {file for report in built.reports for file in report.artifact.files}
    for one in built.graphs:
        for entry in folder.iterdir():
            mine = entry.name.startswith(f"{one.graph.name}{writer.suffix}")
            if mine and entry.name not in kept:
                entry.unlink()
