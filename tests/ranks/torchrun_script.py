"""A training script as users start it: `torchrun --nproc-per-node 2 torchrun_script.py FOLDER`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from rank_model import build, fingerprints, seed, train

from holdfast import CheckpointConfig, CheckpointManager

STEPS, EVERY = 8, 2


def main() -> None:
    """Train to the end, resuming whatever there is; rank 1 is killed once if asked for."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    folder, kind, killed_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    rank, attempt = dist.get_rank(), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    seed(rank)
    model, optimizer, schedule = build(kind)
    config = CheckpointConfig(str(folder / "run"), async_save=True, progress=False)
    with CheckpointManager(config, model, optimizer, schedule) as manager:
        start = manager.resume(verbose=rank == 0).global_step
        for step in range(start + 1, STEPS + 1):
            train(model, optimizer, schedule, 1)
            if attempt == 0 and rank == 1 and step == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if step % EVERY == 0:
                manager.save(0, step, {"val_loss": 1.0})
        manager.wait()
        found = fingerprints(model, optimizer)
    if rank == 0:
        lines = [f"started at {start}", *(f"{k} {v}" for k, v in sorted(found.items()))]
        (folder / "final.txt").write_text("\n".join(lines))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
