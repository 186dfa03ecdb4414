"""Networks of a user: classes in Python files that the user names, and installed entry points. Needs no torch.

Configurations and checkpoints hold only the *name* of such a network, which is that of its class or entry point. Its
code is found by what the user of this machine has stated, never by what a file states that came from elsewhere:

- ``--model path/to/file.py:ClassName`` on the command line, which also adds it to the user's list
  (:func:`list_path`) once the network has proved to work, so that queued runs and the pages find it;
- the environment variable ``SEGMENTARIUM_NETWORKS``: files in this form, separated by commas;
- an installed package with an entry point of the group ``segmentarium.networks``.

Nothing here runs code of the user: what forms and plans need (the first line of the docstring, ``divisor``,
``options``, ``channels``) is read from the text of the class.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from core.config import ModelConfig
from core.errors import ConfigError
from core.files import atomic_replace
from core.models.architecture import Architecture, multiple_of

NETWORKS_VARIABLE = "SEGMENTARIUM_NETWORKS"
ENTRY_POINTS = "segmentarium.networks"
FORM = "path/to/file.py:ClassName"
KEPT = "keeps the contract of networks"  # what the check prints of a network without problems
CHECK = "python -m core.models.contract"  # checks a network, and adds it to the list
_named: dict[str, Path] = {}  # files of the networks that the user has named to this process, by name


def is_file_reference(text: str) -> bool:
    """Whether a text has the form ``path/to/file.py:ClassName``."""
    return text.rpartition(":")[0].endswith(".py")


def list_path() -> Path:
    """The user's list of networks: JSON, file by name."""
    if sys.platform == "win32":
        base = os.environ.get("APPDATA", "")
    else:
        base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base else Path(os.path.expanduser("~/.config"))) / "segmentarium" / "networks.json"


def name_network(reference: str, taken: Collection[str]) -> str:
    """Take up a network that the user names, for this process and its children; :func:`add_to_list` makes it known to
    later ones.

    Parameters
    ----------
    reference : str. ``path/to/file.py:ClassName``.
    taken : collection of str. Names that it may not have.

    Returns
    -------
    str. Its name, that of the class.

    Raises
    ------
    ConfigError
        If there is no such file or class, the file is not Python, or the name belongs to another network.
    """
    path, name = _split(reference)
    _read_class(path, name)
    if name in taken:
        raise ConfigError(f"model: {path}: the name {name} is that of a network of this program; rename the class")
    other = _listed().get(name)
    if other is not None and other != path and other.is_file():
        raise ConfigError(
            f"model: {path}: the name {name} belongs to {other}, by which runs of yours may know it; rename the "
            f"class, or take the other off the list {list_path()}"
        )
    os.environ[NETWORKS_VARIABLE] = ",".join(dict.fromkeys([f"{path}:{name}", *_stated()]))
    _named[name] = path
    return name


def add_to_list(name: str) -> None:
    """Add a network that the user has named to this process to their list, once it has kept the contract of networks,
    or was used; other names have no effect.

    Raises
    ------
    ConfigError
        If the list is damaged.
    """
    path = _named.get(name)
    if path is not None and (listed := _listed()).get(name) != path:
        with contextlib.suppress(OSError):  # no home folder to write to: the variable remains
            _write_list({**listed, name: path})


def find(name: str) -> Architecture | None:
    """The user's network of this name; ``None`` if there is none.

    Raises
    ------
    ConfigError
        If its file is missing or no longer has the class.
    """
    path = _files().get(name)
    if path is not None:
        if not path.is_file():
            raise ConfigError(
                f"model: {path}: the file of the network {name} is gone, or its disk is not there; put it back, or "
                f"name the place where it is now: --model {FORM}; for the pages: {CHECK} {FORM}"
            )
        return _from_file(path, name)
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        if point.name == name:
            return _from_entry_point(point)
    return None


def available() -> list[Architecture]:
    """The user's networks that can be read now."""
    names = [point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS)]
    with contextlib.suppress(ConfigError):
        names = [*_files(), *names]
    found = []
    for name in dict.fromkeys(names):
        with contextlib.suppress(ConfigError):
            found.append(find(name))
    return [entry for entry in found if entry is not None]


def _files() -> dict[str, Path]:
    """File by name; what the variable states comes before the list."""
    stated = {name: path for path, name in map(_split, reversed(_stated()))}
    return {**_listed(), **stated}


def _stated() -> list[str]:
    return [part.strip() for part in os.environ.get(NETWORKS_VARIABLE, "").split(",") if part.strip()]


def _listed() -> dict[str, Path]:
    try:
        content = json.loads(list_path().read_text(encoding="utf-8"))
        return {str(name): Path(str(path)) for name, path in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"{list_path()}: expected a JSON object of files by name ({error}); remove it") from error


def _write_list(files: dict[str, Path]) -> None:
    list_path().parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(list_path()) as temporary:
        temporary.write_text(json.dumps({name: str(path) for name, path in files.items()}, indent=2), encoding="utf-8")


def _split(reference: str) -> tuple[Path, str]:
    file, _, name = reference.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise ConfigError(f"model: expected {FORM}, got {reference!r}")
    return Path(os.path.expanduser(file)).absolute(), name


def _from_file(path: Path, name: str) -> Architecture:
    return _architecture(name, _read_class(path, name), path=str(path), class_name=name)


def _from_entry_point(point: importlib.metadata.EntryPoint) -> Architecture:
    """The packages above the module of an entry point are not imported to find its text."""
    stated = point.pattern.match(point.value)
    if stated is None or not (stated["attr"] or "").isidentifier():
        raise ConfigError(
            f'model: {point.name}: expected an entry point {point.name} = "package.module:Class", got {point.value!r}; '
            "name the module that defines the class, and the class"
        )
    top, *below = point.module.split(".")
    spec = importlib.util.find_spec(top)
    candidates: list[Path] = []
    if spec is not None and not below and spec.origin:
        candidates = [Path(spec.origin)]
    for folder in (spec.submodule_search_locations or ()) if spec is not None and below else ():
        inner = Path(folder, *below)
        candidates += [inner / "__init__.py", inner.with_suffix(".py")]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise ConfigError(f"model: {point.name}: expected the module {point.module} of its entry point, found none")
    package = point.module if path.name == "__init__.py" else point.module.rpartition(".")[0]
    node = _read_class(path, point.attr, package)
    return _architecture(point.name, node, module=point.module, class_name=point.attr)


def _read_class(path: Path, name: str, package: str | None = None) -> ast.ClassDef:
    """The text of a class.

    Parameters
    ----------
    path : Path. File that defines it.
    name : str. Of the class.
    package : str, optional. Package of the file's module, empty for none; ``None`` for the file of a user.
    """
    try:
        tree = ast.parse(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"model: {path}: expected the Python file of {name}: {error.strerror or error}") from error
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"model: {path}: expected Python: {error}") from error
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        raise ConfigError(
            f"model: {path}: expected a class {name}, found {', '.join(classes) or 'no class'}; the class has to be "
            f"defined in this very file, by a class statement at its top level{_origin(tree, path, name, package)}"
        )
    return classes[name]


def _origin(tree: ast.Module, path: Path, name: str, package: str | None) -> str:
    """What to name instead of a file that imports a class, as the end of a sentence; empty for one that does not."""
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    originals = {alias.asname or alias.name: (node, alias.name) for node in imports for alias in node.names}
    found = originals.get(name) or originals.get("*")
    if found is None:
        return ""
    node, original = found
    module, name = node.module or "", name if original == "*" else original
    may_be = "may be" if original == "*" else "is"
    if package is None:
        beside = path.parent.joinpath(*module.split(".")).with_suffix(".py")
        advice = f"{beside}:{name}" if module and beside.is_file() else "the file that defines it"
    else:
        if node.level:
            parts = package.split(".")
            module = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [module])])
        advice = f"{module}:{name}"
    return f"; it {may_be} imported from {module or 'its package'}: name {advice}"


def _architecture(name: str, node: ast.ClassDef, **where: str) -> Architecture:
    constants = dict(_constants(node))
    divisor, options = constants.get("divisor", 1), constants.get("options", ())
    channels = constants.get("channels", ())
    if not isinstance(divisor, int) or isinstance(divisor, bool) or divisor < 1:
        raise ConfigError(f"model: {name}.divisor: expected a whole number from 1 on, got {divisor!r}")
    known = [f.name for f in fields(ModelConfig) if f.name != "model"]
    if not isinstance(options, tuple) or not set(options) <= set(known):
        raise ConfigError(f"model: {name}.options: expected a tuple of {', '.join(known)}; got {options!r}")
    if channels != () and "channels" not in options:
        raise ConfigError(f"model: {name}.channels: expected 'channels' in its options too")
    summary = (ast.get_docstring(node) or "").partition("\n")[0].strip().rstrip(".")
    return Architecture(
        name=name,
        module=where.get("module", ""),
        class_name=where["class_name"],
        help=summary or f"network of {where.get('path') or where['module']}",
        channels=ModelConfig(channels=channels).channels,
        options=options,
        divisor=multiple_of(divisor),
        own=True,
        path=where.get("path", ""),
    )


def _constants(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    """Names and values of the literals that a class assigns."""
    for statement in node.body:
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets = [statement.target]
        for target in targets:
            if isinstance(target, ast.Name):
                with contextlib.suppress(ValueError):
                    yield target.id, ast.literal_eval(statement.value)  # type: ignore[attr-defined]
