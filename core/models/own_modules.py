"""Modules beside the file of a user's network: they are found before all others, and refused where another one would be
imported in their place. Needs no torch.

What a network imports from its folder is recorded in checkpoints (:mod:`core.models.own_source`), so that code is what
has to run. Other modules of that folder are not found before those that are installed, unlike for a script: the program
imports much of the standard library and of its packages only when it is needed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from core.paths import project_root

_folders: dict[str, str] = {}  # of the modules beside networks that were imported, by name
_added: set[str] = set()  # folders of networks that were not on the search path before


@contextlib.contextmanager
def found_first(names: Collection[str], folder: Path) -> Iterator[None]:
    """Import modules from a folder: those of the names before all others, also later; other ones after all others.

    Parameters
    ----------
    names : collection of str. Modules and packages in the folder, of which none is installed elsewhere.
    folder : Path. That of a network.
    """
    own, before = str(folder), dict(_folders)
    _folders.update(dict.fromkeys(names, own))
    if not any(isinstance(finder, _BesideNetworks) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BesideNetworks())
    searched = list(sys.path)
    if own not in sys.path:  # before the folders of other networks, which may have a file of that name
        sys.path.insert(next((n for n, entry in enumerate(sys.path) if entry in _added), len(sys.path)), own)
    try:
        yield
    except BaseException:
        _folders.clear()
        _folders.update(before)
        raise
    finally:
        if own not in searched:
            searched.append(own)
            _added.add(own)
        sys.path[:] = searched


def check_modules(path: Path, allowed: Mapping[str, Collection[str]]) -> None:
    """Check that a network gets the modules beside its file.

    Parameters
    ----------
    path : Path. Python file of the network.
    allowed : mapping. Folders beside its own from which a module may be loaded already, since its code is the same; by
        name of the module.

    Raises
    ------
    ImportError
        If another module of the name is installed, or loaded.
    """
    for name in sorted(allowed):
        where = module_elsewhere(name, path.parent)
        loaded = sys.modules.get(name)
        if not where and loaded is not None:
            folders = {os.path.realpath(folder) for folder in (str(path.parent), *allowed[name])}
            place = _place(loaded)
            where = "" if os.path.realpath(os.path.dirname(place)) in folders else place
        if where:
            package, module = path.parent / name, path.with_name(f"{name}.py")
            beside = package if (package / "__init__.py").is_file() or not module.is_file() else module
            raise ImportError(
                f"expected a name of its own for {beside}, got that of {where}, so that either could be imported; "
                "rename it, or remove the other one"
            )


def module_elsewhere(name: str, folder: Path) -> str:
    """Where Python has a module or package of a name that is not in a folder: its path; empty if it has none.

    The working directory, the program's own folder and those of other networks do not count.
    """
    if name in sys.builtin_module_names or name in sys.stdlib_module_names:
        return "the standard library of Python"
    left_out = {os.path.realpath(path) for path in map(str, (folder, os.getcwd(), project_root(), *_added))}
    searched = [entry for entry in sys.path if os.path.realpath(entry) not in left_out]
    for finder in sys.meta_path:
        if isinstance(finder, _BesideNetworks):
            continue
        spec = PathFinder.find_spec(name, searched) if finder is PathFinder else finder.find_spec(name, None)
        if spec is None or not spec.origin:  # of a folder without __init__.py: any module comes before it
            continue
        place = os.path.dirname(spec.origin) if spec.submodule_search_locations is not None else spec.origin
        if os.path.realpath(os.path.dirname(place)) not in left_out:
            return place
    return ""


class _BesideNetworks(MetaPathFinder):
    """Finds the modules beside networks."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or name not in _folders:
            return None
        spec = PathFinder.find_spec(name, [_folders[name]])
        if spec is not None and spec.loader is None:  # Python would join it with folders of its name elsewhere
            spec.submodule_search_locations = [os.path.join(_folders[name], name)]
        return spec


def _place(module: ModuleType) -> str:
    """File of a module, or folder of a package."""
    stated = vars(module)
    folders = list(stated.get("__path__") or ())
    return str(folders[0] if folders else stated.get("__file__") or "")
