"""A comparison as text and as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from holdfast.cli.output import clean, paint, size_text, table
from holdfast.compare import Comparison, Module, Numbers, TensorChange, TreeChange

_WORDS = ("changed", "added", "removed", "renamed", "reshaped", "recast", "equal")
_TREES_SHOWN = 40


@dataclass(frozen=True)
class Differences:
    """What to show of a comparison. top: how many tensors; depth: of the roll-up by module."""

    found: Comparison
    top: int
    depth: int

    def as_data(self) -> dict[str, Any]:
        """Everything but tensors that are equal, and the roll-up, as plain data."""
        found = self.found
        return {
            "schema": "holdfast-diff/1",
            "left": found.left,
            "right": found.right,
            "same": found.same,
            "steps": found.steps,
            "tolerance": found.tolerance,
            "counts": found.counts(),
            "bytes_read": found.bytes_read,
            "tensors": [self._tensor(tensor) for tensor in found.different()[: self.top]],
            "modules": [self._module(module) for module in found.modules(self.depth)],
            "trees": [
                {"component": t.component, "path": t.path, "left": t.left, "right": t.right}
                for t in found.trees
            ],
            "more_trees": dict(found.more_trees),
            "not_compared": dict(found.not_compared),
        }

    def as_text(self) -> str:
        """A summary, the tensors that differ most, modules, and everything that is no tensor."""
        found = self.found
        counts = found.counts()
        said = [f"{counts[word]} {word}" for word in _WORDS if counts.get(word)]
        steps = "" if found.steps is None else f", {found.steps} steps apart"
        verdict = paint("same", "green") if found.same else paint("different", "yellow")
        sections = [
            f"{clean(found.left)} and {clean(found.right)}: {verdict}{steps}\n"
            f"tensors: {', '.join(said) or 'none'}; {size_text(found.bytes_read)} read"
        ]
        different = found.different()
        if different:
            sections.append(self._tensor_table(different))
            changed = [m for m in found.modules(self.depth) if m.equal < m.tensors]
            sections.append(self._module_table(changed[: self.top]))
        if found.trees:
            sections.append(_tree_table(found.trees[:_TREES_SHOWN]))
            more = len(found.trees) - _TREES_SHOWN + sum(found.more_trees.values())
            if more > 0:
                sections.append(f"and {more} more differences outside of tensors")
        sections += [f"not compared: {name}: {why}" for name, why in found.not_compared.items()]
        return "\n\n".join(sections)

    def _tensor(self, tensor: TensorChange) -> dict[str, Any]:
        return {
            "component": tensor.component,
            "name": tensor.name,
            "status": tensor.status,
            "left_name": tensor.left_name,
            "certain": tensor.certain,
            "left_dtype": tensor.left_dtype,
            "right_dtype": tensor.right_dtype,
            "left_shape": None if tensor.left_shape is None else list(tensor.left_shape),
            "right_shape": None if tensor.right_shape is None else list(tensor.right_shape),
            "numbers": None if tensor.numbers is None else self._numbers(tensor.numbers),
        }

    def _module(self, module: Module) -> dict[str, Any]:
        return {
            "component": module.component,
            "name": module.name,
            "tensors": module.tensors,
            "equal": module.equal,
            "numbers": self._numbers(module.numbers),
        }

    def _numbers(self, numbers: Numbers) -> dict[str, Any]:
        return {
            "elements": numbers.elements,
            "changed": numbers.changed,
            "changed_share": numbers.changed_share,
            "relative_l2": numbers.relative_l2,
            "update_ratio": self.found.update_ratio(numbers),
            "cosine": numbers.cosine,
            "max_abs": numbers.max_abs,
            "nan": [numbers.nan_left, numbers.nan_right],
            "inf": [numbers.inf_left, numbers.inf_right],
        }

    def _tensor_table(self, different: list[TensorChange]) -> str:
        rows = [
            [
                tensor.component,
                _name(tensor),
                tensor.status,
                _form(tensor),
                *self._cells(tensor.numbers),
            ]
            for tensor in different[: self.top]
        ]
        text = table(["part", "tensor", "", "form", *_COLUMNS], rows, "    rrrrrr")
        more = len(different) - self.top
        return text + (f"\nand {more} more tensors; see --top" if more > 0 else "")

    def _module_table(self, modules: list[Module]) -> str:
        rows = [
            [
                m.component,
                m.name or "(all)",
                f"{m.tensors - m.equal} of {m.tensors}",
                *self._cells(m.numbers),
            ]
            for m in modules
        ]
        return table(["part", "module", "differ", *_COLUMNS], rows, "   rrrrrr")

    def _cells(self, numbers: Numbers | None) -> list[str]:
        if numbers is None:
            return [""] * len(_COLUMNS)
        ratio, cosine = self.found.update_ratio(numbers), numbers.cosine
        odd = (numbers.nan_left, numbers.nan_right, numbers.inf_left, numbers.inf_right)
        return [
            f"{numbers.relative_l2:.3g}",
            "" if cosine is None else f"{cosine:.6f}",
            f"{numbers.max_abs:.3g}",
            f"{100 * numbers.changed_share:.3g} %",
            "" if ratio is None else f"{ratio:.2g}",
            paint("/".join(map(str, odd)), "red") if any(odd) else "",
        ]


_COLUMNS = ("rel. L2", "cosine", "max abs", "changed", "per step", "NaN/NaN/Inf/Inf")


def _name(tensor: TensorChange) -> str:
    if tensor.left_name is None:
        return tensor.name
    return f"{tensor.name} (was {tensor.left_name}{'' if tensor.certain else '?'})"


def _form(tensor: TensorChange) -> str:
    left = _one_form(tensor.left_dtype, tensor.left_shape)
    right = _one_form(tensor.right_dtype, tensor.right_shape)
    return left or right if not left or not right or left == right else f"{left} to {right}"


def _one_form(dtype: str | None, shape: tuple[int, ...] | None) -> str:
    return "" if dtype is None or shape is None else f"{dtype}{list(shape)}"


def _tree_table(trees: Any) -> str:
    def cell(change: TreeChange, side: str | None) -> str:
        return "(none)" if side is None else clean(side, 60)

    rows = [[t.component, t.path, cell(t, t.left), cell(t, t.right)] for t in trees]
    return table(["part", "where", "left", "right"], rows)
