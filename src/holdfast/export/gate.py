"""The gate: an artifact, read back from disk, must do on every shape what the model does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from holdfast.errors import ExportError, GateError
from holdfast.export.formats import Artifact, Format, Reloaded
from holdfast.export.graph import CheckResult
from holdfast.export.matrix import Case
from holdfast.export.prepare import Outputs, Prepared, identical
from holdfast.export.stored_weights import compare_weights
from holdfast.export.tolerance import Distance, Tolerance, distance, tolerance_for
from holdfast.jsontext import Json


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case of the matrix. distances: per output. problem: None if it passed."""

    name: str
    sizes: Mapping[str, int]
    distances: tuple[Distance, ...]
    problem: str | None


@dataclass(frozen=True, slots=True)
class GateReport:
    """What the gate found of one artifact.

    problems: everything that must not be, empty if it passed. weights: how the tensors stored in
    it compare with the model's. checks: those beyond single calls. seconds: of reloading and
    comparing.
    """

    artifact: Artifact
    cases: tuple[CaseResult, ...]
    problems: tuple[str, ...]
    tolerances: Mapping[str, Tolerance]
    weights: str
    checks: tuple[CheckResult, ...] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the artifact may be used."""
        return not self.problems

    @property
    def worst(self) -> Distance:
        """The largest of each measure over all cases and outputs."""
        found = [one for case in self.cases for one in case.distances]
        agreements = [one.agreement for one in found if one.agreement is not None]
        return Distance(
            max((one.absolute for one in found), default=0.0),
            max((one.relative for one in found), default=0.0),
            max((one.beyond for one in found), default=0.0),
            min(agreements, default=None),
            sum(one.counted for one in found),
        )

    def __str__(self) -> str:
        worst = self.worst
        agreement = "" if worst.agreement is None else f", arg-max equal {worst.agreement:.2%}"
        verdict = "passed" if self.passed else f"FAILED ({len(self.problems)} problems)"
        return (
            f"{self.artifact.format} {self.artifact.graph}: {verdict} on {len(self.cases)} cases, "
            f"largest difference {worst.absolute:.2g}{agreement}"
        )

    def require(self) -> None:
        """Raise GateError with every problem unless it passed."""
        if self.problems:
            raise GateError(
                f"The {self.artifact.format} artifact of the graph {self.artifact.graph} is not "
                "what the model is; it got no final name:",
                problems=self.problems[:20],
                fix="see the first problem; other formats are not affected by it",
            )

    def to_dict(self) -> dict[str, Json]:
        """As plain values for the card."""
        worst = self.worst
        return {
            "graph": self.artifact.graph,
            "format": self.artifact.format,
            "passed": self.passed,
            "problems": list(self.problems),
            "cases": [
                {
                    "name": case.name,
                    "sizes": dict(case.sizes),
                    "max_difference": max((d.absolute for d in case.distances), default=0.0),
                    "passed": case.problem is None,
                }
                for case in self.cases
            ],
            "max_difference": worst.absolute,
            "max_relative_difference": worst.relative,
            "arg_max_agreement": worst.agreement,
            "positions_compared": worst.counted,
            "tolerances": {name: asdict(one) for name, one in self.tolerances.items()},
            "weights": self.weights,
            "checks": [
                {"name": c.name, "passed": c.passed, "text": c.text, "data": dict(c.data)}
                for c in self.checks
            ],
        }


def inspect(
    prepared: Prepared,
    writer: Format,
    folder: Path,
    artifact: Artifact,
    *,
    tolerance: Tolerance | None = None,
) -> tuple[GateReport, Reloaded | None]:
    """Reload an artifact from disk and compare it with the model on the whole matrix.

    tolerance: for floating outputs, None for the default of their dtype. Returns the report, and
    the reloaded artifact for checks of the whole, None if it could not be loaded. Raises nothing
    for a bad artifact: the report says it.
    """
    began = time.monotonic()
    tolerances = {
        name: tolerance_for(output.dtype, tolerance)
        for name, output in zip(prepared.graph.signature.outputs, prepared.expected[0], strict=True)
    }

    def report(
        cases: Sequence[CaseResult], problems: Sequence[str], weights: str = "not compared"
    ) -> GateReport:
        seconds = time.monotonic() - began
        return GateReport(
            artifact, tuple(cases), tuple(problems), tolerances, weights, seconds=seconds
        )

    missing = [file for file in artifact.files if not (folder / file).is_file()]
    if missing:
        return report([], [f"the file {missing[0]} is missing"]), None
    try:
        reloaded = writer.reload(folder, artifact)
    except ExportError as error:
        return report([], [f"it cannot be read back: {error.what}"]), None
    cases = [
        _compare(prepared, case, expected, reloaded, list(tolerances.values()))
        for case, expected in zip(prepared.cases, prepared.expected, strict=True)
    ]
    said, changed = compare_weights(prepared, reloaded.weights, artifact.converted)
    problems = [*reloaded.problems, *changed]
    problems += [
        f"{case.name} ({_sizes(case.sizes)}): {case.problem}"
        for case in cases
        if case.problem is not None
    ]
    return report(cases, problems, said), reloaded


def _compare(
    prepared: Prepared,
    case: Case,
    expected: Outputs,
    reloaded: Reloaded,
    tolerances: Sequence[Tolerance],
) -> CaseResult:
    try:
        first, second = reloaded.run(*case.inputs), reloaded.run(*case.inputs)
    except Exception as error:  # noqa: BLE001 (whatever a runtime raises is what is reported)
        reason = str(error).strip().splitlines()
        return CaseResult(
            case.name, case.sizes, (), f"it fails: {reason[0][:300] if reason else error!r}"
        )
    problem = _form_problem(prepared.graph.signature.outputs, expected, first)
    if problem is not None:
        return CaseResult(case.name, case.sizes, (), problem)
    distances = tuple(map(distance, expected, first, tolerances))
    names = prepared.graph.signature.outputs
    for name, found, allowed in zip(names, distances, tolerances, strict=True):
        if found.beyond:
            problem = (
                f"{name} differs by up to {found.absolute:.3g}, and {found.beyond:.1%} of it by "
                f"more than {allowed.absolute:g} + {allowed.relative:g} of its size"
            )
        elif found.agreement is not None and found.agreement < allowed.agreement:
            problem = (
                f"{name} has its largest element elsewhere at {1 - found.agreement:.2%} of "
                f"{found.counted} positions"
            )
    if problem is None and not identical(first, second):
        problem = "two calls with the same input gave different answers"
    return CaseResult(case.name, case.sizes, distances, problem)


def _form_problem(
    names: Sequence[str], expected: Sequence[Tensor], found: Sequence[Tensor]
) -> str | None:
    if len(found) != len(expected):
        return f"it returns {len(found)} tensors, the model {len(expected)}"
    for name, one, other in zip(names, expected, found, strict=True):
        if one.shape != other.shape:
            return f"{name} has shape {list(other.shape)}, the model's has {list(one.shape)}"
        if one.dtype != other.dtype:
            return f"{name} is {_short(other.dtype)}, the model's is {_short(one.dtype)}"
    return None


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _sizes(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items()) or "no axes"
