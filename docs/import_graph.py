"""The import graph of the project, read from its source files: for the layering test and the architecture page."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("pages", "ui", "core")
ENTRY_POINTS = {"core.__main__"}  # starts the program; counts for no folder


def sources(*layers: str) -> dict[str, Path]:
    """Every module of these layers by its dotted name."""
    found = {}
    for layer in layers:
        for path in sorted((ROOT / layer).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(path: Path, module: str, for_types: bool = True) -> tuple[str, ...]:
    """The dotted names that a file imports, inside functions too; ``from a import b`` gives ``a.b``.

    Parameters
    ----------
    for_types : bool. Whether imports under ``if TYPE_CHECKING:`` count, which never run.
    """
    return tuple(name for name, runs in _imports(path, module) if runs or for_types)


@cache
def _imports(path: Path, module: str) -> tuple[tuple[str, bool], ...]:
    """The dotted names that a file imports, and whether the import can run; each file is read once."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"), str(path))))
    never = {
        id(inner)
        for node in nodes
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    names: list[tuple[str, bool]] = []
    for node in nodes:
        runs = id(node) not in never
        if isinstance(node, ast.Import):
            names += ((alias.name, runs) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            names += ((f"{origin}.{alias.name}", runs) for alias in node.names)
    return tuple(names)


def first_party(path: Path, module: str, known: Mapping[str, Path], for_types: bool = True) -> set[str]:
    """The project's own modules that a file imports, a parent package's ``__init__`` not counted."""
    found = set()
    for name in imports_of(path, module, for_types):
        while name and name not in known:
            name = name.rpartition(".")[0]
        if name and name != module:
            found.add(name)
    return found


def folder_of(module: str, path: Path) -> str:
    """The folder of a module as a dotted name."""
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def folder_graph() -> dict[str, dict[str, set[str]]]:
    """Imports between folders: ``{folder: {imported folder: {"module imports module"}}}``; every folder is a key."""
    modules = {m: p for m, p in sources(*LAYERS).items() if m not in ENTRY_POINTS}
    graph: dict[str, dict[str, set[str]]] = {folder_of(m, p): {} for m, p in modules.items()}
    for module, path in modules.items():
        ours = folder_of(module, path)
        for name in first_party(path, module, modules):
            theirs = folder_of(name, modules[name])
            if theirs != ours:
                graph[ours].setdefault(theirs, set()).add(f"{module} imports {name}")
    return graph


def levels(graph: Mapping[str, Mapping[str, object]]) -> dict[str, int]:
    """The length of the longest chain of imports below each folder.

    Raises
    ------
    ValueError
        If folders import each other in a cycle.
    """
    found: dict[str, int] = {}
    while len(found) < len(graph):
        ready = [f for f in graph if f not in found and all(below in found for below in graph[f])]
        if not ready:
            raise ValueError(f"folders import each other: {sorted(graph.keys() - found.keys())}")
        found |= {f: max((found[below] + 1 for below in graph[f]), default=0) for f in ready}
    return found


def transitive_reduction(graph: Mapping[str, Mapping[str, object]]) -> dict[str, set[str]]:
    """The imports that no longer chain of imports implies."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for below in graph[waiting.pop()]:
                if below not in seen:
                    seen.add(below)
                    waiting.append(below)
        return seen

    below = {folder: reachable(folder) for folder in graph}
    return {f: {t for t in graph[f] if not any(t in below[other] for other in graph[f] if other != t)} for f in graph}
