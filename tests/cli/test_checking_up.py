"""`resume-check` and `doctor` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cli_harness import document, examples_of, invoke
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.cli.certificate import as_text
from holdfast.cli.output import plain
from holdfast.rehearsal import Certificate, Finding
from holdfast.state.key_mapping import KeyMapping

RUN = "runs/translate"


def test_the_example_of_resume_check_is_certified(world: Path) -> None:
    """In fresh interpreters; the certificate is of its schema and says where it holds."""
    certificate = document(examples_of("resume-check")[0])
    assert certificate["exact"]
    assert certificate["steps"] == 2
    assert certificate["environment"]["torch"]


def test_what_does_not_resume_is_told_with_what_to_do() -> None:
    """The causes, the likeliest first, each with its cure; foreign names are escaped."""
    finding = Finding(
        "loader", "step.batches", 0, "step.batches\x1b[2J is not saved", "register it"
    )
    later = Finding("scheduler", "scheduler order", 2, "stepped elsewhere", "step once")
    certificate = Certificate("train:build", False, 3, 5, (finding, later))
    assert plain(as_text(certificate)).split("\n") == [
        "train:build does not resume exactly ()",
        "1. loader: step.batches\\x1b[2J is not saved (right after restoring)",
        "   what to do: register it",
        "2. scheduler: stepped elsewhere (after 2 steps)",
        "   what to do: step once",
    ]


def test_the_doctor_looks_at_the_surroundings_and_the_run(world: Path) -> None:
    """Versions, extras, disk and run; what cannot be read is bad, and then the exit code is 1."""
    checks = {check["what"]: check for check in document(["doctor", RUN])["checks"]}
    assert checks["torch"]["state"] == checks["run"]["state"] == checks["disk"]["state"] == "ok"
    (world / RUN / "latest" / "manifest.json").resolve().write_text("{}")
    sick = invoke(["doctor", RUN])
    assert sick.exit_code == 1
    assert "bad" in sick.stdout
    assert invoke(["doctor", RUN, "--mapping", "x.json"]).exit_code == 2


def test_a_mapping_of_the_doctor_loads_what_did_not_fit(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proposed, written, applied: the prefixed weights arrive under the model's own names."""
    monkeypatch.syspath_prepend(str(world))
    shown = document(["doctor", "wrapped.pt", "--model", "train:make_model", "--mapping", "n.json"])
    keys = shown["keys"]
    assert not keys["fits"]
    assert keys["proposals"][0]["confidence"] > 0.9
    assert "prefix 'net.'" in keys["proposals"][0]["rule"]
    assert json.loads(Path("n.json").read_text())["format"] == "holdfast-mapping"
    assert len(KeyMapping.read("n.json").entries) == len(keys["proposals"][0]["entries"])
    model = nn.Module()
    model.encoder = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    model.decoder, model.head = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
    manager = CheckpointManager(CheckpointConfig("runs/new", progress=False), model)
    manager.load("wrapped.pt", mapping="n.json")
    wanted = torch.load("wrapped.pt", weights_only=True)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, wanted[f"net.{name}"])
    assert document(["doctor", f"{RUN}@latest", "--model", "train:make_model"])["keys"]["fits"]
