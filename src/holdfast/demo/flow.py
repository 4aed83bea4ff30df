"""The demo from end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from holdfast.demo.corpus import Corpus, Direction
from holdfast.demo.corpus_files import write_folder
from holdfast.demo.extras import demo_module
from holdfast.demo.judge import FinishedRun
from holdfast.demo.options import DemoOptions
from holdfast.demo.plan import RunPlan
from holdfast.demo.progress import ProgressView
from holdfast.demo.report import (
    print_checkpoints,
    print_samples,
    print_selection,
    print_sweep,
)
from holdfast.demo.shipping import export_recommended
from holdfast.demo.sources import open_corpus
from holdfast.demo.supervise import KillMoment, Witness, start_worker, watch
from holdfast.errors import ConfigError
from holdfast.selection import Selection, build_chosen, write_chosen

_KILL_SHARE = 0.5


def run_demo(options: DemoOptions, console: Console | None = None) -> int:
    """See `holdfast.demo.run`. console: where to print, by default standard output."""
    console = console or Console()
    demo_module("sacrebleu")
    place = options.run_folder()
    direction = Direction.parse(options.direction)
    corpus = open_corpus(options.data, direction, seed=options.seed, pairs=options.pairs)
    _introduce(console, corpus)
    write_folder(corpus, place / "corpus")
    plan = RunPlan.for_budget(
        place,
        direction,
        minutes=options.minutes,
        seed=options.seed,
        threads=options.thread_count,
        steps=options.steps,
        export=options.export,
    )
    witness = _train(console, plan, plan.write(place), kill=options.kill)
    torch.set_num_threads(plan.threads)
    finished = FinishedRun.open(plan, corpus)
    console.print()
    print_checkpoints(console, finished.manager, saved=len(witness.saves))
    close(console, finished)
    _say(console, f"Run folder: {plan.checkpoints}")
    return 1 if witness.losses.different else 0


def close(console: Console, finished: FinishedRun) -> Selection:
    """Choose the model of a finished run, show it, and go through `CLOSING_STEPS`."""
    sweep = finished.sweep()
    if sweep is not None:
        print_sweep(console, sweep, min(len(finished.corpus.valid), finished.plan.dev_sentences))
    with console.status("scoring") as status:
        chosen = finished.select(lambda text: status.update(text))
        found = finished.sampled(chosen)
    found = replace(found, sweep=None if sweep is None else sweep.to_dict())
    found.save()
    print_selection(console, found, finished.corpus)
    print_samples(console, found)
    for step in CLOSING_STEPS:
        step(console, finished, found)
    return found


def write_recommended(console: Console, finished: FinishedRun, selection: Selection) -> None:
    """Write what is recommended for quality, and score it once more from what was written."""
    row = selection.recommended("quality")
    written = write_chosen(selection, "quality")
    score = finished.trial.evaluate(build_chosen(written, finished.trial)).score
    agrees = "the same" if score == row.score else f"NOT the {row.score:.6g} of the table"
    _say(console, f"Best model: {written}")
    _say(console, f"Scored again from what was written: {score:.6g}, {agrees}.")


def write_page(console: Console, finished: FinishedRun, selection: Selection) -> None:
    """Write the report beside the run's folder; last, so that it tells of all the rest."""
    from holdfast.report import write_report

    try:
        with console.status("writing the report"):
            page = write_report([finished.folder], finished.folder.parent / "report.html")
    except ConfigError as error:
        _say(console, f"No report was written. {error}")
    else:
        _say(console, f"Report: {page}  (open it in any browser; it needs no network)")


ClosingStep = Callable[[Console, FinishedRun, Selection], None]

CLOSING_STEPS: list[ClosingStep] = [write_recommended, export_recommended, write_page]
"""What is done with the selection once it is made and shown, in this order, the page last."""


def _introduce(console: Console, corpus: Corpus) -> None:
    _say(
        console,
        f"Corpus {corpus.name} ({corpus.direction}): {len(corpus.train):,} pairs to train on, "
        f"{len(corpus.valid):,} for development, {len(corpus.test):,} to test; {corpus.origin}.",
    )
    for note in corpus.notes:
        _say(console, f"Note: {note}.")


def _train(console: Console, plan: RunPlan, plan_file: Path, *, kill: bool) -> Witness:
    """Train in a process of its own, kill that once, and let another finish the work."""
    witness = Witness()
    moment = KillMoment(_KILL_SHARE * plan.budget_seconds, plan.save_every_seconds)
    with ProgressView(console, plan.budget_seconds) as view:
        first = start_worker(plan_file, plan.threads)
        if watch(first, witness, view.show, kill=moment if kill else None):
            view.say(_obituary(witness))
            watch(start_worker(plan_file, plan.threads), witness, view.show)
            view.say(_comparison(witness))
        elif kill:
            view.say("The run was over before there were two checkpoints: it was not killed.")
    return witness


def _obituary(witness: Witness) -> str:
    reached, last = witness.losses.last_step, witness.saves[-1]
    return (
        f"\nSIGKILL at step {reached}, {reached - last.step} steps after the last checkpoint "
        f"({last.name}).\nStarting the training process again.\n"
    )


def _comparison(witness: Witness) -> str:
    losses = witness.losses
    if losses.different:
        return (
            f"Of the {losses.repeated} steps computed twice, {len(losses.different)} gave another "
            f"loss, the first at step {losses.different[0]}: the resume was not exact."
        )
    return (
        f"{losses.repeated} steps were computed twice, before the kill and after the resume: every "
        "loss is the same, bit for bit."
    )


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
