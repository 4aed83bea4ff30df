"""The key doctor: a checkpoint's names beside those of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.cli.output import clean, paint, table
from holdfast.compare.sources import open_side
from holdfast.errors import ConfigError, FormatError
from holdfast.state.key_doctor import Diagnosis, diagnose

_SHOWN = 12


@dataclass(frozen=True)
class Examined:
    """A diagnosis to print."""

    found: Diagnosis
    mapping: str | None

    def as_data(self) -> dict[str, Any]:
        """The diagnosis as plain data."""
        found = self.found
        return {
            "fits": found.fits,
            "fitting": found.fitting,
            "proposals": [
                {
                    "rule": proposal.rule,
                    "confidence": proposal.confidence,
                    "entries": [
                        {"to": e.to, "from": list(e.sources), "rows": e.rows and list(e.rows)}
                        for e in proposal.entries
                    ],
                }
                for proposal in found.proposals
            ],
            "missing": list(found.missing),
            "unexpected": list(found.unexpected),
            "reshaped": {
                name: {"model": list(model), "checkpoint": list(checkpoint)}
                for name, (model, checkpoint) in found.reshaped.items()
            },
            "mapping": self.mapping,
        }

    def as_text(self) -> str:
        """The proposals, the likeliest first, and what nothing explains."""
        found = self.found
        if found.fits:
            return paint(f"the checkpoint fits: {found.fitting} tensors", "green")
        sections = [f"{found.fitting} tensors fit as they are"]
        for number, proposal in enumerate(found.proposals, start=1):
            rows = [
                [
                    e.to,
                    ", ".join(e.sources) + (f" rows {e.rows[0]} to {e.rows[1]}" if e.rows else ""),
                ]
                for e in proposal.entries[:_SHOWN]
            ]
            more = len(proposal.entries) - _SHOWN
            heading = (
                f"{number}. {clean(proposal.rule)} "
                f"({len(proposal.entries)} tensors, confidence {proposal.confidence:.2f})"
            )
            text = table(["in the model", "in the checkpoint"], rows)
            sections.append(f"{heading}\n{text}" + (f"\nand {more} more" if more > 0 else ""))
        for label, names in (("missing", found.missing), ("unexpected", found.unexpected)):
            if names:
                shown = ", ".join(clean(name, 80) for name in names[:_SHOWN])
                more = len(names) - _SHOWN
                sections.append(f"{label}: {shown}" + (f" and {more} more" if more > 0 else ""))
        for name, (model, checkpoint) in list(found.reshaped.items())[:_SHOWN]:
            sections.append(
                f"shape: {clean(name, 80)} is {list(model)} in the model, "
                f"{list(checkpoint)} in the checkpoint"
            )
        return "\n\n".join(sections)


def examine(checkpoint: Path, model: str, mapping: Path | None, min_confidence: float) -> Examined:
    """Compare names and shapes; write a mapping file if asked for.

    model: `module:function`, which returns the model. Raises ConfigError if it returns none.
    """
    found = diagnose(_wanted(model), _found(checkpoint))
    if mapping is not None:
        mapping.write_bytes(found.mapping(min_confidence).to_bytes())
    return Examined(found, None if mapping is None else str(mapping))


def _wanted(entry: str) -> dict[str, tuple[int, ...]]:
    from torch import Tensor, nn

    from holdfast.rehearsal.entry import load_entry

    model = load_entry(entry, Path.cwd())()
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"{entry} returned a {type(model).__name__}",
            fix="name a function that returns a module",
        )
    return {n: tuple(t.shape) for n, t in model.state_dict().items() if isinstance(t, Tensor)}


def _found(checkpoint: Path) -> dict[str, tuple[int, ...]]:
    side = open_side(checkpoint)
    try:
        part = side.parts.get("model")
        if part is None:
            raise FormatError("The checkpoint holds no model", where=str(checkpoint))
        shapes = {name: stored.shape for name, stored in part.tensors.items()}
        return shapes | {name: shapes[to] for name, to in part.aliases.items() if to in shapes}
    finally:
        side.close()
