"""How sure one may be that one model is better than another: pure numpy, deterministic by seed.

Make `SufficientStatistics` once per system (`mean_scores` for any per-example score, `bleu` and
`chrf` for translation), then `estimate` one, `compare` two, `compare_to_baseline` several, or ask
for the `best_of` them.
"""

from __future__ import annotations

from holdfast.stats._aggregates import aggregate_of, aggregate_record
from holdfast.stats._resampling import resample_scores
from holdfast.stats.best_of import best_of, expected_maximum
from holdfast.stats.bootstrap import estimate, paired_bootstrap
from holdfast.stats.compare import compare, compare_to_baseline
from holdfast.stats.mt import CorpusMetric, bleu, chrf, corpus_bleu, corpus_chrf
from holdfast.stats.multiple import holm
from holdfast.stats.randomisation import approximate_randomisation
from holdfast.stats.records import (
    BestOf,
    Comparison,
    Estimate,
    Interval,
    PairedBootstrap,
    RandomisationTest,
    Standing,
)
from holdfast.stats.sufficient import (
    Aggregate,
    SufficientStatistics,
    mean_scores,
    require_comparable,
)

__all__ = [
    "Aggregate",
    "BestOf",
    "Comparison",
    "CorpusMetric",
    "Estimate",
    "Interval",
    "PairedBootstrap",
    "RandomisationTest",
    "Standing",
    "SufficientStatistics",
    "aggregate_of",
    "aggregate_record",
    "approximate_randomisation",
    "best_of",
    "bleu",
    "chrf",
    "compare",
    "compare_to_baseline",
    "corpus_bleu",
    "corpus_chrf",
    "estimate",
    "expected_maximum",
    "holm",
    "mean_scores",
    "paired_bootstrap",
    "require_comparable",
    "resample_scores",
]
