"""The end of the demo: the best checkpoints on the test set, which nothing was chosen by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from holdfast import CheckpointManager
from holdfast.demo.corpus import Corpus
from holdfast.demo.dataset import Vocabularies
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.plan import RunPlan
from holdfast.demo.score import Score, score_bleu, score_chrf
from holdfast.demo.training import FURTHER_METRIC, METRIC, checkpoint_config
from holdfast.demo.translate import translate

BEAM_SIZE = 4


@dataclass(frozen=True)
class Candidate:
    """One checkpoint on the test set. chosen_by: the metrics it is the best by."""

    path: Path
    global_step: int
    chosen_by: tuple[str, ...]
    greedy: Score
    beam: Score
    chrf: Score
    translations: list[str]


@dataclass(frozen=True)
class FinishedRun:
    """A run to read: its checkpoints, and a model to load them into."""

    manager: CheckpointManager
    model: TranslationTransformer
    vocabularies: Vocabularies

    @classmethod
    def open(cls, plan: RunPlan, corpus: Corpus) -> FinishedRun:
        """Build the objects the plan's checkpoints fit, without an optimizer."""
        vocabularies = Vocabularies.build(corpus)
        model = TranslationTransformer(
            ModelConfig(len(vocabularies.source), len(vocabularies.target))
        )
        manager = CheckpointManager(checkpoint_config(plan), model)
        manager.register("source_vocabulary", vocabularies.source)
        manager.register("target_vocabulary", vocabularies.target)
        return cls(manager, model, vocabularies)

    def judge_best(self, corpus: Corpus) -> list[Candidate]:
        """Score the best checkpoint by each metric on the test sentences, each one once."""
        chosen: dict[str, list[str]] = {}
        for metric in (FURTHER_METRIC, METRIC):
            path = self.manager.get_best_checkpoint(metric)
            if path is not None:
                chosen.setdefault(path.name, []).append(metric)
        return [self._judge(corpus, tuple(metrics)) for metrics in chosen.values()]

    def _judge(self, corpus: Corpus, metrics: tuple[str, ...]) -> Candidate:
        loaded = self.manager.load_best(
            metric=metrics[0], load_optimizer=False, load_rng_state=False
        )
        sources = [pair.source for pair in corpus.test]
        references = [pair.target for pair in corpus.test]
        greedy = translate(self.model, self.vocabularies, sources)
        beam = translate(self.model, self.vocabularies, sources, beam_size=BEAM_SIZE)
        return Candidate(
            path=Path(str(loaded.path)),
            global_step=loaded["global_step"],
            chosen_by=metrics,
            greedy=score_bleu(greedy, references),
            beam=score_bleu(beam, references),
            chrf=score_chrf(beam, references),
            translations=beam,
        )
