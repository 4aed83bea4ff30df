"""A process killed at any system call of any operation loses nothing that was committed."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof_ground import Tell, run_program
from proof_sequence import STYLES

SAMPLES = {"sync": 64, "async": 51}


def campaign(ground: Path, tell: Tell, style: str, *options: object) -> None:
    """Run a campaign of kills; it must have found nothing wrong."""
    found = run_program("kill_campaign.py", ground, "--style", style, *options)
    worlds = found["worlds"]
    tell(
        f"kill, {style}: {found['states']} kills at {found['stops']} stops of "
        f"{found['operations']} operations: {len(found['problems'])} lost or damaged; the "
        f"operation undone in {worlds.get('before', 0)}, done in {worlds.get('after', 0)}, between "
        f"in {worlds.get('between', 0)}; leftovers of {found['swept']} swept"
    )
    assert found["states"] > 0
    assert found["problems"] == []


@pytest.mark.parametrize("style", STYLES)
def test_a_sample_of_kills_loses_nothing(style: str, ground: Path, tell: Tell) -> None:
    """Earlier checkpoints are whole, none is half visible, resuming, saving and sweeping work."""
    campaign(ground, tell, style, "--states", SAMPLES[style])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("style", STYLES)
def test_a_kill_at_every_system_call_loses_nothing(style: str, ground: Path, tell: Tell) -> None:
    """The same before and after every single system call of every thread."""
    campaign(ground, tell, style)


def test_the_kills_find_what_saves_and_deletes_in_place_lose(ground: Path, tell: Tell) -> None:
    """The harness can fail: without a staging folder and a trash name, half checkpoints show."""
    found = run_program("kill_campaign.py", ground, "--naive", "--states", 16)
    tell(f"kill, in place: {len(found['problems'])} problems after {found['states']} kills")
    for label in ("save in place", "delete in place"):
        assert any(problem.startswith(f"{label}, killed") for problem in found["problems"])
