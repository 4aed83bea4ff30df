"""A rank that raises, hangs or is killed at any moment of a save."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rank_jobs import Job, run_ranks
from rank_trouble import all_moments, be_killed, survive

from holdfast.engine.open_checkpoint import open_checkpoint
from holdfast.storage import LocalRun

pytestmark = pytest.mark.slow

RAISES = [("raise", rank, moment) for rank in (0, 1) for moment in all_moments(rank)]
HANGS = [("hang", 1, "model"), ("hang", 1, "settle"), ("hang", 0, "model"), ("hang", 0, "publish")]
ALL_HANGS = [("hang", rank, moment) for rank in (0, 1) for moment in all_moments(rank)]
KILLS = [(1, "model"), (1, "written"), (0, "manifest.json")]
ALL_KILLS = [(rank, moment) for rank in (0, 1) for moment in all_moments(rank)]


def check_survival(folder: Path, cases: list[tuple[str, int, str]], async_save: bool) -> None:
    """Every case fails on both ranks, shows nothing, and does not hinder the next save."""
    results = run_ranks(2, survive, folder, cases, async_save)
    run = LocalRun(folder / "run")
    for number, (kind, where, moment) in enumerate(cases):
        failed = f"checkpoint_epoch0000_step{10 * number + 10:08d}"
        for rank, result in enumerate(results):
            error, visible, afterwards = result[number]
            label = (kind, where, moment, rank)
            assert error is not None, label
            assert error.startswith("SaveError"), label
            assert failed not in visible, label
            assert afterwards is None, (label, afterwards)
            if kind == "raise":
                assert f"no luck at {moment}" in error, label
                assert rank == where or f"rank {where} failed" in error.lower(), (label, error)
    assert len(run.names()) == len(cases) + 1
    for name in run.names():
        assert_of_one_step(run, name)
    print(f"{len(cases)} failures on 2 ranks: 0 half-made checkpoints, 0 mixed steps")


def assert_of_one_step(run: LocalRun, name: str) -> None:
    """Every weight of the checkpoint is of the same save, and all bytes are sound."""
    with open_checkpoint(run, name) as checkpoint:
        checkpoint.verify(["model"])
        if checkpoint.manifest.global_step > 1:
            stored = checkpoint.stored("model").tensors
            for tensor in checkpoint.read("model", stored).values():
                wanted = torch.full_like(tensor, checkpoint.manifest.global_step)
                assert torch.equal(tensor, wanted), name


@pytest.mark.parametrize("async_save", [False, True])
def test_a_rank_that_raises_fails_the_save_everywhere(tmp_path: Path, async_save: bool) -> None:
    """At each moment of each rank: one reason on both, nothing visible, the next goes well."""
    check_survival(tmp_path, RAISES, async_save)


def test_a_rank_that_hangs_fails_the_save_everywhere(tmp_path: Path) -> None:
    """The others go on after the time allowed; the one that hung learns of it on waking up."""
    check_survival(tmp_path, HANGS, False)


@pytest.mark.soak
@pytest.mark.parametrize("async_save", [False, True])
def test_hangs_at_every_moment(tmp_path: Path, async_save: bool) -> None:
    """As above, at each moment of each rank."""
    check_survival(tmp_path, ALL_HANGS, async_save)


def check_kill(folder: Path, where: int, moment: str) -> None:
    """The survivors' save fails with the reason; the earlier checkpoint stands; parts are swept."""
    outcomes = Job(2, be_killed, folder, where, moment).finish()
    assert outcomes[where].error == "it was killed"
    reason = outcomes[1 - where].value
    assert reason is not None, outcomes[1 - where].error
    assert f"rank {where} failed" in reason.lower(), reason
    run = LocalRun(folder / "run")
    assert run.names() == ["checkpoint_epoch0000_step00000001"]
    assert_of_one_step(run, run.names()[0])
    lock = run.lock()
    run.sweep()
    lock.release()
    assert not [path.name for path in (folder / "run").glob(".holdfast-tmp-*")]


@pytest.mark.parametrize(("where", "moment"), KILLS)
def test_a_rank_that_is_killed_fails_the_save_everywhere(
    tmp_path: Path, where: int, moment: str
) -> None:
    """The others know at once, by the connection that the kernel closed."""
    check_kill(tmp_path, where, moment)


@pytest.mark.soak
@pytest.mark.parametrize(("where", "moment"), ALL_KILLS)
def test_kills_at_every_moment(tmp_path: Path, where: int, moment: str) -> None:
    """As above, at each moment of each rank."""
    check_kill(tmp_path, where, moment)
