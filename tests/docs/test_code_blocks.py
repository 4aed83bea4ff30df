"""Code in the documentation runs, and the commands and links in it exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from holdfast import CheckpointConfig, CheckpointManager, ResumableLoader
from holdfast.cli.app import app
from holdfast.demo.model import ModelConfig, TranslationTransformer

ROOT = Path(__file__).parents[2]
CONTINUED = {"serving.md", "shipping.md"}
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def programs(page: Path) -> list[str]:
    """Its Python blocks; those of a page where each goes on from the one before, as one."""
    found = blocks(page, "python")
    return ["\n".join(found)] if page.name in CONTINUED else found


PYTHON = [
    pytest.param(code, id=f"{page.relative_to(ROOT)}:{index}")
    for page in PAGES
    for index, code in enumerate(programs(page))
]


def surroundings() -> dict[str, Any]:
    """The names that the examples take for granted: a model and what trains it."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    data = [(torch.randn(4), torch.randn(2)) for _ in range(8)]
    loader = ResumableLoader(data, batch_size=4, shuffle=True, seed=0)

    def train_one_epoch(*_: object) -> None:
        for features, targets in loader:
            optimizer.zero_grad()
            loss: Any = nn.functional.mse_loss(model(features), targets)
            loss.backward()
            optimizer.step()
            scheduler.step()

    return {
        "model": model,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "loader": loader,
        "train_one_epoch": train_one_epoch,
        "epochs": 2,
        "optimizer_steps": 2,
        "loss": 1.0,
        "bleu": 30.0,
        "torch": torch,
        "nn": nn,
    }


def save_finished_run(names: dict[str, Any]) -> None:
    """The run that pages about choosing a model take for granted."""
    config = CheckpointConfig("runs/finished", save_total_limit=None, progress=False)
    manager = CheckpointManager(config, names["model"])
    for epoch in range(6):
        with torch.no_grad():
            names["model"].weight.add_(0.01)
        metrics = {"val_loss": 2.0 - 0.1 * epoch, "val_bleu": 10.0 + epoch}
        manager.save(epoch, 10 * epoch, metrics)


def save_translation_run(names: dict[str, Any]) -> None:
    """The run of a model from ids to logits that the page about shipping takes for granted."""
    config = ModelConfig(
        8000,
        8000,
        width=8,
        feedforward_width=16,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        positions_max=128,
    )
    model = TranslationTransformer(config)
    manager = CheckpointManager(CheckpointConfig("runs/translate", progress=False), model)
    manager.save(0, 10, {"val_loss": 2.0})
    Path("runs/vocab.json").write_text("{}")
    names |= {"model": model, "best": "runs/translate/best-val_loss"}


@pytest.mark.parametrize("code", PYTHON)
def test_python_in_the_documentation_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every Python block runs as it stands, given a model and what trains it."""
    monkeypatch.chdir(tmp_path)
    names = surroundings()
    if "runs/finished" in code:
        save_finished_run(names)
    if "runs/translate" in code:
        save_translation_run(names)
    exec(compile(code, "documentation", "exec"), names)  # noqa: S102 (our own pages)


def test_every_command_shown_exists() -> None:
    """A `holdfast` command in any page is one that the command line knows."""
    shown = {
        found
        for page in PAGES
        for found in re.findall(r"^(?:\$ )?holdfast ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    help_text = CliRunner().invoke(app, ["--help"]).output
    assert shown
    assert all(re.search(rf"^\W*{name}\b", help_text, re.MULTILINE) for name in shown), shown


def test_links_between_pages_lead_somewhere() -> None:
    """No page links to a file that is not there."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} -> {target}"
