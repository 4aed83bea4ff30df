"""ONNX Runtime sessions, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdfast.export.libraries import extra_module

EXTRA = "onnx"


def new_session(path: Path, *, threads: int = 0) -> Any:
    """An ONNX Runtime session on the CPU. threads: 0 lets ONNX Runtime decide.

    Raises ConfigError naming the extra if ONNX Runtime is missing, and what it raises itself.
    """
    runtime = extra_module("onnxruntime", EXTRA)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait take the processor from whoever else works on this host.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What it writes to standard error stands in the exception, too.
    options.log_severity_level = 4
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
