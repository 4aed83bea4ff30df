"""The folder that every example in a help page runs in.

    runs/translate      six checkpoints with val_loss and val_bleu; one of step 500 was deleted
    runs/ema            three checkpoints with two EMAs each
    trial.py            `make`: how the models of both are built and scored
    old.pt              a file of the original layout
    wrapped.pt          weights of the model in train.py, with every name prefixed
    train.py            build(folder) for rehearsals, make_model() for the key doctor
    releases/1.0.0      its weights, released without a compiled format
    runs/large          one checkpoint of a model that two ranks saved together

A command whose examples need more adds it here. The hostile world has the same paths, but names,
metrics, reasons and values in it are chosen to do harm on a terminal.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from holdfast import CheckpointConfig, CheckpointManager, EMAModel, PowerFunction
from holdfast.convert import export_original
from holdfast.export import About, Axis, Input, Signature, exportable, release
from holdfast.session import LiveObjects
from holdfast.stats import SufficientStatistics, mean_scores
from holdfast.values import SaveReason

sys.path.append(str(Path(__file__).parents[1] / "ranks"))

from sharded_runs import save_sharded

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e<script>alert(1)</script>\r\x7f\t&amp;"
HUGE = "A" * 100_000

_TRAIN = """
import torch
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager


def make_model():
    model = nn.Module()
    model.encoder = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    model.decoder = nn.Linear(8, 8)
    model.head = nn.Linear(8, 8, bias=False)
    return model


def build(folder):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    config = CheckpointConfig(folder, progress=False, provenance=False)

    def step():
        loss = model(torch.randn(3, 4)).square().mean()
        weight, bias = torch.autograd.grad(loss, [model.weight, model.bias])
        with torch.no_grad():
            model.weight -= 0.1 * weight
            model.bias -= 0.1 * bias
        return loss

    return CheckpointManager(config, model), step
"""


class Translator(nn.Module):
    """Small, with a buffer and a tie. evil: one more parameter, of that name."""

    def __init__(self, evil: str | None = None) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.decoder = nn.Linear(8, 8)
        self.head = nn.Linear(8, 8, bias=False)
        self.head.weight = self.decoder.weight
        if evil is not None:
            self.register_parameter(evil, nn.Parameter(torch.zeros(3)))

    def forward(self, features: Tensor) -> Tensor:
        """Something to differentiate."""
        out: Tensor = self.head(self.decoder(self.encoder(features)))
        return out


class Trial:
    """How the models here are built and scored; see `holdfast.selection.Evaluation`."""

    identity = "the trial of the examples"

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        self.features = torch.randn(32, 8, generator=generator)

    def build(self, config: dict[str, Any]) -> nn.Module:
        """A translator, with the evil parameter where the configuration has it."""
        return Translator(EVIL.replace(".", "") if len(config) > 1 else None)

    def evaluate(self, model: Any) -> SufficientStatistics:
        """How small its answers are."""
        sizes = model(self.features).square().mean(1)
        return mean_scores(sizes.tolist(), name="size", higher_is_better=False)

    def request(self, model: Any) -> object:
        """One row."""
        return model(self.features[:1])


def make_world(folder: Path, *, hostile: bool = False) -> None:
    """Fill `folder` with what the examples name."""
    torch.manual_seed(0)
    _translate(folder / "runs" / "translate", hostile)
    _averaged(folder / "runs" / "ema", hostile)
    (folder / "trial.py").write_text("from cli_world import Trial as make\n")
    newest = folder / "runs" / "translate" / "latest"
    export_original(newest, folder / "old.pt")
    _release(newest, folder / "releases" / "1.0.0", hostile)
    weights = Translator(_evil_name() if hostile else None).state_dict()
    torch.save({f"net.{name}": tensor for name, tensor in weights.items()}, folder / "wrapped.pt")
    (folder / "train.py").write_text(_TRAIN)
    save_sharded(
        folder / "runs" / "large", 2, LiveObjects(Translator(_evil_name() if hostile else None))
    )


def _release(checkpoint: Path, place: Path, hostile: bool) -> None:
    model = Translator(EVIL.replace(".", "") if hostile else None)
    signature = Signature((Input("features", (Axis("batch", 1, 4), 8)),))
    about = About(EVIL + HUGE if hostile else "translator")
    release(exportable(model, signature), place, weights=checkpoint, formats=["pt"], about=about)


def _evil_name() -> str:
    """A name that modules take."""
    return EVIL.replace(".", "")


def _translate(run: Path, hostile: bool) -> None:
    model = Translator(_evil_name() if hostile else None)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    config = CheckpointConfig(
        str(run), save_total_limit=6, track={"val_bleu": "max"}, progress=False, provenance=False
    )
    evil = {EVIL: 1.0, HUGE: float("nan")} if hostile else {}
    with CheckpointManager(config, model, optimizer, scheduler) as manager:
        manager.save(0, 500, {"val_loss": 3.0, "val_bleu": 1.0})
        for epoch in range(1, 7):
            model(torch.randn(4, 8)).square().sum().backward()
            optimizer.step()
            scheduler.step()
            metrics = {"val_loss": 2.0 - 0.1 * epoch, "val_bleu": 10.0 + epoch % 5, **evil}
            manager.save(
                epoch,
                1000 * epoch,
                metrics,
                model_config={"d_model": 8, **({EVIL: HUGE} if hostile else {})},
                extra_state={EVIL: [EVIL, HUGE]} if hostile else None,
                reason=SaveReason("manual", f"{EVIL}{HUGE}") if hostile else None,
            )
        manager.pin(2000, EVIL + HUGE if hostile else "reported in the paper")
        manager.record(3000, {"test_bleu": 12.5})


def _averaged(run: Path, hostile: bool) -> None:
    model = Translator(EVIL.replace(".", "") if hostile else None)
    ema = EMAModel(model, [PowerFunction(0.05), PowerFunction(0.10)])
    config = CheckpointConfig(str(run), progress=False, provenance=False)
    with CheckpointManager(config, model) as manager:
        manager.register("ema", ema)
        for step in range(1, 4):
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(0.1)
            ema.update()
            found = {"d_model": 8, **({EVIL: HUGE} if hostile else {})}
            manager.save(0, step, {"val_loss": 1.0 / step}, model_config=found)
