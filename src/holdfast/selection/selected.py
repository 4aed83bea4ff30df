"""The outcome of `select_model`: rows, recommendations, what was left out; as table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from holdfast.errors import ConfigError, printable
from holdfast.jsontext import dump, parse_object
from holdfast.manifest import iso_time
from holdfast.selection.candidates import Identified
from holdfast.selection.costs import Cost
from holdfast.selection.recommending import Recommendation
from holdfast.stats import BestOf, Comparison, Standing
from holdfast.storage.single_file import commit_file

SCHEMA = "holdfast-select/1"
SELECTION_FOLDER = "selection"


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate on the test set.

    standing: among all candidates. comparison: with the baseline, None for the baseline itself.
    cached: its score was known from an earlier call.
    """

    candidate: Identified
    standing: Standing
    comparison: Comparison | None
    cost: Cost
    cached: bool

    @property
    def name(self) -> str:
        """The candidate's name."""
        return self.candidate.name

    @property
    def score(self) -> float:
        """On the whole test set."""
        return self.standing.score

    def verdict(self, level: float) -> str:
        """What may be claimed of it against the baseline."""
        return "baseline" if self.comparison is None else self.comparison.verdict(level)


@dataclass(frozen=True, slots=True)
class Selection:
    """What was found. rows: best score first. excluded: candidate or strategy to reason.

    identity: of the evaluation, None if it has none. notes: what to know before believing it. time:
    seconds since the epoch. samples, sweep: for the report, what the candidates made of a few
    examples ({"source", "reference", "outputs": by candidate}) and a `Sweep.to_dict()`.
    """

    run: Path
    rows: tuple[Row, ...]
    baseline: str
    best: BestOf
    recommendations: tuple[Recommendation, ...]
    excluded: Mapping[str, str]
    notes: tuple[str, ...]
    identity: str | None
    time: float
    samples: tuple[Mapping[str, Any], ...] = ()
    sweep: Mapping[str, Any] | None = None

    def row(self, name: str) -> Row:
        """A candidate's row by any of its names. Raises ConfigError if there is none."""
        for row in self.rows:
            if name == row.name or name in row.candidate.also:
                return row
        raise ConfigError(
            f"There is no candidate {name!r}",
            fix=f"use one of {', '.join(row.name for row in self.rows)}",
        )

    def recommended(self, use: str = "quality") -> Row:
        """The candidate recommended for a use, "quality" or "latency-critical"."""
        for recommendation in self.recommendations:
            if recommendation.use == use:
                return self.row(recommendation.candidate)
        raise ConfigError(
            f"There is no recommendation for {use!r}", fix="use quality or latency-critical"
        )

    def table(self) -> str:
        """Rows, recommendations and notes as text."""
        return "\n".join([*_table(self), "", *_remarks(self)])

    def as_json(self) -> dict[str, Any]:
        """Plain values of the schema "holdfast-select/1": strict JSON, also for the report."""
        return {
            "schema": SCHEMA,
            "time": iso_time(self.time),
            "run": str(self.run),
            "evaluation": self.identity,
            "metric": self.best.signature.partition("|")[0],
            "signature": self.best.signature,
            "higher_is_better": self.best.higher_is_better,
            "examples": self.best.examples,
            "level": self.best.level,
            "baseline": self.baseline,
            "candidates": [self._row(row) for row in self.rows],
            "comparisons": [
                {**row.comparison.to_dict(), "verdict": row.verdict(self.best.level)}
                for row in self.rows
                if row.comparison is not None
            ],
            "best_of": {**self.best.to_dict(), "tie_set": list(self.best.tie_set)},
            "recommendation": self._main_recommendation(),
            "recommendations": [
                {**asdict(one), "tied_with": list(one.tied_with)} for one in self.recommendations
            ],
            "excluded": dict(self.excluded),
            "notes": list(self.notes),
            "samples": [dict(sample) for sample in self.samples],
            **({} if self.sweep is None else {"sweep": dict(self.sweep)}),
        }

    def save(self) -> Path:
        """Write the JSON atomically to `<run>/selection/<time>.json`. Raises SaveError."""
        name = iso_time(self.time).replace(":", "").replace("-", "").replace(".", "-")
        path = self.run / SELECTION_FOLDER / f"{name}.json"
        data = dump(self.as_json(), indent=2) + b"\n"
        commit_file(path, lambda target: target.write_bytes(data))
        return path

    def _main_recommendation(self) -> dict[str, Any]:
        first = self.recommendations[0]
        return {"name": first.candidate, "reason": first.reason}

    def _row(self, row: Row) -> dict[str, Any]:
        one, standing = row.candidate, row.standing
        return {
            "name": row.name,
            "also": list(one.also),
            "kind": one.candidate.kind,
            "component": one.candidate.component,
            "members": [asdict(member) for member in one.members],
            "left_out": dict(one.excluded),
            "weights": one.digest,
            "score": standing.score,
            "interval": standing.interval.to_dict(),
            "p_best": standing.p_best,
            "tied": standing.tied,
            "delta_to_best": standing.delta_to_best,
            "verdict": row.verdict(self.best.level),
            "cost": asdict(row.cost),
            "cached": row.cached,
        }


def read_selections(run: Path) -> list[dict[str, Any]]:
    """The saved selections of a run as plain values, oldest first; other files are passed over.

    Raises FormatError for a file that is not strict JSON.
    """
    found = []
    for path in sorted((run / SELECTION_FOLDER).glob("*.json")):
        values = parse_object(path.read_bytes(), where=str(path))
        if values.get("schema") == SCHEMA:
            found.append(values)
    return found


def _table(selection: Selection) -> list[str]:
    timed = any(row.cost.latency is not None for row in selection.rows)
    confidence = f"{100 * selection.rows[0].standing.interval.confidence:g} %"
    rows = [
        [
            "candidate",
            "score",
            f"{confidence} interval",
            "P(best)",
            f"against {selection.baseline}",
            "p",
            "parameters",
            "passes",
            *(["ms"] if timed else []),
        ]
    ]
    for row in selection.rows:
        low, high = row.standing.interval.low, row.standing.interval.high
        found = row.comparison
        latency = row.cost.latency
        rows.append(
            [
                " = ".join(map(printable, (row.name, *row.candidate.also))),
                f"{row.score:.4g}",
                f"{low:.4g} to {high:.4g}",
                f"{row.standing.p_best:.2f}{' *' if row.standing.tied else ''}",
                "baseline" if found is None else f"{found.delta:+.3g}, {_brief(row, selection)}",
                "" if found is None else f"{found.p_adjusted:.3g}",
                f"{row.cost.parameters / 1e6:.3g} M",
                str(row.cost.forward_passes),
                *([f"{latency.median_ms:.3g}" if latency else ""] if timed else []),
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _brief(row: Row, selection: Selection) -> str:
    verdict = row.verdict(selection.best.level)
    return "no evidence" if verdict.startswith("no evidence") else verdict


def _remarks(selection: Selection) -> list[str]:
    best = selection.best
    lines = [f"For {one.use}: {one.candidate}, {one.reason}." for one in selection.recommendations]
    lines.append(
        f"* may be the best at the {best.level:g} level. Choosing the best of "
        f"{len(selection.rows)} flatters its score by about {best.luck:.2g}: "
        f"{best.shrunk_score:.4g} without that luck. p: randomisation test against "
        f"{selection.baseline}, corrected for {max(1, len(selection.rows) - 1)} comparisons (Holm)."
    )
    lines.append(f"Score: {printable(best.signature)} on {best.examples:,} examples.")
    lines += [f"Left out: {printable(n)}: {_first(w)}" for n, w in selection.excluded.items()]
    lines += [f"Note: {_first(note)}." for note in selection.notes]
    return lines


def _first(text: str) -> str:
    """The first line of an error's paragraph, which says what happened."""
    return printable(text.partition("\n")[0])
