"""The card of a weights folder: the README that model hubs show."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.export.casting import CastEffect
from holdfast.export.source import Weights


def hub_card(weights: Weights, effect: CastEffect | None, licence: str | None, *, name: str) -> str:
    """Markdown with the front matter that hubs read."""
    config = weights.config if isinstance(weights.config, Mapping) else {}
    front = ["---"]
    front += [f"license: {licence}"] if licence else []
    front += ["library_name: transformers"] if "transformers_version" in config else []
    front += ["tags:", "- holdfast", "---", ""]
    facts = weights.provenance
    lines = [*front, f"# {name}", ""]
    model = config.get("model_type")
    lines += [f"Model type: {model}", ""] if model else []
    lines += ["## Where it comes from", ""]
    for key in ("kind", "name", "run", "component", "epoch", "global_step", "time", "reason"):
        if key in facts:
            lines.append(f"- {key.replace('_', ' ')}: {facts[key]}")
    metrics = facts.get("metrics")
    if isinstance(metrics, Mapping) and metrics:
        lines += ["", "## Metrics when it was saved", ""]
        lines += [f"- {key}: {value}" for key, value in metrics.items()]
    lines += ["", "## Weights", ""]
    dtypes = sorted({str(t.dtype).removeprefix("torch.") for t in weights.tensors.values()})
    lines.append(f"{len(weights.unique())} tensors, {weights.bytes} bytes, {', '.join(dtypes)}.")
    lines += [f"{effect}."] if effect is not None else []
    return "\n".join([*lines, *weights.notes]) + "\n"
