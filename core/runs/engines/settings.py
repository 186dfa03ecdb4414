"""Engines of a checkpoints root, declared in its file ``engines.toml``: a table per engine, named by it.

```toml
[gpu-cluster]
kind = "slurm"
partition = "gpu"
time = "24:00:00"
setup = "source /opt/segmentarium/bin/activate"
```
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.files import StampedCache, read_replaced
from core.runs.store.engine_records import LOCAL, SILENT_S

FILE = "engines.toml"
MIN_POLL_S, MAX_POLL_S = 2.0, SILENT_S / 2  # asked twice before it counts as silent
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_TIME = re.compile(r"(\d+-)?\d+(:\d{1,2}){0,2}")
_TYPES = {"str": "text", "int": "a whole number", "float": "a number", "tuple[str, ...]": "a list of texts"}


@dataclass(frozen=True)
class EngineSettings:
    """Settings that every engine on other machines has.

    Attributes
    ----------
    setup : str. Shell commands before the run starts there, such as those that activate an environment.
    python : str. Python there; empty for the path of this one, where both machines see the same installation.
    project : str. Folder of Segmentarium there; empty for the path of this one.
    poll_s : float. Interval in seconds at which it is asked about its jobs.
    timeout_s : float. Longest wait for an answer in seconds.
    """

    setup: str = ""
    python: str = ""
    project: str = ""
    poll_s: float = 10.0
    timeout_s: float = 20.0

    def __post_init__(self) -> None:
        if not MIN_POLL_S <= self.poll_s <= MAX_POLL_S:
            raise ConfigError(f"poll_s: expected {MIN_POLL_S:g} to {MAX_POLL_S:g} s, got {self.poll_s:g}")
        if self.timeout_s <= 0:
            raise ConfigError(f"timeout_s: expected more than 0 s, got {self.timeout_s:g}")


@dataclass(frozen=True)
class SlurmSettings(EngineSettings):
    """Settings of a Slurm cluster; empty ones are left to its defaults.

    Attributes
    ----------
    partition, account, constraint, memory : str. As of ``sbatch``.
    time : str. Time limit, as ``HH:MM:SS`` or ``D-HH:MM:SS``.
    nodes : int. Nodes of a run; its devices are divided among them.
    gpus : str. Generic resource that is requested for each device ("gpu", "gpu:a100"); empty to request none.
    cpus : int. Processors for each device; 0 for the cluster's default.
    extra : tuple of str. Further arguments of ``sbatch``.
    signal_s : int. Seconds before the time limit at which the run is told to save a checkpoint and end.
    network : str. Network interface over which several nodes talk; empty to leave it to the libraries.
    port : int. Port on the first node at which several nodes meet.
    """

    partition: str = ""
    account: str = ""
    time: str = ""
    nodes: int = 1
    gpus: str = "gpu"
    cpus: int = 0
    memory: str = ""
    constraint: str = ""
    extra: tuple[str, ...] = field(default=())
    signal_s: int = 120
    network: str = ""
    port: int = 29500

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.time and not _TIME.fullmatch(self.time):
            raise ConfigError(f"time: expected a time limit such as 24:00:00 or 2-00:00:00, got {self.time!r}")
        for name, least in (("nodes", 1), ("cpus", 0), ("signal_s", 10)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: expected {least} or more, got {getattr(self, name)}")
        if not 1024 <= self.port <= 65535:
            raise ConfigError(f"port: expected 1024 to 65535, got {self.port}")


KINDS: dict[str, type[EngineSettings]] = {"slurm": SlurmSettings}
_cache: StampedCache[dict[str, tuple[str, EngineSettings]]] = StampedCache()


def read_settings(root: Path) -> dict[str, tuple[str, EngineSettings]]:
    """Kind and settings of each declared engine by name, cached; empty without the file.

    Raises
    ------
    ConfigError
        If the file is not understood: it names the engine and the setting.
    """
    path = root / FILE
    return _cache.get(lambda: _read(path), path, missing=dict)


def _read(path: Path) -> dict[str, tuple[str, EngineSettings]]:
    try:
        tables = tomllib.loads(read_replaced(lambda: path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: expected a TOML file with a table per engine, got: {error}") from error
    return {name: _parse(path, name, table) for name, table in tables.items()}


def _parse(path: Path, name: str, table: Any) -> tuple[str, EngineSettings]:
    where = f"{path}: [{name}]"
    if not _NAME.fullmatch(name) or name == LOCAL:
        raise ConfigError(f"{where}: expected a name of lower-case letters, digits and '-', other than {LOCAL!r}")
    if not isinstance(table, Mapping):
        raise ConfigError(f"{path}: {name}: expected a table [{name}] with the settings of an engine, got {table!r}")
    kind = table.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"{where}: kind: expected one of {', '.join(sorted(KINDS))}, got {kind!r}")
    fields = {f.name: str(f.type) for f in dataclasses.fields(KINDS[kind])}
    values: dict[str, Any] = {}
    for setting, value in table.items():
        if setting == "kind":
            continue
        if setting not in fields:
            raise ConfigError(f"{where}: expected settings {', '.join(fields)}; got {setting!r}")
        values[setting] = _value(f"{where}: {setting}", fields[setting], value)
    try:
        return kind, KINDS[kind](**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _value(where: str, type_name: str, value: Any) -> Any:
    """A value of the type of its setting."""
    if type_name == "float" and type(value) in (int, float):
        return float(value)
    if type_name == "tuple[str, ...]" and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if type(value).__name__ != type_name:
        raise ConfigError(f"{where}: expected {_TYPES[type_name]}, got {value!r}")
    return value
