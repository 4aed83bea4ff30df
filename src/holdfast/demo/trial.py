"""The test set as `holdfast.select_model` wants it, and the development set for EMA lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from holdfast.demo.corpus import Pair
from holdfast.demo.dataset import Vocabularies
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.translate import translate
from holdfast.digest import digest_bytes
from holdfast.jsontext import Json, dump
from holdfast.stats import SufficientStatistics, bleu

BEAM_SIZE = 4

Transformers = Sequence[TranslationTransformer]


class TranslationTrial:
    """Translate sentences and score them by BLEU; see `holdfast.selection.Evaluation`."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        vocabularies: Vocabularies,
        *,
        beam_size: int = BEAM_SIZE,
    ) -> None:
        self._vocabularies = vocabularies
        self._beam_size = beam_size
        self._sources = [pair.source for pair in pairs]
        self._metric = bleu([pair.target for pair in pairs])
        facts: list[Json] = [
            self._sources,
            [vocabularies.source.pieces, vocabularies.target.pieces],
            [self._metric.test_set, self._metric.signature, beam_size],
        ]
        self.identity = f"holdfast-demo {digest_bytes(dump(facts))}"

    def build(self, config: Any) -> nn.Module:
        """The Transformer of a checkpoint's `model_config`."""
        return TranslationTransformer(ModelConfig.from_dict(config))

    def ensemble(self, models: Transformers) -> Transformers:
        """Several models decode together; see `translate`."""
        return tuple(models)

    def evaluate(self, model: Any) -> SufficientStatistics:
        """BLEU on the sentences, by beam search."""
        return self._metric.statistics(self.translate(model, self._sources))

    def request(self, model: Any) -> list[str]:
        """One sentence of middling length."""
        by_length = sorted(self._sources, key=len)
        return self.translate(model, [by_length[len(by_length) // 2]])

    def translate(self, model: Any, sentences: Sequence[str]) -> list[str]:
        """Translate with one model, or with several as an ensemble."""
        return translate(model, self._vocabularies, sentences, beam_size=self._beam_size)


def evaluate_state(
    trial: TranslationTrial, model: TranslationTransformer, state: Mapping[str, Tensor]
) -> SufficientStatistics:
    """Score a state dict, as `holdfast.sweep_ema` asks for; the model takes it on."""
    model.load_state_dict(dict(state))
    return trial.evaluate(model.eval())
