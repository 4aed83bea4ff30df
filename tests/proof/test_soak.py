"""Saving for long, beside readers, with random kills: nothing lost, nothing leaked."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof_ground import Tell, run_program
from proof_sequence import STYLES


def soak(ground: Path, tell: Tell, style: str, *, saves: int, kills: int) -> None:
    """Run the campaign; it must have found nothing wrong."""
    found = run_program(
        "soak_campaign.py", ground, "--saves", saves, "--kills", kills, "--style", style
    )
    tell(
        f"soak, {style}: {found['saves']} saves with rotation, {found['kills']} kills, "
        f"{found['reads']} reads beside them ({found['vanished']} of a checkpoint just discarded): "
        f"{len(found['problems'])} problems; memory grew by {found['growth_bytes'] >> 10} KiB over "
        f"the {found['longest_life']} saves of the longest life, "
        f"{found['overlapped']} of which were copied beside training"
    )
    assert not found["problems"], "\n".join(found["problems"][:20])
    assert found["saves"] > saves * 0.9
    assert found["reads"] > 0
    assert bool(found["overlapped"]) == STYLES[style].goes_on


@pytest.mark.parametrize("style", STYLES)
def test_fifty_saves_lose_and_leak_nothing(style: str, ground: Path, tell: Tell) -> None:
    """Acknowledged saves are there, readers see whole checkpoints, resources stay level."""
    soak(ground, tell, style, saves=50, kills=2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("style", STYLES)
def test_two_thousand_saves_lose_and_leak_nothing(style: str, ground: Path, tell: Tell) -> None:
    """The same for long."""
    soak(ground, tell, style, saves=2200, kills=60)
