"""States of other libraries' averages, by their known layouts.

    torch.optim.swa_utils.AveragedModel   "n_averaged", "module.<FQN>"
    ema-pytorch EMA                       "initted", "step", "ema_model.<FQN>", "online_model.<FQN>"
    timm ModelEmaV2, ModelEmaV3           "module.<FQN>", no counter
    a plain state dict                    "<FQN>", as timm's checkpoints hold under state_dict_ema

Whatever wrappers put into the keys is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from holdfast.errors import FormatError
from holdfast.state.renames import strip_wrapper_prefixes

_EMA_PYTORCH = "ema_model."
_MODULE = "module."


@dataclass(frozen=True, slots=True)
class ForeignAverage:
    """source: which library wrote it. tensors: by FQN. steps: as it counted them, None if not."""

    source: str
    tensors: dict[str, Tensor]
    steps: int | None


def read_foreign(state: Mapping[str, object]) -> ForeignAverage:
    """Recognise the state dict of an average made by another library.

    Raises FormatError if it is none of the layouts above.
    """
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if any(key.startswith(_EMA_PYTORCH) for key in tensors):
        return ForeignAverage("ema-pytorch", _under(tensors, _EMA_PYTORCH), _count(state, "step"))
    if "n_averaged" in tensors:
        found = _under(tensors, _MODULE)
        return ForeignAverage("torch AveragedModel", found, _count(state, "n_averaged"))
    if tensors and all(key.startswith(_MODULE) for key in tensors):
        return ForeignAverage("timm ModelEma", strip_wrapper_prefixes(tensors), None)
    if tensors and len(tensors) == len(state):
        return ForeignAverage("a plain state dict", strip_wrapper_prefixes(tensors), None)
    raise FormatError(
        "The state is of no average whose layout is known",
        fix="pass the state dict of AveragedModel, timm's ModelEmaV2 or V3, ema-pytorch's EMA, or "
        "of a plain model",
    )


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    inner = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return strip_wrapper_prefixes(inner)


def _count(state: Mapping[str, object], key: str) -> int:
    value = state.get(key)
    if not isinstance(value, Tensor) or value.numel() != 1 or value.item() < 0:
        raise FormatError(f"The state has no count under {key!r}")
    return int(value.item())
