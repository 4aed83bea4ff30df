"""The end of the demo: a release, and a translation from it without the code that trained."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from holdfast.demo.corpus import Direction
from holdfast.demo.dataset import Vocabularies
from holdfast.demo.judge import FinishedRun
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.plan import RunPlan
from holdfast.demo.shipping import ship
from holdfast.demo.sources import open_corpus
from holdfast.demo.training import checkpoint_config
from holdfast.demo.trial import TranslationTrial
from holdfast.export import About, verify_release
from holdfast.export.latency import Effort
from holdfast.manager import CheckpointManager


@pytest.mark.slow
@pytest.mark.xdist_group("export")
def test_a_model_is_released_and_used_without_its_code(tmp_path: Path) -> None:
    """The gate passes with identical tokens, and a fresh process translates from the files."""
    corpus = open_corpus("embedded", Direction.parse("de-en"), seed=1, pairs=100)
    words = Vocabularies.build(corpus)
    plan = RunPlan.for_budget(tmp_path, corpus.direction, minutes=1.0, seed=1, threads=1)
    torch.manual_seed(1)
    config = ModelConfig(
        len(words.source),
        len(words.target),
        width=16,
        feedforward_width=32,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        positions_max=64,
    )
    model = TranslationTransformer(config)
    manager = CheckpointManager(checkpoint_config(plan), model)
    saved = manager.save(0, 1, {"val_loss": 1.0}, model_config=config.to_dict())
    assert saved is not None
    trial = TranslationTrial(corpus.test, words)
    finished = FinishedRun(plan, corpus, words, manager, model, trial)
    file = io.StringIO()
    quick = Effort(rounds=5, warmup=0, seconds=0.1)
    made = ship(
        Console(file=file, width=160), finished, saved, About("tiny"), ["onnx"], effort=quick
    )
    text = file.getvalue()
    for wanted in (
        "Release",
        "onnx translate-step: passed on",
        "smaller than a checkpoint of the training",
        "Time to decode, side by side",
        "(the same as in training code)",
        "imported of torch and the training code: nothing",
    ):
        assert wanted in text, text
    assert not verify_release(made.path).damaged
    (check,) = json.loads((made.path / "card.json").read_text())["artifacts"][0]["checks"]
    assert check["data"]["greedy different"] == 0
    assert check["data"]["beam of 4 different"] == 0
