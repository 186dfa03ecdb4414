"""Finds the engines of a checkpoints root by name."""

from __future__ import annotations

from pathlib import Path

from core.errors import ConfigError
from core.runs.engines.engine import Engine
from core.runs.engines.local import LocalEngine
from core.runs.engines.ray import RayEngine
from core.runs.engines.settings import FILE, RaySettings, SlurmSettings, read_settings
from core.runs.engines.slurm import SlurmEngine
from core.runs.store.engine_records import LOCAL


def declares_engines(root: Path) -> bool:
    """Whether a root declares engines besides the queue of this machine."""
    return (root / FILE).is_file()


def list_engines(root: Path) -> list[Engine]:
    """The queue of this machine, and the engines that ``engines.toml`` declares, in its order.

    Raises
    ------
    ConfigError
        If the file is not understood.
    """
    return [LocalEngine(root), *(get_engine(root, name) for name in read_settings(root))]


def get_engine(root: Path, name: str) -> Engine:
    """The engine with this name; the queue of this machine for an empty one.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name in ("", LOCAL):
        return LocalEngine(root)
    declared = read_settings(root)
    if name not in declared:
        known = ", ".join([LOCAL, *declared])
        raise ConfigError(f"engine: expected one of {known}, which {root / FILE} declares; got {name!r}")
    _, settings = declared[name]
    if isinstance(settings, SlurmSettings):
        return SlurmEngine(root, name, settings)
    if isinstance(settings, RaySettings):
        return RayEngine(root, name, settings)
    raise AssertionError(f"an engine of kind {declared[name][0]} has no class")
