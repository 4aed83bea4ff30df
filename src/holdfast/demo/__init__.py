"""The example: a translation Transformer trained, killed, resumed and judged, in five minutes."""

from __future__ import annotations

from holdfast.demo.options import DemoOptions

__all__ = ["DemoOptions", "run"]


def run(options: DemoOptions) -> int:
    """Run the whole demo and print what happens; returns the exit status, 0 if all went well.

    Raises ConfigError for options or a corpus that cannot work, and the errors of holdfast if the
    checkpoints cannot be read at the end.
    """
    from holdfast.demo.flow import run_demo

    return run_demo(options)
