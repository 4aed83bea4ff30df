"""The end of the demo: every way to get a model out of the run, on the test set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from holdfast import CheckpointManager, select_model, sweep_ema
from holdfast.demo.corpus import Corpus
from holdfast.demo.dataset import Vocabularies
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.plan import RunPlan
from holdfast.demo.training import checkpoint_config, retention_rule
from holdfast.demo.trial import TranslationTrial, evaluate_state
from holdfast.errors import ConfigError
from holdfast.posthoc import Sweep
from holdfast.selection import Selection, build_candidate
from holdfast.stats import SufficientStatistics

SWEPT_LENGTHS = (0.03, 0.05, 0.075, 0.10, 0.15)
_SWEEP_ERROR_MAX = 0.15
_SAMPLES = 4


@dataclass(frozen=True)
class FinishedRun:
    """A run to read: its checkpoints, its corpus, and how candidates are scored on the test set."""

    plan: RunPlan
    corpus: Corpus
    vocabularies: Vocabularies
    manager: CheckpointManager
    model: TranslationTransformer
    trial: TranslationTrial

    @classmethod
    def open(cls, plan: RunPlan, corpus: Corpus) -> FinishedRun:
        """Build the objects the plan's checkpoints fit, without an optimizer."""
        vocabularies = Vocabularies.build(corpus)
        model = TranslationTransformer(
            ModelConfig(len(vocabularies.source), len(vocabularies.target))
        )
        manager = CheckpointManager(checkpoint_config(plan), model, retention=retention_rule(plan))
        manager.register("source_vocabulary", vocabularies.source)
        manager.register("target_vocabulary", vocabularies.target)
        trial = TranslationTrial(corpus.test, vocabularies)
        return cls(plan, corpus, vocabularies, manager, model, trial)

    @property
    def folder(self) -> Path:
        """The folder of the checkpoints."""
        return Path(self.plan.checkpoints)

    def select(self, tell: Callable[[str], None]) -> Selection:
        """Compare the candidates on the test sentences; the outcome is not saved yet.

        tell: told what is being done.
        """
        return select_model(self.folder, self.trial, save=False, progress=tell)

    def sweep(self) -> Sweep | None:
        """EMAs of several lengths on the development sentences; None if there are too few stored.

        The test sentences choose among candidates once; to choose a length on them as well would
        flatter it.
        """
        trial = TranslationTrial(
            self.corpus.valid[: self.plan.dev_sentences], self.vocabularies, beam_size=1
        )

        def evaluate(state: Mapping[str, Any]) -> SufficientStatistics:
            return evaluate_state(trial, self.model, state)

        try:
            return sweep_ema(
                self.folder, evaluate, SWEPT_LENGTHS, max_error=_SWEEP_ERROR_MAX, together=5
            )
        except ConfigError:
            return None

    def sampled(self, selection: Selection) -> Selection:
        """The selection with what each candidate makes of a few test sentences."""
        count = len(self.corpus.test)
        chosen = sorted({number * count // _SAMPLES for number in range(_SAMPLES)})
        pairs = [self.corpus.test[index] for index in chosen]
        outputs = {
            row.name: self.trial.translate(
                build_candidate(row, self.trial), [pair.source for pair in pairs]
            )
            for row in selection.rows
        }
        samples = tuple(
            {
                "source": pair.source,
                "reference": pair.target,
                "outputs": {name: texts[place] for name, texts in outputs.items()},
            }
            for place, pair in enumerate(pairs)
        )
        return replace(selection, samples=samples)
