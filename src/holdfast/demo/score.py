"""Quality while training: BLEU by sacreBLEU, and the model's own loss.

BLEU: Papineni et al., "Bleu: a Method for Automatic Evaluation of Machine Translation", 2002, in
the comparable form of Post, "A Call for Clarity in Reporting BLEU Scores", arXiv 1804.08771.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sacrebleu.metrics.bleu import BLEU
from torch.nn.functional import cross_entropy

from holdfast.demo.dataset import EncodedPairs, collate
from holdfast.demo.model import TranslationTransformer
from holdfast.demo.vocab import PAD

_BATCH_SENTENCES = 128


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU, 0 to 100, with sacreBLEU's defaults (13a tokens, mixed case)."""
    return float(BLEU().corpus_score(list(translations), [list(references)]).score)


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
