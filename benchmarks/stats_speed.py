"""How much faster holdfast's paired tests are than sacrebleu's, with the same answers.

3,000 made-up sentences and two systems, corpus BLEU. Three comparisons, each run in turn with its
counterpart so that both see the same noise of the machine; the figure is the median of the ratios:

    bootstrap       1,000 resamples, statistics already extracted on both sides; p-value of the
                    difference and an interval for each system, as sacrebleu reports them
    randomisation   1,000 trials, statistics already extracted on both sides
    from text       two systems from strings to both tests; sacrebleu's extraction is in both times

Run `python benchmarks/stats_speed.py --repeats 5 --json result.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sacrebleu
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from holdfast.stats import approximate_randomisation, bleu, paired_bootstrap

SENTENCES = 3_000
RESAMPLES = 1_000


class ExtractedBleu(BLEU):
    """sacrebleu's BLEU with the extraction taken out: each system's statistics are looked up."""

    def __init__(self, rows_of: dict[int, list[list[int]]], references: list[list[str]]) -> None:
        super().__init__(references=references)
        self._rows_of = rows_of

    def _extract_corpus_statistics(self, hypotheses: Any, references: Any) -> Any:
        return self._rows_of[id(hypotheses)]


def make_corpus(seed: int) -> tuple[list[str], list[str], list[str]]:
    """References and two systems that differ in most sentences but little in quality."""
    dice = random.Random(seed)
    words = [f"word{index}" for index in range(800)]
    references = [" ".join(dice.choices(words, k=dice.randint(4, 45))) for _ in range(SENTENCES)]

    def translated(error_rate: float) -> list[str]:
        return [
            " ".join(
                dice.choice(words) if dice.random() < error_rate else word for word in line.split()
            )
            for line in references
        ]

    return references, translated(0.300), translated(0.296)


def sacrebleu_test(
    kind: str, metric: BLEU, systems: Sequence[list[str]], references: list[list[str]] | None
) -> float:
    """p-value of sacrebleu's paired test: kind "bs" (bootstrap) or "ar" (randomisation)."""
    named: list[tuple[str, Sequence[str]]] = [("baseline", systems[0]), ("candidate", systems[1])]
    test = PairedTest(named, {"BLEU": metric}, references, kind, n_samples=RESAMPLES)
    result: Any = test()[1]["BLEU"][1]
    return float(result.p_value)


def interleaved(
    theirs: Callable[[], object], ours: Callable[[], object], repeats: int
) -> dict[str, Any]:
    """Seconds of each, run in turn after one warm-up, and the ratios."""
    theirs(), ours()
    seconds: list[tuple[float, float]] = []
    for _ in range(repeats):
        begun = time.perf_counter()
        theirs()
        between = time.perf_counter()
        ours()
        seconds.append((between - begun, time.perf_counter() - between))
    ratios = [a / b for a, b in seconds]
    return {
        "sacrebleu_seconds": statistics.median(a for a, _ in seconds),
        "holdfast_seconds": statistics.median(b for _, b in seconds),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def measure(repeats: int, seed: int) -> dict[str, Any]:
    """All comparisons, with the p-values and interval widths of both sides."""
    references, first, second = make_corpus(seed)
    plain = BLEU()
    rows = {
        id(lines): plain._extract_corpus_statistics(lines, [references])
        for lines in (first, second)
    }
    extracted = ExtractedBleu(rows, [references])
    prepared = bleu(references)
    a, b = prepared.statistics(first), prepared.statistics(second)

    def from_text_ours() -> None:
        metric = bleu(references)
        fresh = metric.statistics(first), metric.statistics(second)
        paired_bootstrap(*fresh, resamples=RESAMPLES)
        approximate_randomisation(*fresh, trials=RESAMPLES)

    def from_text_theirs() -> None:
        sacrebleu_test("bs", BLEU(), (first, second), [references])
        sacrebleu_test("ar", BLEU(), (first, second), [references])

    results = {
        "bootstrap": interleaved(
            lambda: sacrebleu_test("bs", extracted, (first, second), None),
            lambda: paired_bootstrap(a, b, resamples=RESAMPLES),
            repeats,
        ),
        "randomisation": interleaved(
            lambda: sacrebleu_test("ar", extracted, (first, second), None),
            lambda: approximate_randomisation(a, b, trials=RESAMPLES),
            repeats,
        ),
        "from text": interleaved(from_text_theirs, from_text_ours, repeats),
    }
    answers = {
        "bleu": [a.score, b.score],
        "sacrebleu_randomisation_p": sacrebleu_test("ar", extracted, (first, second), None),
        "holdfast_randomisation_p": approximate_randomisation(a, b, trials=RESAMPLES).p_value,
    }
    return {"results": results, "answers": answers}


def main() -> None:
    """Measure, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    report = measure(options.repeats, options.seed)
    report["setting"] = {
        "sentences": SENTENCES,
        "resamples": RESAMPLES,
        "repeats": options.repeats,
        "seed": options.seed,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "sacrebleu": sacrebleu.__version__,
        "machine": platform.machine(),
    }
    for name, row in report["results"].items():
        print(
            f"{name:14} sacrebleu {row['sacrebleu_seconds']:7.3f} s   "
            f"holdfast {row['holdfast_seconds']:7.3f} s   ratio {row['ratio']:5.1f} "
            f"({row['ratio_min']:.1f} to {row['ratio_max']:.1f})"
        )
    print(json.dumps(report["answers"]))
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
