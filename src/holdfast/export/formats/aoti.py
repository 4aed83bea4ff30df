"""AOTInductor: the graph compiled to a shared library, for hosts like this one."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import torch

from holdfast.errors import ExportError
from holdfast.export.formats.artifact import Artifact, FormatOptions, Reloaded
from holdfast.export.libraries import INTERNAL_WARNINGS, explaining, hushed, quiet
from holdfast.export.prepare import Prepared, flatten

CPU_ONLY = "runs only on hosts with this instruction set, this torch and this compiler's library"


class CompiledFormat:
    """`<stem>.aoti.pt2`: fast, but bound to host, torch and compiler; and it checks no shapes.

    Inputs beyond the ranges are read out of bounds by the compiled code: always check requests
    against the signature first.
    """

    name = "aoti"
    suffix = ".aoti.pt2"
    legacy: str | None = None

    def write(
        self, prepared: Prepared, folder: Path, stem: str, options: FormatOptions
    ) -> Artifact:
        """Compile and package; takes minutes for large graphs. Needs a C++ compiler."""
        compiler = find_compiler()
        if compiler is None:
            raise ExportError(
                "There is no C++ compiler here, which AOTInductor needs",
                where=f"graph {stem}",
                fix="install g++ or set CXX, or leave this format out",
            )
        file = f"{stem}{self.suffix}"
        program = prepared.program
        with (
            explaining("compile the graph", stem),
            quiet(*INTERNAL_WARNINGS),
            hushed("torch._inductor"),
        ):
            torch._inductor.aoti_compile_and_package(program, package_path=str(folder / file))
        facts = {
            "torch": torch.__version__,
            "compiler": Path(compiler).name,
            "machine": platform.machine(),
            "limits": CPU_ONLY,
        }
        return Artifact(stem, self.name, (file,), facts=facts)

    def reload(self, folder: Path, artifact: Artifact) -> Reloaded:
        """Load the package."""
        with explaining("load the compiled package", artifact.graph), quiet(*INTERNAL_WARNINGS):
            module = torch._inductor.aoti_load_package(str(folder / artifact.files[0]))

        def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            with torch.no_grad():
                return flatten(module(*inputs))

        return Reloaded(run)


def find_compiler() -> str | None:
    """The C++ compiler that would be used; None if there is none."""
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        found = shutil.which(name) if name else None
        if found is not None:
            return found
    return None
