"""The cycle collector, held off while thousands of small objects are made that hold no cycles.

Its passes are started by counting new objects and look at every old one too: beside torch's many
objects they would take longer than the planning of a checkpoint of ten thousand tensors itself.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Hold off the collector of this process; does nothing where it is off already.

    For moments of planning, never for as long as data moves: other threads are meant to have
    their cycles collected.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
