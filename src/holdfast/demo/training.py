"""The training run of the demo: an ordinary loop around a `CheckpointManager`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from holdfast import (
    CheckpointConfig,
    CheckpointManager,
    EMAModel,
    KeepBest,
    KeepEMASnapshots,
    KeepLast,
    PowerFunction,
    ResumableLoader,
)
from holdfast.demo.batches import BucketedBatches
from holdfast.demo.clock import TrainingClock
from holdfast.demo.corpus import Direction
from holdfast.demo.corpus_files import read_corpus
from holdfast.demo.dataset import Batch, EncodedPairs, Vocabularies, collate
from holdfast.demo.events import Evaluated, Event, Finished, Saved, Started, Stepped
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.plan import RunPlan
from holdfast.demo.score import bleu, mean_loss
from holdfast.demo.translate import translate
from holdfast.demo.vocab import PAD
from holdfast.policy import Retention
from holdfast.values import SaveReason

METRIC, FURTHER_METRIC = "val_loss", "val_bleu"
# Two widths, from which an EMA of any other can be made after training.
EMA_WIDTHS = (0.05, 0.10)
_GRADIENT_NORM_MAX = 1.0


class InverseSqrt:
    """Learning-rate factor: linear warm-up, then falling with the square root of the step.

    arXiv 1706.03762, 5.3, scaled to be 1 at the end of the warm-up.
    """

    def __init__(self, warmup_steps: int) -> None:
        self.warmup_steps = warmup_steps

    def __call__(self, step: int) -> float:
        """The factor for optimizer step `step`, counted from 0."""
        done = step + 1
        return min(done / self.warmup_steps, math.sqrt(self.warmup_steps / done))


def checkpoint_config(plan: RunPlan) -> CheckpointConfig:
    """How this run keeps its checkpoints, for the worker and for whoever reads them later."""
    return CheckpointConfig(
        checkpoint_dir=plan.checkpoints,
        save_total_limit=plan.save_total_limit,
        metric_name=METRIC,
        metric_mode="min",
        track={FURTHER_METRIC: "max"},
        progress=False,
    )


def retention_rule(plan: RunPlan) -> Retention:
    """The newest, those that are averaged at the end, and snapshots of the EMAs over the run."""
    return (
        KeepLast(plan.save_total_limit)
        | KeepBest(plan.averaged, METRIC, mode="min")
        | KeepEMASnapshots(plan.ema_snapshots)
    )


class TrainingRun:
    """Everything one worker needs, built from its plan and put where the last one stood.

    emit: called with every event. Construction seeds torch; `train` resumes and runs to the end.
    """

    def __init__(self, plan: RunPlan, emit: Callable[[Event], None]) -> None:
        self.plan = plan
        self._emit = emit
        corpus = read_corpus(Path(plan.corpus), Direction.parse(plan.direction))
        self._dev = corpus.valid[: plan.dev_sentences]
        self._vocabularies = Vocabularies.build(corpus)
        self._dev_pairs = EncodedPairs(self._dev, self._vocabularies)
        pairs = EncodedPairs(corpus.train, self._vocabularies)
        torch.manual_seed(plan.seed)
        self.model = TranslationTransformer(
            ModelConfig(len(self._vocabularies.source), len(self._vocabularies.target))
        )
        self._optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98), fused=True
        )
        self._scheduler = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, InverseSqrt(plan.warmup_steps)
        )
        batches = BucketedBatches(
            pairs.lengths, tokens_per_batch=plan.tokens_per_batch, seed=plan.seed
        )
        self._loader = ResumableLoader(
            pairs, batch_sampler=batches, collate_fn=collate, seed=plan.seed
        )
        self._clock = TrainingClock(plan.budget_seconds, step_seconds=plan.step_seconds)
        self._ema = EMAModel(self.model, [PowerFunction(width) for width in EMA_WIDTHS])
        self._ema.attach(self._optimizer)
        self.manager = CheckpointManager(
            checkpoint_config(plan),
            self.model,
            self._optimizer,
            self._scheduler,
            retention=retention_rule(plan),
        )
        self.manager.register("ema", self._ema)
        self.manager.register("batches", self._loader)
        self.manager.register("clock", self._clock)
        self.manager.register("source_vocabulary", self._vocabularies.source)
        self.manager.register("target_vocabulary", self._vocabularies.target)
        self._step = 0
        self._saved_step = -1
        self._losses: list[float] = []

    def train(self) -> None:
        """Resume, train until the time budget is used up, and save a last time."""
        report = self.manager.resume(verbose=False)
        self._step = report.global_step
        self._saved_step = -1 if report.fresh else self._step
        self._emit(
            Started(
                fresh=report.fresh,
                step=self._step,
                seconds=self._clock.seconds,
                checklist=report.checklist,
                sentences=len(self._loader.dataset),
                parameters=sum(p.numel() for p in self.model.parameters()),
            )
        )
        self.model.train()
        self._clock.start()
        while not self._clock.over:
            self._train_epoch()
        if self._saved_step != self._step:
            self._save(SaveReason("end", "the time budget is used up"), self._evaluate())
        self._emit(Finished(self._step, self._clock.seconds))

    def _train_epoch(self) -> None:
        """The rest of the current epoch, or of the budget."""
        for batch in self._loader:
            before = self._clock.seconds
            loss = self._learn(batch)
            self._clock.tick()
            self._emit(
                Stepped(
                    self._step, self._loader.epoch, loss, batch.target_tokens, self._clock.seconds
                )
            )
            self._save_if_due(before)
            if self._clock.over:
                break

    def _learn(self, batch: Batch) -> float:
        """One optimizer step; returns the loss in nats per token."""
        logits = self.model(batch.source, batch.target_in)
        loss = cross_entropy(
            logits.flatten(0, 1),
            batch.target_out.flatten(),
            ignore_index=PAD,
            label_smoothing=self.plan.label_smoothing,
        )
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _GRADIENT_NORM_MAX)
        self._optimizer.step()
        self._scheduler.step()
        self._step += 1
        value = loss.item()
        self._losses.append(value)
        return value

    def _save_if_due(self, before_seconds: float) -> None:
        plan, clock = self.plan, self._clock
        if clock.over:
            return
        if clock.passed(plan.evaluate_every_seconds, before_seconds):
            text = f"every {plan.evaluate_every_seconds:g} s, with an evaluation"
            self._save(SaveReason("evaluation", text), self._evaluate())
        elif clock.passed(plan.save_every_seconds, before_seconds):
            self._save(SaveReason("time", f"every {plan.save_every_seconds:g} s"), {})
        elif self._step % plan.save_every_steps == 0:
            self._save(SaveReason("step", f"every {plan.save_every_steps} steps"), {})

    def _evaluate(self) -> Mapping[str, float]:
        with self._clock.paused():
            sources = [pair.source for pair in self._dev]
            translations = translate(self.model, self._vocabularies, sources)
            metrics = {
                METRIC: mean_loss(self.model, self._dev_pairs),
                FURTHER_METRIC: bleu(translations, [pair.target for pair in self._dev]),
            }
            self._emit(Evaluated(self._step, metrics[METRIC], metrics[FURTHER_METRIC]))
        return metrics

    def _save(self, reason: SaveReason, metrics: Mapping[str, float]) -> None:
        with self._clock.paused():
            started = time.perf_counter()
            path = self.manager.save(
                self._loader.epoch,
                self._step,
                {**self._train_loss(), **metrics},
                model_config=self.model.config.to_dict(),
                reason=reason,
            )
            self._losses.clear()
            self._saved_step = self._step
            name = path.name if path is not None else ""
            self._emit(Saved(self._step, name, reason.text, time.perf_counter() - started))

    def _train_loss(self) -> Mapping[str, float]:
        """The mean loss since the last save."""
        return {"train_loss": sum(self._losses) / len(self._losses)} if self._losses else {}
