"""`torch.export`: a `.pt2` archive with named ranges, which any torch of this line can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from holdfast.export.formats.artifact import Artifact, FormatOptions, Reloaded
from holdfast.export.libraries import INTERNAL_WARNINGS, explaining, quiet
from holdfast.export.prepare import Prepared, flatten

CARD = "card.json"


class ProgramFormat:
    """`torch.export.save` of a program whose axes keep their names and ranges."""

    name = "program"
    suffix = ".pt2"
    legacy: str | None = None

    def write(
        self, prepared: Prepared, folder: Path, stem: str, options: FormatOptions
    ) -> Artifact:
        """Write `<stem>.pt2`; the card travels inside it."""
        file = f"{stem}{self.suffix}"
        program = prepared.program
        with explaining("save the exported program", stem), quiet(*INTERNAL_WARNINGS):
            torch.export.save(program, folder / file, extra_files={CARD: options.card.decode()})
        return Artifact(
            stem, self.name, (file,), facts={"torch": torch.__version__, "nodes": _nodes(program)}
        )

    def reload(self, folder: Path, artifact: Artifact) -> Reloaded:
        """Load the archive and look through its graph."""
        extra = {CARD: ""}
        with explaining("load the exported program", artifact.graph), quiet(*INTERNAL_WARNINGS):
            program = torch.export.load(folder / artifact.files[0], extra_files=extra)
            module = program.module()

        def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            with torch.no_grad():
                return flatten(module(*inputs))

        tensors = {**program.state_dict, **program.constants}
        weights = {n: t.detach() for n, t in tensors.items() if isinstance(t, torch.Tensor)}
        return Reloaded(run, weights, random_nodes(program))


def random_nodes(program: ExportedProgram) -> list[str]:
    """What in a program depends on chance or on the batch: dropout, training-mode normalisation."""
    found: list[str] = []
    for node in program.graph.nodes:
        target = str(node.target)
        if "dropout" in target and len(node.args) > 2 and node.args[2] is True:
            found.append(f"active dropout: {node.name}")
        elif "batch_norm" in target and _trains(target, node.args):
            found.append(f"batch normalisation in training mode: {node.name}")
        elif target.startswith(("aten.rand", "aten.bernoulli")):
            found.append(f"random numbers: {node.name}")
    return found


def _trains(target: str, arguments: tuple[Any, ...]) -> bool:
    if "no_training" in target:
        return False
    return len(arguments) > 5 and arguments[5] is True


def _nodes(program: ExportedProgram) -> int:
    return sum(1 for node in program.graph.nodes if node.op == "call_function")
