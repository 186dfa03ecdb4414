"""The code of a user's network as it was in training: recorded in checkpoints, and compared with what it is now.

Checkpoints hold the names of its files and a digest, no code and no path. Nothing here runs code of the user, or needs
torch.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.models import architecture
from core.models.architecture import Architecture
from core.models.own_modules import module_elsewhere
from core.models.own_networks import FORM

PROGRAM = __name__.partition(".")[0]
FILE, CLASS, DIGEST = "file", "class", "sha256"  # of the record
CHANGED_SINCE = "has changed since it was trained"
MISSING_SINCE = " (when it was trained: "  # begins what a record says of code that is not found


def describe_code(name: str) -> dict[str, str]:
    """The record of a network's code, for a checkpoint: file or module, class, and digest; empty for a network of the
    program, and where the code cannot be read."""
    try:
        entry = architecture(name)
        if not entry.own:
            return {}
        return {
            FILE: Path(entry.path).name if entry.path else entry.module,
            CLASS: entry.class_name,
            DIGEST: _digest(entry),
        }
    except (ConfigError, OSError):
        return {}


def code_change(name: str, recorded: Mapping[str, Any]) -> str:
    """What is wrong with the code of a network beside a record of :func:`describe_code`: that it cannot be read any
    more, or has changed, with what to do; empty if neither, or for a network of the program.

    A change of comments alone is one too. A network without a record, of an earlier version, is not compared.
    """
    try:
        entry = architecture(name)
    except ConfigError as error:
        was = f"{MISSING_SINCE}class {recorded.get(CLASS)} of {recorded.get(FILE)})" if recorded else ""
        return f"{error}{was}"
    if not recorded:
        return ""
    if not entry.own:
        return (
            f"model: {name} is a network of this program here, and was the class {recorded.get(CLASS)} of "
            f"{recorded.get(FILE)} when it was trained; name that file: --model {FORM}"
        )
    try:
        now = _digest(entry)
    except OSError as error:
        return f"model: {entry.path or entry.module}: cannot be read: {error.strerror or error}"
    if now == recorded.get(DIGEST):
        return ""
    return (
        f"model: {entry.path or entry.module}: the code of the network {name} {CHANGED_SINCE}, so its results may be "
        "others than those it was chosen by; restore the code as it was, or train anew"
    )


def with_code_change(text: str, name: str, recorded: Mapping[str, Any]) -> str:
    """An error about a network, with what has become of its code if it is a user's own (:func:`code_change`)."""
    change = code_change(name, recorded)
    missing = change.partition(MISSING_SINCE)[0]
    if not change or missing in text:
        return text.replace(missing, change) if change else text
    return f"{text}; the code of {name} ({recorded.get(FILE)}) {CHANGED_SINCE}: restore it as it was"


def failure_in_code(name: str, error: BaseException) -> str:
    """Where in the code of a user's network an exception was raised, and which; empty if it was not raised there."""
    try:
        files = {str(path) for path in code_files(architecture(name))}
    except ConfigError:
        return ""
    places = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    inside = [f"{file}, line {line}" for file, line in places if file in files]
    text = " ".join(str(error).split())
    return f"model: {inside[-1]}: {type(error).__name__}: {text}" if inside else ""


def code_files(entry: Architecture) -> list[Path]:
    """The Python files on which a user's network may depend: its own and those beside it that it imports, or all of the
    package of its entry point; empty for a network of the program."""
    if not entry.own:
        return []
    if entry.path:
        return _with_imports(Path(entry.path))
    spec = importlib.util.find_spec(entry.module.partition(".")[0])
    if spec is None:
        return []
    folders = spec.submodule_search_locations
    if folders is None:
        return [Path(spec.origin)] if spec.origin else []
    return sorted(path for folder in folders for path in Path(folder).rglob("*.py"))


def modules_beside(path: Path) -> tuple[dict[str, str], set[str]]:
    """The modules and packages beside a file that it imports, directly or not.

    Returns
    -------
    digests : dict. SHA-256 of the code of each, with what it imports from the folder, by name; the program's own
        package is none of them.
    late : set of str. Names of those that are imported in a function, when it is called.
    """
    files = _with_imports(path)
    by_name: dict[str, list[Path]] = {}
    for file in files[1:]:
        by_name.setdefault(Path(file.relative_to(path.parent).parts[0]).stem, []).append(file)
    digests = {
        name: _digest_of(sorted({found for file in own for found in _with_imports(file, path.parent)}))
        for name, own in by_name.items()
    }
    late = {name for file in files for tree in _functions(file) for name in _names(tree)}
    return digests, digests.keys() & late


def _digest(entry: Architecture) -> str:
    """SHA-256 of the files of a network, in order of their names, whatever their line ends."""
    return _digest_of(code_files(entry))


def _digest_of(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0".encode())
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def _with_imports(path: Path, folder: Path | None = None) -> list[Path]:
    """A file, and those of a folder, by default its own, that it imports, directly or not."""
    folder = path.parent if folder is None else folder
    found, waiting = {path}, [path]
    while waiting:
        for name in _imported(waiting.pop()):
            files = _files_of_module(name, folder)
            waiting += [file for file in files if file not in found]
            found.update(files)
    return [path, *sorted(found - {path})]


def _files_of_module(name: str, folder: Path) -> list[Path]:
    """The files of a module or package in a folder, as Python chooses between them; none where it chooses one of
    another folder, and for the program's own package, which no other one replaces."""
    package, module = folder / name, folder / f"{name}.py"
    if name == PROGRAM:
        return []
    if module.is_file() and not (package / "__init__.py").is_file():
        return [module]
    files = sorted(package.rglob("*.py"))
    if files and not (package / "__init__.py").is_file() and module_elsewhere(name, folder):
        return []
    return files


def _imported(path: Path) -> set[str]:
    """First parts of the names of the modules that a file imports; empty for a file that cannot be read."""
    tree = _parse(path)
    return set() if tree is None else _names(tree)


def _functions(path: Path) -> list[ast.AST]:
    """The functions of a file; empty for one that cannot be read."""
    tree = _parse(path)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [] if tree is None else [node for node in ast.walk(tree) if isinstance(node, kinds)]


def _parse(path: Path) -> ast.Module | None:
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None


def _names(tree: ast.AST) -> set[str]:
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [node.module for node in imports if node.module and not node.level]
    return {name.partition(".")[0] for name in names}
