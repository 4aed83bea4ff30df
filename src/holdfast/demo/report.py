"""The tables at the end of the demo."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from holdfast import CheckpointManager
from holdfast.demo.corpus import Corpus
from holdfast.demo.training import FURTHER_METRIC, METRIC
from holdfast.policy import KeepBest, KeepEMASnapshots, best
from holdfast.policy.retention import KeepAnyOf
from holdfast.posthoc import Sweep
from holdfast.selection import Selection
from holdfast.values import CheckpointInfo


def print_checkpoints(console: Console, manager: CheckpointManager, *, saved: int) -> None:
    """What is left of the checkpoints, and why each was saved and kept.

    saved: how many there have been.
    """
    now = time.time()
    infos = manager.checkpoints()
    kept = _reasons_kept(manager, infos)
    table = Table(
        title=f"Checkpoints: {saved} saved, {len(infos)} kept (* best)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("step", "epoch", "age", METRIC, FURTHER_METRIC, "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("saved by", no_wrap=True)
    table.add_column("kept as", overflow="fold")
    for info in infos:
        table.add_row(
            str(info.global_step),
            str(info.epoch),
            _age(now - info.time),
            _metric(info, METRIC, kept[info.id]),
            _metric(info, FURTHER_METRIC, kept[info.id]),
            f"{info.bytes / 1e6:.1f} MB",
            info.reason.kind,
            ", ".join(kept[info.id]),
        )
    console.print(table)


def print_selection(console: Console, selection: Selection, corpus: Corpus) -> None:
    """The candidates on the test sentences, and what to think of them."""
    _say(console, f"On the {len(corpus.test):,} test sentences, by beam search:\n")
    _say(console, selection.table())
    for note in corpus.notes:
        _say(console, f"Note: {note}.")


def print_samples(console: Console, selection: Selection) -> None:
    """A few test sentences as each candidate translates them; equal translations as one."""
    table = Table(title="Translations", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("", overflow="fold", ratio=1)
    table.add_column("", overflow="fold", ratio=3)
    for sample in selection.samples:
        rows = {"source": sample["source"], "reference": sample["reference"]}
        texts: dict[str, list[str]] = {}
        for name, text in sample["outputs"].items():
            texts.setdefault(text, []).append(name)
        rows |= {", ".join(names): text for text, names in texts.items()}
        for name, text in rows.items():
            table.add_row(Text(name), Text(text), end_section=name == list(rows)[-1])
    console.print(table)


def print_sweep(console: Console, sweep: Sweep, sentences: int) -> None:
    """EMA lengths made after training from the stored averages."""
    _say(console, f"EMAs of other lengths, BLEU on {sentences:,} development sentences:\n")
    _say(console, f"{sweep}\n")


def _reasons_kept(
    manager: CheckpointManager, infos: Sequence[CheckpointInfo]
) -> dict[str, list[str]]:
    """Why rotation has left each checkpoint, by its id, in a few words."""
    limit = manager.config.save_total_limit or len(infos)
    newest = {info.id for info in infos[-limit:]}
    reasons: dict[str, list[str]] = {
        info.id: [f"newest {limit}"] if info.id in newest else [] for info in infos
    }
    for metric in manager.config.tracked:
        winner = best(infos, metric.name, metric.mode)
        if winner is not None:
            reasons[winner.id].insert(0, _best_by(metric.name))
    rule = manager.retention
    for part in rule.rules if isinstance(rule, KeepAnyOf) else (rule,):
        if isinstance(part, (KeepBest, KeepEMASnapshots)):
            what = "EMA snapshot" if isinstance(part, KeepEMASnapshots) else f"top {part.n}"
            for info, judged in zip(infos, part.judge(infos, now=time.time()), strict=True):
                if judged.keep:
                    reasons[info.id].append(what)
    for origin in {parent.id for info in infos for parent in info.parents} & reasons.keys():
        reasons[origin].append("resumed from")
    return reasons


def _metric(info: CheckpointInfo, metric: str, reasons: Sequence[str]) -> str:
    value = info.metrics.get(metric)
    if value is None:
        return "-"
    shown = f"{value:.3f}" if metric == METRIC else f"{value:.1f}"
    return f"* {shown}" if _best_by(metric) in reasons else shown


def _best_by(metric: str) -> str:
    return f"best {metric}"


def _age(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}"


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
