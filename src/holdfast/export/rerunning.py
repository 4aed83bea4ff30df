"""Running a release's artifacts on the examples that are in it, on the host that will serve it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from holdfast.errors import HoldfastError
from holdfast.export.record import EXAMPLES_FILE
from holdfast.export.running import load_released
from holdfast.export.verifying import ReleaseCheck

_ABSOLUTE, _RELATIVE = 1e-3, 1e-2


def rerun_examples(check: ReleaseCheck) -> ReleaseCheck:
    """The check with what is wrong when every artifact runs its examples here.

    Ten times the gate's tolerances: another processor rounds otherwise. Artifacts are loaded as
    they would be served; those whose libraries are missing count as problems.
    """
    problems = list(check.problems)
    examples = load_file(check.folder / EXAMPLES_FILE)
    for graph, form, _ in check.record.artifacts:
        try:
            problems += _rerun(check, graph, form, examples)
        except (HoldfastError, RuntimeError, ValueError) as error:
            problems.append(f"{form} of {graph}: it does not run here: {error}")
    return replace(check, problems=tuple(problems))


def _rerun(
    check: ReleaseCheck, graph: str, form: str, examples: Mapping[str, NDArray[Any]]
) -> list[str]:
    loaded = load_released(check.folder, graph, format=form)
    signature = loaded.signature
    numbers = sorted({name.split("/")[1] for name in examples if name.startswith(f"{graph}/")})
    problems = []
    for number in numbers:
        given = [examples[f"{graph}/{number}/in/{one.name}"] for one in signature.inputs]
        for name, found in zip(signature.outputs, loaded(*given), strict=True):
            wanted = examples[f"{graph}/{number}/out/{name}"]
            same = wanted.shape == found.shape and np.allclose(
                found, wanted, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True
            )
            if not same:
                problems.append(f"{form} of {graph}: {name} of example {number} differs here")
    return problems
