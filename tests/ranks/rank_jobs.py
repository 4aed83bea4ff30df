"""Jobs of several real processes with a gloo process group.

The processes are forked from a server that has imported torch already: a job of four starts in
well under a second.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
_PRELOAD = ["torch", "torch.distributed.fsdp", "torch.distributed.tensor.parallel", "rank_model"]
_SECONDS_MAX = 240

_server = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Outcome:
    """What one rank returned; error: its traceback, None if it had none; code: its exit status."""

    value: Any
    error: str | None
    code: int | None


class Job:
    """Processes under way. `finish` gives what each returned."""

    def __init__(self, size: int, work: Callable[..., Any], folder: Path, *args: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        meeting = folder / f"meeting-{os.urandom(4).hex()}"
        self._ends: list[Connection] = []
        self.processes = []
        if str(HERE) not in sys.path:
            sys.path.insert(0, str(HERE))
        _server.set_forkserver_preload(_PRELOAD)
        for rank in range(size):
            here, there = _server.Pipe(duplex=False)
            process = _server.Process(
                target=_rank, args=(there, work, rank, size, str(meeting), str(folder), args)
            )
            process.start()
            there.close()
            self._ends.append(here)
            self.processes.append(process)

    def finish(self) -> list[Outcome]:
        """Wait for every process."""
        outcomes = []
        for process, end in zip(self.processes, self._ends, strict=True):
            value, error = None, None
            try:
                if end.poll(_SECONDS_MAX):
                    value, error = end.recv()
                else:
                    error = "it did not finish"
                    process.kill()
            except EOFError:
                error = "it was killed"
            process.join(_SECONDS_MAX)
            outcomes.append(Outcome(value, error, process.exitcode))
        return outcomes


def run_ranks(size: int, work: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
    """Let `size` processes each do `work(rank, folder, *args)`; all must succeed."""
    outcomes = Job(size, work, folder, *args).finish()
    problems = [f"rank {rank}: {o.error}" for rank, o in enumerate(outcomes) if o.error]
    assert not problems, "\n".join(problems)
    return [outcome.value for outcome in outcomes]


def _rank(
    end: Connection,
    work: Callable[..., Any],
    rank: int,
    size: int,
    meeting: str,
    folder: str,
    args: tuple[Any, ...],
) -> None:
    faulthandler.dump_traceback_later(_SECONDS_MAX - 10, exit=True)
    warnings.simplefilter("error", UserWarning)
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    try:
        end.send((work(rank, Path(folder), *args), None))
    except BaseException:  # noqa: BLE001 (told to the test)
        end.send((None, traceback.format_exc()))
    finally:
        end.close()
        # A process group cannot be taken down in order once a rank is gone.
        os._exit(0)
