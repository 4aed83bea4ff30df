"""Decisions that all ranks take alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from rank_agreeing import decide_alike, fall_back, save_fresh
from rank_ema import average_on
from rank_jobs import run_ranks

pytestmark = pytest.mark.slow


def test_all_ranks_save_and_stop_at_the_same_steps(tmp_path: Path) -> None:
    """By rank 0's clock and metrics, and for a signal that only rank 1 received."""
    first, second = run_ranks(2, decide_alike, tmp_path)
    assert first == second
    assert {5, 7, 10, 15, 17} <= set(first["saved"])
    assert first["last"] == 17
    assert not any(first["stops"])
    assert first["shared"] == {"rank": 0}
    assert first["metrics"][-1] == 17.0


def test_saving_a_fresh_optimizer_changes_nothing(tmp_path: Path) -> None:
    """Adam's step stays unborn; stock DCP makes it 1 and training goes another way."""
    for plain, saving in run_ranks(2, save_fresh, tmp_path):
        assert plain == saving


def test_damage_that_one_rank_sees_makes_all_fall_back(tmp_path: Path) -> None:
    """All resume from the older one; the damaged one is set aside once."""
    found = run_ranks(2, fall_back, tmp_path)
    for one in found:
        assert one["step"] == 1
        assert one["refused"].startswith("DamagedError")
        assert "model-00002-of-00002.safetensors" in one["refused"]
        assert len(one["passed_over"]) == 1
        assert one["quarantined"] == found[0]["quarantined"]
    assert len(list((tmp_path / "run").glob("damaged-*"))) == 1


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_an_average_of_weights_goes_on_bit_for_bit(tmp_path: Path, kind: str) -> None:
    """Of replicated weights and of sharded ones, where each rank averages its own part."""
    for straight, resumed in run_ranks(2, average_on, tmp_path, kind):
        assert straight == resumed
