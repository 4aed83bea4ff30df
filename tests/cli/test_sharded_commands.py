"""Every command that reads checkpoints takes one that many ranks saved, as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from cli_harness import document, invoke

RUN = "runs/large"


@pytest.mark.parametrize(
    "arguments",
    [
        f"ls {RUN}",
        f"show {RUN}@latest --tensors *",
        f"history {RUN}",
        f"verify {RUN}@latest",
        f"status {RUN}",
        f"du {RUN}",
        f"diff {RUN} {RUN}",
        f"why {RUN}@latest",
        f"average {RUN} --last 1 --output runs/averages",
        f"export {RUN}@latest --to weights.safetensors",
        f"export {RUN}@latest --to weights.pt",
        f"convert {RUN}@latest large.pt",
        f"consolidate {RUN} --to runs/whole",
    ],
)
def test_a_sharded_checkpoint_is_a_checkpoint(arguments: str, world: Path) -> None:
    """The command succeeds, and says so in a document of its schema."""
    assert document(arguments.split())["schema"].startswith("holdfast-")


def test_what_is_consolidated_equals_what_was_saved(world: Path) -> None:
    """A run and a file of weights hold the same tensors; a trial writes nothing."""
    tried = document(["consolidate", RUN, "--to", "runs/whole", "--dry-run"])
    assert tried["dry_run"]
    assert tried["left_out"] == ["rng"]
    assert not Path("runs/whole").exists()
    made = document(["consolidate", RUN, "--to", "runs/whole"])
    assert (made["ranks"], made["tensors"]) == (2, tried["tensors"])
    assert document(["verify", made["path"]])["schema"] == "holdfast-verify/1"
    counts = json.loads(
        invoke(["diff", RUN, "runs/whole", "--component", "model", "--json"]).stdout
    )
    assert {t["status"] for t in counts["tensors"]} <= {"equal"}
    invoke(["consolidate", RUN, "--to", "model.safetensors"])
    invoke(["convert", "runs/whole", "whole.pt"])
    alone = safetensors.torch.load_file("model.safetensors")
    whole = torch.load("whole.pt", weights_only=True)["model_state_dict"]
    assert alone.keys() == whole.keys()
    assert all(torch.equal(alone[name], whole[name]) for name in whole)


def test_a_checkpoint_of_one_process_is_not_consolidated(world: Path) -> None:
    """It is one already: the command says what to use."""
    result = invoke(["consolidate", "runs/translate", "--to", "runs/whole"])
    assert result.exit_code == 2
    assert "holdfast export" in result.stderr
