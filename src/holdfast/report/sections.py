"""The sections of a run's page, in the order in which a reader asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.report import marks, text
from holdfast.report.charts_choice import candidates_figure, differences_figure, sweep_figure
from holdfast.report.charts_curves import curve_figures
from holdfast.report.charts_layers import changes_figure
from holdfast.report.charts_lineage import lineage_figure
from holdfast.report.charts_storage import (
    cost_figure,
    disk_figure,
    parts_table,
    retention_figure,
    waiting,
)
from holdfast.report.figures import Figure
from holdfast.report.tables import Cell, Table, table
from holdfast.report.values import Checkpoint, Release, RunData, Selection


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with figures and tables. tables: shown openly, unlike a figure's twin."""

    id: str
    title: str
    lead: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    selection: Selection | None = None
    releases: tuple[Release, ...] = ()
    pins: tuple[Checkpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class RunPage:
    """One run's part of a page. facts: label and value; verdict: one sentence, "" for none."""

    id: str
    run: RunData
    facts: tuple[tuple[str, str], ...]
    command: str
    verdict: str
    sections: tuple[Section, ...]


def run_page(run: RunData, prefix: str) -> RunPage:
    """The page's part for one run; sections with nothing to say are left out."""
    sections = [
        *(_verdict(s, f"{prefix}-s{i}") for i, s in enumerate(reversed(run.selections))),
        _curves(run, prefix),
        *_sweeps(run, prefix),
        _retention(run, prefix),
        _cost(run, prefix),
        _changes(run, prefix),
        _lineage(run, prefix),
        _releases(run, prefix),
    ]
    return RunPage(
        prefix, run, _facts(run), _command(run), _verdict_line(run), tuple(s for s in sections if s)
    )


def _facts(run: RunData) -> tuple[tuple[str, str], ...]:
    kept, provenance = run.kept, run.provenance
    facts = [
        ("steps", f"{run.last_step:,}"),
        ("checkpoints", f"{len(kept)} kept, {len(run.deleted)} deleted"),
        ("on disk", text.size(_disk_bytes(kept))),
        ("resumes", str(len(run.resumes))),
    ]
    costed = [c for c in run.checkpoints if "write_seconds" in c.cost]
    if costed:
        facts.append(("training waited for saves", waiting(costed)))
    if kept and kept[-1].time is not None:
        facts.append(("last save", text.moment(kept[-1].time)))
    git = provenance.get("git")
    if isinstance(git, Mapping):
        dirty = ", with changes" if git.get("dirty") else ""
        facts.append(("source", f"{text.clean(git.get('commit', ''), 12)[:12]}{dirty}"))
    for key, label in (("torch", "torch"), ("host", "host"), ("torch_seed", "seed")):
        if provenance.get(key) is not None:
            facts.append((label, text.clean(provenance[key], 80)))
    return tuple(facts)


def _command(run: RunData) -> str:
    command = run.provenance.get("command")
    return text.clean(" ".join(map(str, command)), 300) if isinstance(command, list) else ""


def _disk_bytes(kept: tuple[Checkpoint, ...]) -> int:
    """What was written for them: files linked from another one counted once."""
    return sum(int(c.cost.get("bytes_written", c.bytes)) for c in kept)


def _verdict_line(run: RunData) -> str:
    for selection in reversed(run.selections):
        if selection.chosen:
            return f"Chosen: {selection.chosen}. {selection.sentence}"
    parts = [
        f"best {metric} is {text.number(c.metrics[metric])} at step {c.step:,}"
        for metric in run.directions
        for c in run.kept
        if metric in c.best_by
    ]
    if not parts:
        return "No selection was made, and no tracked metric has a finite value yet."
    return f"No selection was made yet. By validation, {'; '.join(parts)}."


def _verdict(selection: Selection, prefix: str) -> Section:
    figures = (candidates_figure(selection, prefix), differences_figure(selection, prefix))
    examples = selection.examples
    lead = "" if examples is None else f"Measured on {text.plural(examples, 'example')}."
    tables = [_samples(selection, prefix)] if selection.samples else []
    return Section(
        f"{prefix}-verdict",
        "The verdict",
        lead,
        tuple(f for f in figures if f is not None),
        tuple(tables),
        selection,
    )


def _samples(selection: Selection, prefix: str) -> Table:
    names = list(dict.fromkeys(name for s in selection.samples for name, _ in s.outputs))
    rows = []
    for sample in selection.samples:
        outputs = dict(sample.outputs)
        rows.append([sample.source, sample.reference, *(outputs.get(name, "") for name in names)])
    return table(f"{prefix}-samples", "Outputs side by side", ["source", "reference", *names], rows)


def _curves(run: RunData, prefix: str) -> Section | None:
    figures = curve_figures(run, prefix)
    lead = (
        "Every recorded value, and along the bottom every checkpoint there is or was. A dashed "
        "line marks a resume; what was computed anew after it is dotted."
    )
    return Section(f"{prefix}-curves", "Learning curves", lead, tuple(figures)) if figures else None


def _sweeps(run: RunData, prefix: str) -> list[Section]:
    found = []
    for index, selection in enumerate(run.selections):
        if selection.sweep is not None:
            figure = sweep_figure(selection.sweep, selection.metric, f"{prefix}-w{index}")
            title = "Length of the moving average"
            lead = "Averages of each length, made from those that the checkpoints hold."
            found.append(Section(f"{prefix}-w{index}", title, lead, (figure,)))
    return found


def _retention(run: RunData, prefix: str) -> Section | None:
    if not run.checkpoints:
        return None
    figures = (retention_figure(run, prefix), disk_figure(run, prefix))
    parts = parts_table(run, prefix)
    return Section(
        f"{prefix}-retention-section",
        "Checkpoints",
        "What there is and was, why it was saved, and why it stayed or went.",
        tuple(f for f in figures if f is not None),
        tuple(t for t in (_checkpoint_table(run, prefix), parts) if t is not None),
        pins=run.kept,
    )


def _checkpoint_table(run: RunData, prefix: str) -> Table:
    metrics = list(run.directions) or sorted({m for c in run.checkpoints for m in c.metrics})[:4]
    rows = [
        [
            Cell(f"{c.step:,}", c.step),
            Cell(str(c.epoch), c.epoch),
            *(
                Cell(text.number(c.metrics.get(metric)), c.metrics.get(metric))
                for metric in metrics
            ),
            Cell(text.size(c.bytes), c.bytes),
            Cell(text.moment(c.time), c.time),
            Cell(c.reason),
            Cell(marks.state_text(c), mark=f"state-{c.status}"),
            Cell(c.name),
        ]
        for c in run.checkpoints
    ]
    columns = ["#step", "#epoch", *(f"#{m}" for m in metrics), "#size", "saved at", "saved because"]
    return table(f"{prefix}-checkpoints", "All checkpoints", [*columns, "now", "folder"], rows)


def _cost(run: RunData, prefix: str) -> Section | None:
    figure = cost_figure(run, prefix)
    if figure is None:
        return None
    lead = "How long training stood still for each save, and how long the disk was busy with it."
    return Section(f"{prefix}-cost-section", "What saving cost", lead, (figure,))


def _changes(run: RunData, prefix: str) -> Section | None:
    figure = changes_figure(run, prefix)
    if figure is None:
        return None
    lead = "Length of the difference of a layer's weights, relative to the length of the weights."
    return Section(f"{prefix}-changes-section", "Layers over steps", lead, (figure,))


def _lineage(run: RunData, prefix: str) -> Section | None:
    figure = lineage_figure(run, prefix)
    if figure is None:
        return None
    tables = (_resumes(run, prefix),) if run.resumes else ()
    return Section(f"{prefix}-lineage-section", "Lineage and resumes", "", (figure,), tables)


def _resumes(run: RunData, prefix: str) -> Table:
    rows = [
        [
            Cell(text.moment(r.time), r.time),
            Cell(f"{r.step:,}", r.step),
            Cell(r.name),
            Cell(f"{r.lost_steps:,}", r.lost_steps),
        ]
        for r in run.resumes
    ]
    columns = ["at", "#from step", "checkpoint", "#steps computed anew"]
    return table(f"{prefix}-resumes", "Resumes, by the run's history", columns, rows)


def _releases(run: RunData, prefix: str) -> Section | None:
    if not run.releases:
        return None
    return Section(
        f"{prefix}-releases", "Deployed", "The card of each release.", releases=run.releases
    )
