"""Translation quality: BLEU and chrF by sacreBLEU, and the model's own loss.

BLEU: Papineni et al., "Bleu: a Method for Automatic Evaluation of Machine Translation", 2002, in
the comparable form of Post, "A Call for Clarity in Reporting BLEU Scores", arXiv 1804.08771. chrF:
Popovic, "chrF: character n-gram F-score for automatic MT evaluation", 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from torch.nn.functional import cross_entropy

from holdfast.demo.dataset import EncodedPairs, collate
from holdfast.demo.model import TranslationTransformer
from holdfast.demo.vocab import PAD

_RESAMPLES = 1000
_BATCH_SENTENCES = 128


@dataclass(frozen=True)
class Score:
    """A score of a whole test set. half_width: of its 95 % interval, by bootstrap resampling."""

    value: float
    half_width: float
    signature: str

    def __str__(self) -> str:
        return f"{self.value:.1f} ± {self.half_width:.1f}"


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU, 0 to 100, with sacreBLEU's defaults (13a tokens, mixed case)."""
    return float(BLEU().corpus_score(list(translations), [list(references)]).score)


def score_bleu(translations: Sequence[str], references: Sequence[str]) -> Score:
    """Corpus BLEU with its interval and signature."""
    return _with_interval(BLEU(), translations, references)


def score_chrf(translations: Sequence[str], references: Sequence[str]) -> Score:
    """Corpus chrF2 with its interval and signature."""
    return _with_interval(CHRF(), translations, references)


def mean_loss(model: TranslationTransformer, pairs: EncodedPairs) -> float:
    """Cross-entropy in nats per target token, end marks included, without label smoothing.

    The model is left in the mode, training or evaluation, that it was in.
    """
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0
    by_length = sorted(range(len(pairs)), key=pairs.lengths.__getitem__)
    with torch.inference_mode():
        for start in range(0, len(by_length), _BATCH_SENTENCES):
            batch = collate([pairs[i] for i in by_length[start : start + _BATCH_SENTENCES]])
            logits = model(batch.source, batch.target_in)
            total += float(
                cross_entropy(
                    logits.flatten(0, 1),
                    batch.target_out.flatten(),
                    ignore_index=PAD,
                    reduction="sum",
                )
            )
            tokens += batch.target_tokens
    model.train(was_training)
    return total / tokens if tokens else float("nan")


def _with_interval(
    metric: BLEU | CHRF, translations: Sequence[str], references: Sequence[str]
) -> Score:
    found = metric.corpus_score(list(translations), [list(references)], n_bootstrap=_RESAMPLES)
    return Score(found.score, found._ci, str(metric.get_signature()))
