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
from holdfast.demo.judge import BEAM_SIZE, Candidate
from holdfast.demo.training import FURTHER_METRIC, METRIC
from holdfast.policy import best
from holdfast.values import CheckpointInfo

_SAMPLES = 6


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


def print_verdict(console: Console, candidates: Sequence[Candidate], corpus: Corpus) -> None:
    """Test scores of the best checkpoints, what to think of them, and some translations."""
    table = Table(
        title=f"On the {len(corpus.test):,} test sentences (± 95 % interval, bootstrap)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("best by", no_wrap=True)
    table.add_column("step", justify="right", no_wrap=True)
    for heading in ("BLEU, greedy", f"BLEU, beam {BEAM_SIZE}", f"chrF, beam {BEAM_SIZE}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for candidate in candidates:
        table.add_row(
            ", ".join(candidate.chosen_by),
            str(candidate.global_step),
            *(str(score) for score in (candidate.greedy, candidate.beam, candidate.chrf)),
        )
    console.print(table)
    first = candidates[0]
    _say(console, f"BLEU {first.beam.signature}")
    _say(console, f"chrF {first.chrf.signature}")
    for note in corpus.notes:
        _say(console, f"Note: {note}.")
    _print_samples(console, first, corpus)


def _print_samples(console: Console, candidate: Candidate, corpus: Corpus) -> None:
    table = Table(
        title=f"Translations by step {candidate.global_step}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("source", "reference", "translation"):
        table.add_column(heading, overflow="fold", ratio=1)
    count = len(corpus.test)
    for index in sorted({number * count // _SAMPLES for number in range(_SAMPLES)}):
        pair = corpus.test[index]
        table.add_row(*(Text(text) for text in (*pair, candidate.translations[index])))
    console.print(table)


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
