"""The training process: `python -m holdfast.demo.worker PLAN.json`.

It resumes by itself from whatever the run folder holds, so it may be killed and started again at
any moment. Progress goes to standard output as events.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from holdfast.demo.events import emit
from holdfast.demo.plan import RunPlan
from holdfast.demo.training import TrainingRun
from holdfast.errors import HoldfastError


def main(arguments: list[str]) -> int:
    """Train as the plan says. Returns the exit status."""
    if len(arguments) != 1:
        print("usage: python -m holdfast.demo.worker PLAN.json", file=sys.stderr)
        return 2
    try:
        plan = RunPlan.read(Path(arguments[0]))
        torch.set_num_threads(plan.threads)
        TrainingRun(plan, emit).train()
    except HoldfastError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # Adam's averages of words not met for some 300 steps become denormal numbers, which take ten
    # times as long. The setting is the process's, and threads inherit it from before their start.
    torch.set_flush_denormal(True)
    sys.exit(main(sys.argv[1:]))
