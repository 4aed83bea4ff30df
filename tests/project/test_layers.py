"""The layer table of docs/architecture.md, enforced."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from holdfast import _HOMES

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "holdfast"
TABLE = ROOT / "docs" / "architecture.md"


def _layers() -> dict[str, tuple[float, str]]:
    """Package name -> (layer number, layer label), read from the table that people read."""
    layers: dict[str, tuple[float, str]] = {}
    for row in re.findall(r"^\| (L\d[^|]*)\|([^|]*)\|", TABLE.read_text(), re.MULTILINE):
        label = row[0].strip()
        for package in re.findall(r"`([a-z_]+)`", row[1]):
            layers[package] = (int(label[1]) + (0.5 if label.endswith("+") else 0), label)
    return layers


LAYERS = _layers()
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def _package(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def _imports(path: Path) -> set[str]:
    """Packages of ours that a module imports, type-checking imports included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = (
                [_HOMES.get(alias.name, f"holdfast.{alias.name}") for alias in node.names]
                if node.module == "holdfast"
                else [node.module]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("holdfast.")}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_point_down(path: Path) -> None:
    """A module imports lower layers and its own package, never sideways, never up."""
    package = _package(path)
    assert package in LAYERS, f"{package} is missing from the table in docs/architecture.md"
    level, label = LAYERS[package]
    for imported in _imports(path) - {package}:
        other_level, other_label = LAYERS[imported]
        assert other_level < level, f"{label} {package} imports {other_label} {imported}"


def test_places_know_nothing_of_tensors() -> None:
    """Nothing under storage or in a pure layer imports torch."""
    pure = {name for name, (level, _) in LAYERS.items() if level <= 1} | {"storage"}
    for path in MODULES:
        if _package(path) in pure:
            roots = {
                (node.module or "").split(".")[0]
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.ImportFrom)
            } | {
                alias.name.split(".")[0]
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Import)
                for alias in node.names
            }
            assert "torch" not in roots, path


def test_nothing_imports_pickle() -> None:
    """No module of ours imports pickle or one of its kin."""
    for path in MODULES:
        text = path.read_text()
        assert not re.search(
            r"^\s*(import|from) (pickle|dill|cloudpickle|shelve|marshal)\b", text, re.M
        )


def test_files_and_functions_stay_small() -> None:
    """No source file has over 400 lines, no function over 60."""
    for path in MODULES:
        text = path.read_text()
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
                assert node.end_lineno - node.lineno <= 60, f"{path}: {node.name}"
