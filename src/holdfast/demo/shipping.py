"""The last step of the demo: the recommended model, exported, checked and used without its code."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from rich import box
from rich.console import Console
from rich.table import Table

from holdfast.decoding import LengthRule
from holdfast.demo.decode import MARKS
from holdfast.demo.judge import FinishedRun
from holdfast.demo.model import TranslationTransformer
from holdfast.demo.steps import CachedSteps
from holdfast.demo.trial import BEAM_SIZE
from holdfast.demo.vocab import EOS, PAD
from holdfast.errors import HoldfastError
from holdfast.export import About, Exportable, Release, Weights, open_weights, release
from holdfast.export.latency import Effort
from holdfast.export.seq2seq.graphs import sequence_graphs
from holdfast.export.seq2seq.release import decoding_latency, sequence_exportable
from holdfast.jsontext import Json
from holdfast.selection import Selection, write_chosen

NAME = "translate"
VERSION = "1.0.0"
_CHECKED_SENTENCES = 60
_TIMED = Effort(rounds=7, warmup=1, seconds=4.0)
_SHOWN_CHARS = 40
# What fits on a line of 80 characters; the card of the release has the rest.
_SHOWN_COLUMNS = ("sizes", "run by", "p50 ms", "p95 ms", "beside eager")
_SCRIPT_FILE = "translate.py"
_SCRIPT = f'''"""Translates its arguments, without torch or the code that trained the model."""

import sys
from pathlib import Path

from holdfast.export.seq2seq import TextModel

model = TextModel.load_onnx(Path(__file__).parent, "{NAME}")
for found in model.translate(sys.argv[1:], width={BEAM_SIZE}):
    print(found.text)
foreign = sorted({{"torch", "holdfast.demo"}} & set(sys.modules))
print(f"imported of torch and the training code: {{', '.join(foreign) or 'nothing'}}")
'''


def export_recommended(console: Console, finished: FinishedRun, selection: Selection) -> None:
    """Release the recommended single model; see `ship`."""
    if not finished.plan.export:
        return
    formats = ["program", "pt"]
    if importlib.util.find_spec("onnxruntime") is None:
        _say(console, "ONNX is left out: pip install 'holdfast[onnx]'")
    else:
        formats.append("onnx")
    ship(console, finished, _single_model(selection), _about(finished, selection), formats)


def ship(
    console: Console,
    finished: FinishedRun,
    checkpoint: Path,
    about: About,
    formats: Sequence[str],
    *,
    effort: Effort = _TIMED,
) -> Release:
    """Release a checkpoint, show what the gate found and how fast it is, and translate a sentence
    with it in a process of its own. Raises GateError if a format does not pass."""
    weights = open_weights(checkpoint)
    with console.status("exporting") as status:
        target = demo_exportable(
            finished,
            weights,
            effort=effort,
            tell=lambda text: status.update(f"exporting: {text}"),
        )
        place = finished.folder.parent / "releases" / VERSION
        made = release(target, place, weights=weights, formats=formats, about=about)
    _show(console, finished, made)
    if "onnx" in formats:
        _translate_elsewhere(console, finished, made, cast(TranslationTransformer, target.model))
    return made


def demo_exportable(
    finished: FinishedRun,
    weights: Weights,
    *,
    effort: Effort = _TIMED,
    tell: Any = lambda _: None,
) -> Exportable:
    """The demo's Transformer as start and step graphs with cached keys and values.

    tell: told what is being timed.
    """
    model = cast(TranslationTransformer, finished.trial.build(weights.config))
    positions = model.config.positions_max
    graphs = sequence_graphs(
        CachedSteps(model),
        name=NAME,
        source_size=model.config.source_vocabulary,
        source_max=positions,
        marks=MARKS,
        pad=PAD,
        lengths=LengthRule(positions),
    )
    words = finished.vocabularies
    pairs = finished.corpus.test[:_CHECKED_SENTENCES]
    sources = [[*words.source.encode(pair.source)[: positions - 1], EOS] for pair in pairs]
    return sequence_exportable(
        model,
        graphs,
        name=NAME,
        sources=sources,
        widths=(1, BEAM_SIZE),
        vocabularies=(words.source, words.target),
        files={_SCRIPT_FILE: _SCRIPT.encode()},
        measure=decoding_latency(
            graphs, sources, batch_sizes=(1, 16), widths=(1,), effort=effort, progress=tell
        ),
    )


def _single_model(selection: Selection) -> Path:
    """What is recommended for quality, or for low latency if that is an ensemble."""
    written = write_chosen(selection, "quality")
    return written if written.is_dir() else write_chosen(selection, "latency-critical")


def _about(finished: FinishedRun, selection: Selection) -> About:
    row, best = selection.recommended("quality"), selection.best
    if row.candidate.candidate.kind == "ensemble":
        row = selection.recommended("latency-critical")
    corpus = finished.corpus
    interval = row.standing.interval
    metric: dict[str, Json] = {
        "name": best.signature.partition("|")[0],
        "value": row.score,
        "low": interval.low,
        "high": interval.high,
        "level": 1.0 - best.level,
        "set": f"{len(corpus.test)} test sentences of {corpus.name}",
        "signature": best.signature,
    }
    return About(
        name=f"demo-{corpus.direction}",
        description=f"A small Transformer that translates {corpus.direction}, trained for minutes "
        f"by `holdfast demo` on the corpus {corpus.name} ({corpus.origin}). Chosen as {row.name}.",
        metrics=[metric],
        limits=["An example of checkpointing: it knows the phrases of its corpus and no more."],
    )


def _show(console: Console, finished: FinishedRun, made: Release) -> None:
    _say(console, f"\nRelease {made}")
    weights = sum(file.stat().st_size for file in made.path.glob("model*.safetensors"))
    full = finished.manager.checkpoints()[-1].bytes
    _say(
        console,
        f"Inference checkpoint: {weights / 1e6:.2f} MB, {int(10 * full / weights) / 10:.1f}x "
        f"smaller than a checkpoint of the training ({full / 1e6:.2f} MB with all its state)",
    )
    if made.latency:
        _print_table(console, "Time to decode, side by side", made.latency)


def _print_table(console: Console, title: str, latency: Mapping[str, Any]) -> None:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    shown = [i for i, heading in enumerate(latency["columns"]) if heading in _SHOWN_COLUMNS]
    for i in shown:
        table.add_column(str(latency["columns"][i]), no_wrap=True)
    for row in latency["rows"]:
        table.add_row(*(str(row[i]) for i in shown))
    console.print(table)
    for note in latency.get("notes", ()):
        _say(console, f"Note: {note}")


def _translate_elsewhere(
    console: Console, finished: FinishedRun, made: Release, model: TranslationTransformer
) -> None:
    sources = (pair.source for pair in finished.corpus.test)
    sentence = min(sources, key=lambda text: abs(len(text) - _SHOWN_CHARS))
    (expected,) = finished.trial.translate(model.eval(), [sentence])
    script = made.path / _SCRIPT_FILE
    lines = run_script(script, [sentence])
    agrees = "the same as in training code" if lines[0] == expected else f"NOT {expected!r}"
    _say(console, f"python {script} {sentence!r}")
    _say(console, f"  {lines[0]}   ({agrees})")
    _say(console, f"  {lines[1]}")


def run_script(script: Path, arguments: Sequence[str]) -> list[str]:
    """Run a Python file in a fresh process; its lines. Raises HoldfastError if it fails."""
    run = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if run.returncode:
        raise HoldfastError(f"The exported model did not run: {run.stderr.strip()[-500:]}")
    return run.stdout.splitlines()


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
