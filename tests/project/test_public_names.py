"""The public surface, by name."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import holdfast
from holdfast import (
    CheckpointConfig,
    CheckpointManager,
    EMAModel,
    ModelExporter,
    ModelSelector,
    resume_training,
)


def test_the_public_names_are_exactly_these() -> None:
    """A name is added to or taken from the package on purpose only."""
    assert holdfast.__all__ == [
        "AtExit",
        "AtSteps",
        "CheckpointConfig",
        "CheckpointManager",
        "ConstantDecay",
        "EMAModel",
        "EarlyStopper",
        "EarlyStopping",
        "EveryEpochs",
        "EverySeconds",
        "EverySteps",
        "HalfLife",
        "KeepAll",
        "KeepAtMostBytes",
        "KeepBest",
        "KeepEMASnapshots",
        "KeepEverySeconds",
        "KeepEverySteps",
        "KeepLast",
        "KeepPinned",
        "KeepUnscored",
        "KeepWithin",
        "Measurement",
        "ModelEnsemble",
        "ModelExporter",
        "ModelSelector",
        "OnRequest",
        "Plateau",
        "PowerFunction",
        "ResumableLoader",
        "ResumableSampler",
        "ResumeReport",
        "WhenAbove",
        "WhenBelow",
        "WhenImproves",
        "average",
        "greedy_soup",
        "resumable",
        "resume_training",
        "select_model",
        "sweep_ema",
        "uniform_soup",
        "write_chosen",
    ]
    for name in holdfast.__all__:
        assert getattr(holdfast, name).__doc__


def test_the_configuration_begins_with_the_fields_of_the_original() -> None:
    """Positional use of the original configuration class goes on working, with its defaults."""
    fields = [(field.name, field.default) for field in dataclasses.fields(CheckpointConfig)]
    assert fields[:7] == [
        ("checkpoint_dir", "checkpoints"),
        ("save_total_limit", 5),
        ("save_best_only", False),
        ("metric_name", "val_loss"),
        ("metric_mode", "min"),
        ("save_optimizer", True),
        ("save_rng_state", True),
    ]


def test_the_signatures_begin_with_those_of_the_original() -> None:
    """Calls written for the original classes bind, positionally and by name."""
    calls: list[tuple[Callable[..., Any], str]] = [
        (CheckpointManager.__init__, "self config model optimizer scheduler scaler"),
        (CheckpointManager.save, "self epoch step metrics model_config extra_state"),
        (CheckpointManager.load, "self checkpoint_path load_optimizer load_rng_state"),
        (EMAModel.__init__, "self model decay device"),
        (resume_training, "checkpoint_path model optimizer scheduler scaler"),
        (ModelSelector.average_checkpoints, "checkpoints model"),
        (ModelSelector.select_top_k_by_metric, "checkpoints metric_name mode k"),
        (
            ModelExporter.export_inference_checkpoint,
            "checkpoint_path output_path include_config",
        ),
    ]
    for function, wanted in calls:
        assert list(inspect.signature(function).parameters)[: len(wanted.split())] == wanted.split()


def test_importing_the_package_and_its_command_line_does_not_import_torch() -> None:
    """Everything that reads only manifests starts without torch and without optional extras."""
    code = (
        "import sys, holdfast, holdfast.cli, holdfast.policy, holdfast.manifest, holdfast.storage\n"
        "extras = {'torch', 'sacrebleu', 'babel', 'safetensors', 'jinja2', 'vl_convert'}\n"
        "heavy = extras & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
