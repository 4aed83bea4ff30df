"""What monitoring costs beside serving the example, and whether its alarms can be believed.

The demo's model (of full size, with weights of chance) is exported to ONNX and serves one sentence
at a time. Limits: the time a request spends in the monitor, drift tests included, is below 1 % of
the time it is served in; windows of new traffic like the profile's raise alarms no more often than
stated; shifted traffic raises one in its first window.

Run `python -m benchmarks.monitoring [--requests 400] [--windows 4000] [--json FILE]`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from holdfast.decoding import LengthRule
from holdfast.demo.corpus import Corpus, Direction
from holdfast.demo.dataset import Vocabularies
from holdfast.demo.decode import MARKS
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.sources import open_corpus
from holdfast.demo.steps import CachedSteps
from holdfast.demo.vocab import PAD
from holdfast.export.building import build
from holdfast.export.seq2seq import TextModel, write_vocabularies
from holdfast.export.seq2seq.graphs import sequence_graphs
from holdfast.export.seq2seq.text import Translated
from holdfast.export.target import Exportable
from holdfast.monitor import (
    SEQUENCE_FEATURES,
    Monitor,
    Profile,
    compare_windows,
    sequence_features,
)

OVERHEAD_MAX = 0.01
RATE = 0.01
WINDOW = 500
NAME = "model"
NAMES = [feature.name for feature in SEQUENCE_FEATURES]


def serve_example(corpus: Corpus, folder: Path) -> TextModel:
    """The exported model with the vocabularies of the corpus."""
    torch.manual_seed(0)
    words = Vocabularies.build(corpus)
    config = ModelConfig(len(words.source), len(words.target))
    graphs = sequence_graphs(
        CachedSteps(TranslationTransformer(config)).eval(),
        name=NAME,
        source_size=config.source_vocabulary,
        source_max=config.positions_max,
        marks=MARKS,
        pad=PAD,
        lengths=LengthRule(config.positions_max),
    )
    graphs.recipe.write(folder, NAME)
    built, _ = build(Exportable(torch.nn.Module(), graphs.graphs), folder, ("onnx",))
    print(*built.reports, *built.refusals, sep="\n", file=sys.stderr)
    write_vocabularies(folder, words.source, words.target)
    return TextModel.load_onnx(folder, NAME)


def features_of(found: Translated) -> tuple[float, ...]:
    """What the monitor records of one answer."""
    return sequence_features(found.source, found.hypothesis, found.unknown_rate)


def make_profile(model: TextModel, sentences: Sequence[str]) -> Profile:
    """Of answers to reference sentences."""
    return Profile.capture(NAMES, [features_of(one) for one in model.translate(sentences)])


def overhead(model: TextModel, sentences: Sequence[str], profile: Profile) -> dict[str, float]:
    """Microseconds of serving and of monitoring one request, and monitored beside plain requests.

    Plain and monitored requests of each sentence follow each other in turn; the direct figure is
    the monitor around an answer that is already there, drift tests included.
    """
    monitor = Monitor({"model": NAME}, profile=profile, window=WINDOW)

    def describe(found: list[Translated]) -> list[tuple[float, ...]]:
        return [features_of(one) for one in found]

    monitored = monitor.wrap(model.translate, describe)
    plain_times, ratios = [], []
    for number, sentence in enumerate(sentences):
        calls = (model.translate, monitored) if number % 2 else (monitored, model.translate)
        times = {}
        for call in calls:
            began = time.perf_counter()
            call([sentence])
            times[call is monitored] = time.perf_counter() - began
        plain_times.append(times[False])
        ratios.append(times[True] / times[False])
    answers = [model.translate([sentence]) for sentence in sentences[:50]]
    ready = monitor.wrap(lambda number: answers[number % 50], describe)
    costs = []
    for _ in range(7):
        began = time.perf_counter()
        for number in range(2 * WINDOW):
            ready(number)
        costs.append((time.perf_counter() - began) / (2 * WINDOW))
    served = statistics.median(plain_times)
    return {
        "served_us": 1e6 * served,
        "monitor_us": 1e6 * statistics.median(costs),
        "share": statistics.median(costs) / served,
        "side_by_side": statistics.median(ratios) - 1,
        "side_by_side_error": _error_of_median(ratios),
    }


def _error_of_median(values: Sequence[float]) -> float:
    """Half the width of a notch: two medians differ if theirs do not overlap (McGill 1978)."""
    low, high = np.percentile(values, [25, 75])
    return float(1.57 * (high - low) / len(values) ** 0.5)


def false_alarms(table: np.ndarray[Any, Any], windows: int) -> float:
    """Share of windows with an alarm: profile and window drawn anew from one table of answers.

    Drawn with replacement: the table stands for a distribution, of which both are samples.
    """
    dice = np.random.default_rng(0)
    alarms = 0
    for _ in range(windows):
        reference = table[dice.integers(0, len(table), 2000)]
        window = table[dice.integers(0, len(table), WINDOW)]
        profile = Profile.capture(NAMES, reference)  # type: ignore[arg-type]
        report = compare_windows(profile, dict(zip(NAMES, window.T, strict=True)), RATE)
        alarms += report.drifted
    return alarms / windows


def shifts(
    model: TextModel, sentences: Sequence[str], profile: Profile
) -> dict[str, tuple[bool, bool, str]]:
    """By kind of traffic: whether an alarm is right, whether there was one, and what it said."""
    pairs = [" ".join(two) for two in zip(sentences[::2], sentences[1::2], strict=False)]
    kinds = {
        "unshifted": (False, list(sentences)),
        "two sentences at once": (True, pairs),
        "all in capitals": (True, [sentence.upper() for sentence in sentences]),
        "one word in ten misspelled": (True, [_misspelled(s, n) for n, s in enumerate(sentences)]),
    }
    found = {}
    for kind, (expected, texts) in kinds.items():
        rows = np.array([features_of(one) for one in model.translate(texts[:WINDOW])])
        report = compare_windows(profile, dict(zip(NAMES, rows.T, strict=True)), RATE / 10)
        found[kind] = (expected, report.drifted, str(report))
    return found


def _misspelled(sentence: str, number: int) -> str:
    words = sentence.split(" ")
    return " ".join(w[::-1] if (number + i) % 10 == 0 else w for i, w in enumerate(words))


def main() -> int:
    """Measure, print, and say whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", help="as `holdfast demo --data`; the embedded corpus by default")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--windows", type=int, default=4000)
    parser.add_argument("--quick", action="store_true", help="150 requests, 1,000 windows")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.requests, options.windows = 150, 1000
    torch.set_num_threads(1)
    corpus = open_corpus(options.data, Direction.parse("de-en"), seed=0)
    held_out = [pair.source for pair in (*corpus.valid, *corpus.test)]
    reference, served = held_out[: len(held_out) // 2], held_out[len(held_out) // 2 :]
    with tempfile.TemporaryDirectory() as folder:
        model = serve_example(corpus, Path(folder))
        profile = make_profile(model, reference)
        cost = overhead(model, served[: options.requests], profile)
        found = shifts(model, served, profile)
        table = np.array([features_of(one) for one in model.translate(served)])
    rate = false_alarms(table, options.windows)
    allowed = RATE + 3 * (RATE * (1 - RATE) / options.windows) ** 0.5
    print(
        f"one sentence is served in {cost['served_us'] / 1000:.1f} ms, of which the monitor takes "
        f"{cost['monitor_us']:.0f} us; side by side {cost['side_by_side']:+.2%} +- "
        f"{cost['side_by_side_error']:.2%} (median of {options.requests} pairs)"
    )
    for kind, (_, drifted, text) in found.items():
        print(f"  {kind}: {'ALARM' if drifted else 'no alarm'}; {text}")
    right = all(expected == drifted for expected, drifted, _ in found.values())
    verdicts = (
        (cost["share"] < OVERHEAD_MAX, f"monitoring costs {cost['share']:.2%} (limit 1 %)"),
        (
            rate <= allowed,
            f"{rate:.2%} of {options.windows} windows raise false alarms (stated: at most "
            f"{RATE:.0%}; {allowed:.2%} with three standard errors)",
        ),
        (right, f"a window of {WINDOW}: shifted traffic is flagged, unshifted is not"),
    )
    for good, text in verdicts:
        print(f"{'PASS' if good else 'MISSED'}  {text}")
    if options.json:
        options.json.write_text(json.dumps({**cost, "false_alarm_rate": rate}, indent=2) + "\n")
    return 0 if all(good for good, _ in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
