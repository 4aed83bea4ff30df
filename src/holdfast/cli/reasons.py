"""Why a checkpoint was saved, is kept, was deleted, is best, was resumed from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.cli.listing import catalog_of, directions_of
from holdfast.cli.output import clean, paint
from holdfast.cli.refs import info_of, this_run
from holdfast.cli.retention import plan_of, saved_rule
from holdfast.engine.catalog import Catalog
from holdfast.engine.events import Event, read_events
from holdfast.engine.history_file import HistoryLine, read_history
from holdfast.errors import CheckpointNotFoundError, HoldfastError, PolicyError
from holdfast.manifest import MANIFEST_FILE, iso_time
from holdfast.policy.ranking import rank
from holdfast.storage import LocalRun
from holdfast.values import CheckpointInfo


@dataclass(frozen=True)
class Reasons:
    """Answers about one checkpoint. answers: pairs of what they are about and a sentence."""

    name: str
    exists: bool
    answers: list[tuple[str, str]]

    def as_data(self) -> dict[str, Any]:
        """The answers as plain data."""
        return {
            "schema": "holdfast-why/1",
            "name": self.name,
            "exists": self.exists,
            "answers": [{"about": about, "text": text} for about, text in self.answers],
        }

    def as_text(self) -> str:
        """A line for each answer."""
        state = "" if self.exists else paint(" (not there any more)", "red")
        lines = [f"{paint(clean(self.name), 'bold')}{state}"]
        return "\n".join([*lines, *(f"  {a:<9} {clean(text, 500)}" for a, text in self.answers)])


def reasons_of(ref: str) -> Reasons:
    """Everything the run knows about the checkpoint `ref`, deleted ones included.

    Raises CheckpointNotFoundError if nothing of that name or step was ever written down.
    """
    run, inner = _split(ref)
    catalog = catalog_of(run)
    place = LocalRun(run)
    history, events = read_history(place), read_events(place)
    try:
        info = info_of(catalog, inner)
    except HoldfastError as error:
        gone = [event for event in events if _means(inner, event)]
        if not gone:
            raise CheckpointNotFoundError(
                f"Nothing is known of {inner!r}: {error}", where=str(run)
            ) from error
        last = gone[-1].name
        answers = [*_ends([e for e in gone if e.name == last]), *_resumes(last, history)]
        return Reasons(last, False, answers)
    answers = [
        ("saved", f"{iso_time(info.time)}: {info.reason.text}"),
        *_ranks(info, catalog),
        *_keeping(info, catalog, run),
        *_family(info, catalog),
        *_resumes(info.name, history),
        # A line about one that stayed after all, or about an earlier one of that name.
        *_ends([e for e in events if e.name == info.name and e.facts.get("id") != info.id]),
    ]
    return Reasons(info.name, True, answers)


def _split(ref: str) -> tuple[Path, str]:
    """The run and the reference in it."""
    path = Path(ref)
    if (path / MANIFEST_FILE).is_file():
        real = path.resolve()
        return real.parent, real.name
    if path.is_dir():
        return path, "latest"
    run, at, inner = ref.rpartition("@")
    if at and Path(run).is_dir():
        return Path(run), inner
    if path.parent != Path() and path.parent.is_dir():
        return path.parent, path.name
    return this_run(), ref


def _means(ref: str, event: Event) -> bool:
    step = re.fullmatch(r"step:(\d{1,18})", ref)
    if step is not None:
        return event.global_step == int(step[1])
    return ref in (event.name, event.new_name)


def _ranks(info: CheckpointInfo, catalog: Catalog) -> Iterator[tuple[str, str]]:
    for metric, mode in directions_of(catalog).items():
        ranked = rank(catalog.infos, metric, mode)
        place = next((i for i, other in enumerate(ranked, 1) if other.id == info.id), None)
        if place is None:
            yield "best", f"{metric}: not ranked, it has no finite value"
        elif place == 1:
            rest = f", before {ranked[1].metrics[metric]:.6g}" if len(ranked) > 1 else ""
            yield (
                "best",
                f"{metric}: the best of {len(ranked)} with {info.metrics[metric]:.6g}{rest}",
            )
        else:
            value, top = info.metrics[metric], ranked[0]
            yield (
                "best",
                f"{metric}: rank {place} of {len(ranked)} with {value:.6g}; the best is "
                f"{top.metrics[metric]:.6g} of {top.name}",
            )


def _keeping(info: CheckpointInfo, catalog: Catalog, run: Path) -> Iterator[tuple[str, str]]:
    if info.pinned is not None:
        yield "pinned", info.pinned
    try:
        rule = saved_rule(catalog)
    except PolicyError as error:
        yield "kept", f"by a rule of the run's own: {error.what}"
        return
    if rule is None:
        yield "kept", "the run does not say what it keeps; nothing deletes it but holdfast prune"
        return
    plan = plan_of(LocalRun(run), run, catalog, rule)
    if info.id in plan.keep:
        yield "kept", f"{plan.keep[info.id]} (rule: {rule!r})"
    else:
        yield "kept", f"until the next save only: {plan.delete[info.id]} (rule: {rule!r})"


def _family(info: CheckpointInfo, catalog: Catalog) -> Iterator[tuple[str, str]]:
    for parent in info.parents:
        relation = parent.relation.replace("_", " ")
        yield "origin", f"{relation} {parent.name} (step {parent.global_step})"
    words: Mapping[str, str] = {
        "resumed_from": "resumed from it",
        "averaged_from": "averages it",
        "consolidated_from": "is the same in one piece",
    }
    for other in catalog.infos:
        for parent in other.parents:
            if parent.id == info.id:
                yield "used", f"{other.name} {words.get(parent.relation, parent.relation)}"


def _resumes(name: str, history: list[HistoryLine]) -> Iterator[tuple[str, str]]:
    for line in history:
        if line.resumed_from == name:
            newer = "; ".join(line.passed_over)
            yield (
                "resumed",
                f"{line.time}: it was the newest that could be used"
                + (f"; passed over: {newer}" if newer else ""),
            )
        elif any(name in text for text in line.passed_over):
            text = next(text for text in line.passed_over if name in text)
            yield "resumed", f"{line.time}: it was passed over for {line.resumed_from}: {text}"


def _ends(events: list[Event]) -> Iterator[tuple[str, str]]:
    for event in events:
        if event.kind == "deleted":
            rule = f" (rule: {event.rule})" if event.rule else ""
            if (reason := event.facts.get("reason")) is not None:
                yield "saved", f"{event.facts.get('saved', 'once')}: {reason}"
            yield "deleted", f"{event.time}: {event.why}{rule}"
        else:
            yield "set aside", f"{event.time}: now {event.new_name}, because {event.why}"
