"""Training on several ranks, interrupted and resumed, on equal and on other numbers of ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rank_jobs import run_ranks
from rank_training import interrupted_and_not, load_and_save

pytestmark = pytest.mark.slow

CASES = [("ddp", 2, False), ("fsdp", 2, False), ("fsdp", 2, True), ("ddp", 2, True)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One job per way of training."""
    kind, size, async_save = request.param
    return run_ranks(size, interrupted_and_not, tmp_path_factory.mktemp(kind), kind, async_save)


def test_a_resumed_run_is_the_uninterrupted_one(results: list[dict[str, Any]]) -> None:
    """Weights, optimizer state and random streams are equal bit for bit on every rank."""
    for result in results:
        assert result["resumed"] == result["straight"]
        assert result["resumed_draws"] == result["straight_draws"]


def test_each_rank_gets_its_own_back(results: list[dict[str, Any]]) -> None:
    """What differs between ranks is kept per rank; integer keys stay integers."""
    assert [result["extra_state"] for result in results] == [{"rank": 0}, {"rank": 1}]
    assert results[0]["straight_draws"] != results[1]["straight_draws"]
    assert all(result["milestones"] == {2: 1, 4: 1} for result in results)


def test_all_ranks_name_one_checkpoint(results: list[dict[str, Any]]) -> None:
    """Every rank returns the same path, and goes on from rank 0's metrics."""
    assert len({result["path"] for result in results}) == 1
    assert {result["best"] for result in results} == {1.0}


RESHARDINGS = [("fsdp", 4), ("ddp", 2), ("plain", 1), ("fsdp+tp", 4)]
MORE_RESHARDINGS = [*RESHARDINGS, ("hsdp", 4), ("fsdp", 2), ("hsdp", 4), ("plain", 1)]


@pytest.mark.parametrize(
    "ways", [RESHARDINGS, pytest.param(MORE_RESHARDINGS, marks=pytest.mark.soak)]
)
def test_other_numbers_of_ranks_and_layouts_hold_the_same_state(
    tmp_path: Path, ways: list[tuple[str, int]]
) -> None:
    """FSDP2 on 4 to DDP on 2 to one process to FSDP2 in tensor parallel, and on: bit for bit."""
    kept: list[dict[str, str]] = []
    checklists: list[str] = []
    for number, (kind, size) in enumerate(ways):
        steps = 2 if number == 0 else 0
        found = run_ranks(size, load_and_save, tmp_path, kind, number + 1, steps)
        kept += [one["state"] for one in found]
        checklists.append(found[0]["checklist"])
    assert all(state == kept[0] for state in kept)
    assert "saved by 4 ranks, here are 2" in checklists[1]
    assert "saved by 1 rank, here are 4" in checklists[3]
