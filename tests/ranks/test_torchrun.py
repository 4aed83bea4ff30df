"""Under torchrun, with a restart after a rank was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def torchrun(folder: Path, size: int, kind: str, killed_at: int) -> list[str]:
    """Run the script to its end; the lines it left."""
    folder.mkdir()
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts=2"),
        *(f"--nproc-per-node={size}", "--monitor-interval=0.1", str(HERE / "torchrun_script.py")),
        *(str(folder), kind, str(killed_at)),
    ]
    # Without this a rank that restarts quickly reads the addresses of the attempt before.
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return (folder / "final.txt").read_text().splitlines()


def check_restart(folder: Path, size: int, kind: str) -> None:
    """The run that was killed ends as the one that was not."""
    straight = torchrun(folder / "straight", size, kind, 0)
    restarted = torchrun(folder / "restarted", size, kind, 5)
    assert straight[0] == "started at 0"
    assert restarted[0] in ("started at 2", "started at 4")
    assert restarted[1:] == straight[1:]


@pytest.mark.slow
def test_a_killed_rank_restarts_bit_for_bit(tmp_path: Path) -> None:
    """torchrun starts all ranks again, and FSDP2 goes on from the last commit."""
    check_restart(tmp_path, 2, "fsdp")


@pytest.mark.soak
@pytest.mark.parametrize(("size", "kind"), [(2, "ddp"), (4, "fsdp"), (4, "ddp"), (4, "fsdp+tp")])
def test_restarts_of_other_layouts(tmp_path: Path, size: int, kind: str) -> None:
    """The same with DDP, four ranks, and tensor parallel."""
    check_restart(tmp_path, size, kind)
