"""Retention from outside the training process: what a rule keeps, and carrying it out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from holdfast.cli.disk import usage_of
from holdfast.cli.listing import directions_of
from holdfast.cli.output import paint, size_text, table
from holdfast.engine.catalog import Catalog, read_catalog
from holdfast.engine.prune import Pruned, carry_out, plan_unread, refresh_pointers
from holdfast.errors import ConfigError
from holdfast.policy import Metric, PrunePlan, Retention, parse_retention
from holdfast.storage import LocalRun
from holdfast.storage.lock import writer_of


@dataclass(frozen=True)
class Pruning:
    """What a rule keeps and gives up; pruned is None as long as nothing was carried out."""

    catalog: Catalog
    rule: Retention
    plan: PrunePlan
    freed_bytes: int
    pruned: Pruned | None = None
    names: Mapping[str, list[str]] = field(default_factory=dict)

    def _rows(self, reasons: Mapping[str, str]) -> list[dict[str, Any]]:
        sizes = {info.name: info.bytes for info in self.catalog.infos}
        return [
            {"name": name, "bytes": sizes[name], "why": why}
            for identity, why in reasons.items()
            for name in self.names[identity]
        ]

    def as_data(self) -> dict[str, Any]:
        """The plan, and what became of it, as plain data."""
        pruned = self.pruned
        return {
            "schema": "holdfast-prune/1",
            "rule": repr(self.rule),
            "dry_run": pruned is None,
            "delete": self._rows(self.plan.delete),
            "keep": self._rows(self.plan.keep)
            + [
                {
                    "name": u.name,
                    "bytes": None,
                    "why": f"its manifest cannot be trusted: {u.error.what}",
                }
                for u in self.catalog.unreadable
            ],
            "freed_bytes": self.freed_bytes,
            "warnings": list(self.plan.warnings),
            "removed": [] if pruned is None else list(pruned.removed),
            "failed": {} if pruned is None else dict(pruned.failed),
            "in_use": [] if pruned is None else list(pruned.in_use),
        }

    def as_text(self) -> str:
        """A table of every checkpoint with its reason."""
        data = self.as_data()
        verb = paint("delete" if self.pruned is None else "deleted", "red")
        failed = {*data["failed"], *data["in_use"]}
        rows = [
            [
                paint("stays", "yellow") if e["name"] in failed else verb,
                e["name"],
                size_text(e["bytes"]),
                e["why"],
            ]
            for e in data["delete"]
        ]
        rows += [
            [
                paint("keep", "green"),
                e["name"],
                "" if e["bytes"] is None else size_text(e["bytes"]),
                e["why"],
            ]
            for e in data["keep"]
        ]
        lines = [f"rule: {self.rule!r}", table(["", "checkpoint", "size", "because"], rows, "  r")]
        lines += [f"note: {text}" for text in self.plan.warnings]
        lines += [f"could not be deleted: {n}: {why}" for n, why in data["failed"].items()]
        return "\n".join(lines)


def saved_rule(catalog: Catalog) -> Retention | None:
    """The rule that the newest checkpoint was saved under, None if it does not say.

    Raises PolicyError if it is a rule of the run's own that text cannot give.
    """
    newest = catalog.newest
    text = None if newest is None else newest.manifest.extra.get("retention")
    return parse_retention(text) if isinstance(text, str) else None


def wanted_rule(catalog: Catalog, text: str | None) -> Retention:
    """The rule given as text, else the run's own. Raises ConfigError if there is neither."""
    if text is not None:
        return parse_retention(text, directions_of(catalog))
    rule = saved_rule(catalog)
    if rule is None:
        raise ConfigError(
            "The run does not say what it keeps",
            fix='give a rule, for example --rule "last 5 + best 3 val_bleu max"',
        )
    return rule


def plan_of(run: LocalRun, folder: Path, catalog: Catalog, rule: Retention) -> PrunePlan:
    """What the rule keeps now. The best of tracked metrics, pins and readers count as in training.

    While a process writes the run, what it was restored from stays too.
    """
    tracked = [Metric(name, mode) for name, mode in directions_of(catalog).items()]
    protected: dict[str, str] = {}
    writer, newest = writer_of(folder), catalog.newest
    if writer is not None and writer.state() != "ended" and newest is not None:
        for parent in newest.manifest.parents:
            if parent.relation == "resumed_from":
                protected[parent.id] = "the session that writes the run was restored from it"
    return plan_unread(run, catalog, rule, now=time.time(), tracked=tracked, protected=protected)


def plan_pruning(folder: Path, text: str | None) -> Pruning:
    """What would be deleted; deletes nothing. Raises ConfigError or PolicyError."""
    usage = usage_of(folder)
    run = LocalRun(folder)
    rule = wanted_rule(usage.catalog, text)
    plan = plan_of(run, folder, usage.catalog, rule)
    names: dict[str, list[str]] = {}
    for entry in usage.catalog.entries:
        names.setdefault(entry.manifest.id, []).append(entry.name)
    gone = [name for identity in plan.delete for name in names[identity]]
    return Pruning(usage.catalog, rule, plan, usage.freed_by(gone), names=names)


def prune(folder: Path, text: str | None) -> Pruning:
    """Delete by the rule, as the writer of the run. Raises LockedError if somebody else is."""
    run = LocalRun(folder)
    plan_pruning(folder, text)
    lock = run.lock()
    try:
        planned = plan_pruning(folder, text)
        pruned = carry_out(
            run, planned.plan, planned.catalog, rule=repr(planned.rule), now=time.time()
        )
        catalog = read_catalog(run)
        tracked = [Metric(name, mode) for name, mode in directions_of(catalog).items()]
        refresh_pointers(run, catalog.infos, tracked)
    finally:
        lock.release()
    return Pruning(
        planned.catalog, planned.rule, planned.plan, planned.freed_bytes, pruned, planned.names
    )
