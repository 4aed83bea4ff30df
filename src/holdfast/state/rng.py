"""Random streams: Python, NumPy, torch on every device, and generators passed by name.

Restoring never fails because a stream is on one side only: each stream gets a line in a checklist
that says restored, absent or mismatch, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch

from holdfast.codec import Codec
from holdfast.errors import FormatError
from holdfast.state._streams import Generators, Stream, streams
from holdfast.state._tree import filled, fresh_targets, outline
from holdfast.state.capture import capture_object
from holdfast.state.component import ComponentState, StoredComponent
from holdfast.state.plan import RestorePlan
from holdfast.state.torch_tags import torch_codec

_REFUSALS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError)

Status: TypeAlias = Literal["restored", "absent", "mismatch"]


@dataclass(frozen=True, slots=True)
class StreamLine:
    """One line of the checklist. stream: such as "python", "torch:cuda:1", "generator:loader"."""

    stream: str
    status: Status
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.stream}: {self.status}" + (f" ({self.reason})" if self.reason else "")


def capture_rng(
    name: str, generators: Generators | None = None, codec: Codec | None = None
) -> ComponentState:
    """Capture every random stream of this process, and the given generators by name.

    Streams: Python's `random`, NumPy's legacy global state, torch on the CPU, on every CUDA
    device if this process uses CUDA, on MPS. Reading advances none of them.
    Raises ConfigError for a generator of an unknown kind.
    """
    in_use: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    live = streams(generators or {}, cuda=in_use)
    state = {key: {"kind": stream.kind, "state": stream.read()} for key, stream in live.items()}
    return capture_object(name, state, codec)


def plan_rng(
    stored: StoredComponent, generators: Generators | None = None, *, codec: Codec | None = None
) -> RestorePlan:
    """Plan to set the random streams; finish it last, when nothing more will draw from them.

    After `finish()`, `plan.value` is the checklist, a tuple of `StreamLine` with a line for every
    stream that is in the checkpoint or here. A stream that cannot be set is left as it is.
    Raises ConfigError for a generator of an unknown kind, FormatError if the stored tree is not
    that of random streams.
    """
    codec = codec or torch_codec()
    tree = outline(stored, codec)
    _check_form(stored, tree.value)
    live = streams(generators or {}, cuda=torch.cuda.is_available())
    targets = fresh_targets(stored, tree.names, torch.device("cpu"))
    before: dict[str, object] = {}

    def finish() -> tuple[StreamLine, ...]:
        before.update({key: stream.read() for key, stream in live.items()})
        saved: Any = filled(stored, codec, targets.__getitem__)
        return restore_streams(saved, live)

    def rollback() -> None:
        for key, state in before.items():
            live[key].write(state)

    return RestorePlan(
        component=stored.name,
        targets=targets,
        fresh=frozenset(targets),
        reversible=True,
        _finish=finish,
        _rollback=rollback,
    )


def restore_streams(
    saved: Mapping[str, Mapping[str, Any]], live: Mapping[str, Stream]
) -> tuple[StreamLine, ...]:
    """Set every live stream that has a saved state of its kind, and say what became of each."""
    return tuple(
        _restore(key, saved.get(key), live.get(key), saved, live)
        for key in dict.fromkeys((*live, *saved))
    )


def _restore(
    key: str,
    state: Mapping[str, Any] | None,
    stream: Stream | None,
    saved: Mapping[str, object],
    live: Mapping[str, object],
) -> StreamLine:
    if state is None:
        return StreamLine(key, "absent", "not in the checkpoint")
    if stream is None and key.startswith("torch:cuda:"):
        counts = f"saved on {_devices(saved)} CUDA devices, here are {_devices(live)}"
        return StreamLine(key, "mismatch", counts)
    if stream is None:
        return StreamLine(key, "absent", "in the checkpoint, but there is no such stream here")
    if state["kind"] != stream.kind:
        return StreamLine(key, "mismatch", f"saved from {state['kind']}, here is {stream.kind}")
    before = stream.read()
    try:
        stream.write(state["state"])
    except _REFUSALS as error:
        # Setting it may have broken off half-way.
        stream.write(before)
        return StreamLine(key, "mismatch", f"its state is not accepted: {error}")
    return StreamLine(key, "restored")


def _devices(names: Mapping[str, object]) -> int:
    return sum(name.startswith("torch:cuda:") for name in names)


def _check_form(stored: StoredComponent, value: object) -> None:
    if isinstance(value, dict) and all(
        isinstance(state, dict)
        and state.keys() == {"kind", "state"}
        and isinstance(state["kind"], str)
        for state in value.values()
    ):
        return
    raise FormatError("The state tree is not that of random streams", where=stored.name)
