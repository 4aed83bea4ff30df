"""TorchScript, by tracing or scripting: for runtimes that cannot load anything newer yet."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from holdfast.errors import HoldfastWarning
from holdfast.export.formats.artifact import Artifact, FormatOptions, Reloaded
from holdfast.export.libraries import explaining
from holdfast.export.prepare import Prepared, flatten

LEGACY = (
    "torch has deprecated TorchScript since 2.11 and mends it no more: use it only for a "
    "runtime that cannot load a .pt2 program or ONNX yet"
)
CARD = "card.json"


class TorchScriptFormat:
    """`<stem>.<mode>.pt` for `torch.jit.load`. mode: "trace" or "script"."""

    legacy: str | None = LEGACY

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.name = f"torchscript-{mode}"
        self.suffix = f".{mode}.pt"

    def write(
        self, prepared: Prepared, folder: Path, stem: str, options: FormatOptions
    ) -> Artifact:
        """Trace the example or compile the source; warns with a HoldfastWarning that it is legacy.

        What the tracer warned of (values it baked in) is kept in the facts of the artifact.
        """
        file = f"{stem}{self.suffix}"
        warnings.warn(f"{self.name}: {LEGACY}", HoldfastWarning, stacklevel=2)
        with explaining(f"{self.mode} the graph", stem), warnings.catch_warnings(record=True) as w:
            warnings.simplefilter("always")
            module = prepared.graph.module
            made = (
                torch.jit.trace(module, prepared.example, check_trace=False)  # type: ignore[no-untyped-call]
                if self.mode == "trace"
                else torch.jit.script(module)
            )
            torch.jit.save(made, str(folder / file), _extra_files={CARD: options.card.decode()})
        said = {str(one.message).splitlines()[0][:200] for one in w}
        deprecated = sorted(text for text in said if "deprecated" in text)
        baked = sorted(said.difference(deprecated))
        return Artifact(
            stem,
            self.name,
            (file,),
            LEGACY,
            {"torch": torch.__version__, "deprecations": deprecated, "tracer_warnings": baked},
        )

    def reload(self, folder: Path, artifact: Artifact) -> Reloaded:
        """Load the archive on the CPU."""
        with explaining("load the TorchScript archive", artifact.graph), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.\w+` is deprecated")
            file = str(folder / artifact.files[0])
            module = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]

        def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            with torch.no_grad():
                return flatten(module(*inputs))

        named = [*module.named_parameters(), *module.named_buffers()]
        weights = {name: tensor.detach() for name, tensor in named}
        modes = [name for name, one in module.named_modules() if one.training]
        problems = [f"{len(modes)} modules are in training mode"] if modes else []
        return Reloaded(run, weights, problems)
