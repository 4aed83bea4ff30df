"""Commands about a run: what they say, what they change, and what they leave alone."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from cli_harness import document, invoke
from cli_world import Translator

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.engine.events import read_events
from holdfast.storage import LocalRun

RUN = "runs/translate"


def _names() -> list[str]:
    return [row["name"] for row in document(["ls", RUN])["checkpoints"]]


@pytest.fixture
def writer(world: Path) -> Iterator[CheckpointManager]:
    """A process that writes the run: this one, which the commands take for another."""
    model = Translator()
    config = CheckpointConfig(RUN, save_total_limit=None, progress=False, provenance=False)
    with CheckpointManager(config, model, torch.optim.AdamW(model.parameters())) as manager:
        manager.load(strict=False, load_optimizer=False, load_rng_state=False)
        manager.save(7, 7000, {"val_loss": 1.0})
        yield manager


def test_prune_says_what_it_would_do_and_does_nothing_without_yes(world: Path) -> None:
    """The plan is shown with reasons; nothing goes without --yes, nor with --dry-run beside it."""
    before = _names()
    arguments = ["prune", RUN, "--rule", "last 1"]
    for trial in (arguments, [*arguments, "--yes", "--dry-run"], ["--dry-run", *arguments]):
        planned = document(trial)
        assert planned["dry_run"]
        assert [row["name"] for row in planned["delete"]] == [before[0], before[2], before[4]]
        assert _names() == before
    assert "with --yes" in invoke(arguments).stderr


def test_prune_deletes_by_the_rule_and_keeps_what_must_stay(world: Path) -> None:
    """The best of both metrics, the pinned one and the newest stay; what goes is written down."""
    before = _names()
    done = document(["--yes", "prune", RUN, "--rule", "last 1"])
    assert done["removed"] == [before[0], before[2], before[4]]
    assert _names() == [before[1], before[3], before[5]]
    logged = [event for event in read_events(LocalRun(Path(RUN))) if event.name == before[0]]
    assert logged[0].rule == "KeepLast(1)"
    assert logged[0].facts["global_step"] == 1000


def test_prune_applies_the_rule_that_the_run_was_saved_under(world: Path) -> None:
    """Without --rule it is the run's own, as the newest manifest has it."""
    assert document(["prune", RUN])["rule"] == (
        "KeepLast(6) | KeepBest(1, 'val_loss', mode='min') | KeepBest(1, 'val_bleu', mode='max')"
    )
    refused = invoke(["prune", RUN, "--rule", "five of them"])
    assert refused.exit_code == 2
    assert "say for example" in refused.stderr


def test_prune_counts_linked_files_once(world: Path) -> None:
    """What comes free leaves out files that a kept checkpoint is linked to."""
    folders = [world / RUN / name for name in _names()]
    for folder in folders[1:]:
        (folder / "model.safetensors").unlink()
        os.link(folders[0] / "model.safetensors", folder / "model.safetensors")
    planned = document(["prune", RUN, "--rule", "last 1"])
    size = (folders[0] / "model.safetensors").stat().st_size
    gone = [world / RUN / row["name"] for row in planned["delete"]]
    total = sum(file.stat().st_size for folder in gone for file in folder.iterdir())
    assert planned["freed_bytes"] == total - 3 * size
    usage = document(["du", RUN])
    assert usage["bytes"] - usage["disk_bytes"] == 5 * size


def test_what_only_the_writer_may_do_is_refused_while_it_lives(
    writer: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pruning beside training ends with 5; planning, pins and late metrics work."""
    monkeypatch.setattr("holdfast.storage.lock._registry", {})
    refused = invoke(["prune", RUN, "--rule", "last 1", "--yes"])
    assert refused.exit_code == 5
    assert f"process {os.getpid()}" in refused.stderr
    planned = document(["prune", RUN, "--rule", "last 1"])
    reasons = {row["name"]: row["why"] for row in planned["keep"]}
    assert "restored from it" in reasons["checkpoint_epoch0006_step00006000"]
    assert invoke(["pin", f"{RUN}@step:1000", "--reason", "why not"]).exit_code == 0
    assert invoke(["record", f"{RUN}@latest", "val_bleu=30"]).exit_code == 0
    assert writer.checkpoints()[-1].metrics["val_bleu"] == 30.0
    status = document(["status", RUN])
    assert (status["writer"]["state"], status["writer"]["pid"]) == ("alive", os.getpid())


def test_late_metrics_rank_and_stand_in_the_history(world: Path) -> None:
    """`record` puts numbers into the manifest and a line into the history; a clash is refused."""
    document(["record", f"{RUN}@step:1000", "val_bleu=99", "--overwrite"])
    assert document(["best", RUN, "--metric", "val_bleu"])["global_step"] == 1000
    last = document(["history", RUN])["records"][-1]
    assert (last["recorded_for"], last["metrics"]) == (_names()[0], {"val_bleu": 99.0})
    assert invoke(["record", f"{RUN}@step:1000", "val_bleu=98"]).exit_code == 2
    assert invoke(["record", f"{RUN}@step:1000", "val_bleu"]).exit_code == 2
    assert document(["record", f"{RUN}@latest", "x=1", "--dry-run"])["dry_run"]
    assert "x" not in document(["show", f"{RUN}@latest"])["metrics"]


def test_pins_come_and_go(world: Path) -> None:
    """A pin has a reason, which every listing shows."""
    document(["pin", f"{RUN}@latest", "--reason", "the one"])
    assert document(["show", f"{RUN}@latest"])["pinned"] == "the one"
    assert "pinned (the one)" in invoke(["ls", RUN]).stdout
    document(["unpin", f"{RUN}@latest"])
    assert document(["show", f"{RUN}@latest"])["pinned"] is None
    assert invoke(["pin", f"{RUN}@latest", "--reason", " "]).exit_code == 2


def test_why_answers_for_what_is_there_and_for_what_is_gone(writer: CheckpointManager) -> None:
    """Saved, ranked, kept, resumed from; deleted with the rule; nothing known is not found."""
    answers: dict[str, list[str]] = {}
    for answer in document(["why", f"{RUN}@step:6000"])["answers"]:
        answers.setdefault(answer["about"], []).append(answer["text"])
    assert "save() was called" in answers["saved"][0]
    assert answers["best"] == [
        "val_loss: rank 2 of 7 with 1.4; the best is 1 of checkpoint_epoch0007_step00007000"
    ]
    assert "restored from it" in answers["kept"][0]
    assert answers["used"] == ["checkpoint_epoch0007_step00007000 resumed from it"]
    gone = document(["why", f"{RUN}@checkpoint_epoch0000_step00000500"])
    assert not gone["exists"]
    assert [answer["about"] for answer in gone["answers"]] == ["saved", "deleted"]
    assert "number 7 from the newest" in gone["answers"][1]["text"]
    assert "kept" in [a["about"] for a in document(["why", f"{RUN}@latest"])["answers"]]
    assert invoke(["why", f"{RUN}@step:17"]).exit_code == 4


def test_resumes_and_what_was_passed_over_can_be_asked_about(world: Path) -> None:
    """After a resume past damage, both the damaged and the chosen one have an answer."""
    newest = world / RUN / _names()[-1]
    (newest / "state.json").write_bytes(b"{}")
    model = Translator()
    config = CheckpointConfig(RUN, save_total_limit=None, progress=False, provenance=False)
    with CheckpointManager(config, model) as manager:
        manager.resume(verbose=False, strict=False)
        manager.save(6, 6500, {"val_loss": 1.0})
    aside = document(["why", f"{RUN}@{newest.name}"])
    assert not aside["exists"]
    assert {answer["about"] for answer in aside["answers"]} == {"set aside", "resumed"}
    chosen = document(["why", f"{RUN}@step:5000"])["answers"]
    assert any(a["about"] == "resumed" and "passed over" in a["text"] for a in chosen)
    assert document(["status", RUN])["resumes"] == 1


def test_history_is_also_comma_separated(world: Path) -> None:
    """--csv gives a header and exact numbers; --metric picks, --last cuts."""
    text = invoke(["history", RUN, "--csv", "--metric", "val_loss", "--last", "2"]).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["global_step"], float(row["val_loss"])) for row in rows] == [
        ("5000", 1.5),
        ("6000", 2.0 - 0.1 * 6),
    ]
    assert invoke(["history", RUN, "--metric", "nope"]).exit_code == 2


def test_files_of_the_original_layout_come_in_and_go_out(world: Path) -> None:
    """`convert` writes a .pt file and `import` reads one; what makes no sense is refused."""
    assert document(["convert", f"{RUN}@best", "out.pt"])["path"] == "out.pt"
    imported = document(["import", "out.pt", "runs/again"])["path"]
    tensors = document(["show", imported, "--tensors", "decoder.*"])["tensors"]
    assert [(t["name"], t["shape"]) for t in tensors] == [
        ("decoder.weight", [8, 8]),
        ("decoder.bias", [8]),
    ]
    assert invoke(["convert", "old.pt", "new.pt"]).exit_code == 2
    assert invoke(["convert", f"{RUN}@best", "somewhere"]).exit_code == 2
    assert document(["import", "old.pt", "runs/never", "--dry-run"])["dry_run"]
    assert not Path("runs/never").exists()
