"""What a checkpoint made of others takes over from them, besides weights."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.jsontext import Json
from holdfast.session.objects import RUN
from holdfast.state import ComponentState, torch_codec


def derived_record(
    epoch: int, global_step: int, metrics: Mapping[str, float], config: Json
) -> ComponentState:
    """The component "run" as of where the weights come from, without a history.

    config: the model configuration as tagged JSON.
    """
    record: dict[str, Json] = {
        "epoch": epoch,
        "global_step": global_step,
        "metrics": torch_codec().encode(dict(metrics), where="metrics"),
        "best_metric": None,
        "metrics_history": [],
        "model_config": config,
        "extra_state": None,
    }
    return ComponentState(RUN, "object", record, {})


def is_vocabulary(component: str) -> bool:
    """Whether a component of this name is what the model's input or output indices stand for."""
    return any(word in component.lower() for word in ("vocab", "tokenizer", "tokeniser"))
