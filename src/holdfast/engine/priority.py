"""Letting background work step aside for training."""

from __future__ import annotations

import os
import threading

_NICENESS = 5


def lower_thread_priority() -> bool:
    """Lower the CPU priority of the calling thread and of those it will start; False if refused.

    On Linux niceness is a property of each thread, and I/O priority follows it where none was set
    (ioprio_set(2)). Elsewhere niceness belongs to the process and is left alone.
    """
    if os.uname().sysname != "Linux":
        return False
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
    except OSError:
        return False
    return True
