"""A module that answers with the mean of what its members answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn

from holdfast.ensemble.stacked import Stacked, stackable
from holdfast.errors import ConfigError

Combine: TypeAlias = Literal["probabilities", "log_probabilities"]


class ModelEnsemble(nn.Module):
    """The members' distributions over the last axis, averaged; one forward pass for each member.

    models: take the same input and return logits or log-probabilities [..., V] over the same
    classes or vocabulary (`require_one_vocabulary`; sizes are compared here, at the first call).
    combine: "probabilities" is log sum_i w_i p_i; "log_probabilities" is sum_i w_i log p_i,
    normalised again. weights: not negative, divided by their sum; equal by default. vectorise: run
    members of one architecture together (`torch.func`), which is tried against running them one by
    one at the first call and given up if anything differs; by default on accelerators only, since
    on a CPU it gains nothing. Members' parameters then become views of shared memory, so that
    nothing is held twice.

    forward: log-probabilities [..., V] in float32 or wider. For sequences decoded token by token
    use `holdfast.decoding.Ensemble`.
    Raises ConfigError for no members or weights that do not fit.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        *,
        weights: Sequence[float] | None = None,
        combine: Combine = "probabilities",
        vectorise: bool | None = None,
    ) -> None:
        super().__init__()
        if combine not in ("probabilities", "log_probabilities"):
            raise ConfigError(
                f"combine is {combine!r}", fix='use "probabilities" or "log_probabilities"'
            )
        self.members = nn.ModuleList(models)
        self.combine = combine
        self._log_shares = _log_shares(weights, len(self.members))
        self._vectorise = _on_accelerator(models) if vectorise is None else vectorise
        self._stacked: Stacked | None = None

    @property
    def vectorised(self) -> bool | None:
        """Whether members run together; None before the first call."""
        if not self._vectorise:
            return False
        return None if self._stacked is None else True

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """The members' inputs in, log-probabilities [..., V] out."""
        return self._combined(self._outputs(inputs, named))

    def _outputs(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> list[Tensor]:
        if self._vectorise and not self.training and not torch.is_grad_enabled():
            if self._stacked is not None:
                return self._stacked(inputs, named)
            return self._first_outputs(inputs, named)
        return self._one_by_one(inputs, named)

    def _one_by_one(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> list[Tensor]:
        return [cast(Tensor, member(*inputs, **named)) for member in self.members]

    def _first_outputs(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> list[Tensor]:
        """Both ways; running together is kept only if it gives the same."""
        apart = self._one_by_one(inputs, named)
        members = list(self.members)
        stacked = Stacked(members) if stackable(members) else None
        together = None if stacked is None else stacked.tried(inputs, named)
        self._vectorise = together is not None and all(
            _agree(one, other) for one, other in zip(apart, together, strict=True)
        )
        self._stacked = stacked if self._vectorise else None
        return apart

    def _combined(self, outputs: Sequence[Tensor]) -> Tensor:
        sizes = sorted({output.shape[-1] for output in outputs})
        if len(sizes) > 1:
            raise ConfigError(
                f"The members tell {sizes} classes apart, so their answers have no mean",
                fix="join models that were trained with the same vocabulary or labels",
            )
        wide = [output if output.dtype == torch.float64 else output.float() for output in outputs]
        logs = torch.stack([output.log_softmax(-1) for output in wide])
        shares = self._log_shares.to(logs).view(-1, *[1] * (logs.dim() - 1))
        if self.combine == "probabilities":
            return torch.logsumexp(logs + shares, dim=0)
        used = shares.isfinite()
        weighed = torch.where(used, shares.exp() * logs, torch.zeros_like(logs))
        return weighed.sum(0).log_softmax(-1)


def _on_accelerator(models: Sequence[nn.Module]) -> bool:
    tensors = (tensor for model in models for tensor in model.parameters())
    return all(tensor.device.type != "cpu" for tensor in tensors)


def _log_shares(weights: Sequence[float] | None, count: int) -> Tensor:
    """Logarithms of the members' shares, float64 [count]."""
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if not count or len(given) != count:
        raise ConfigError(f"There are {count} models and {len(given)} weights")
    total = math.fsum(given)
    if not all(math.isfinite(w) and w >= 0 for w in given) or total <= 0:
        raise ConfigError(f"{given} are not weights: finite, not negative, and not all zero")
    return torch.tensor(given, dtype=torch.float64).div(total).log()


def _agree(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(
        torch.allclose(one.float(), other.float(), rtol=1e-3, atol=1e-4)
    )
