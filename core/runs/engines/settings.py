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

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import ConfigError
from core.fields import Checked, option, specs_of
from core.files import StampedCache, read_replaced
from core.runs.store.engine_records import LOCAL, SILENT_S

FILE = "engines.toml"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_TIME = re.compile(r"(\d+-)?\d+(:\d{1,2}){0,2}")
_RESOURCE = re.compile(r"([^=\s]+)=(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class EngineSettings(Checked):
    """Settings that every engine on other machines has."""

    setup: str = option(
        "", "Setup", "shell commands before the run starts there, such as those that activate an environment"
    )
    python: str = option("", "Python", "Python there; empty for the path of this one")
    project: str = option("", "Project", "folder of Segmentarium there; empty for the path of this one")
    poll_s: float = option(
        10.0, "Interval", "time between two queries about its jobs", unit="s", minimum=2.0, maximum=SILENT_S / 2
    )  # asked twice before it counts as silent
    timeout_s: float = option(20.0, "Longest wait", "longest wait for an answer", unit="s", minimum=0.1)

    @property
    def requests_gpus(self) -> bool:
        """Whether a GPU is requested for each device of a run."""
        return False


@dataclass(frozen=True)
class SlurmSettings(EngineSettings):
    """Settings of a Slurm cluster; empty ones are left to its defaults."""

    partition: str = option("", "Partition", "as of `sbatch`; empty for that of the cluster")
    account: str = option("", "Account", "as of `sbatch`; empty for that of the cluster")
    time: str = option("", "Time limit", "`HH:MM:SS` or `D-HH:MM:SS`, as of `sbatch`; empty for that of the cluster")
    nodes: int = option(
        1, "Nodes", "nodes of a run; its `devices` are divided among them, started by `srun` and `torchrun`", minimum=1
    )
    gpus: str = option(
        "gpu", "GPUs", "generic resource that is requested for each device (`gpu`, `gpu:a100`); empty to request none"
    )
    cpus: int = option(0, "Processors", "processors for each device; 0 for the number of the cluster", minimum=0)
    memory: str = option("", "Memory", "as of `sbatch`; empty for that of the cluster")
    constraint: str = option("", "Constraint", "as of `sbatch`; empty for none")
    extra: tuple[str, ...] = option((), "Further arguments", "further arguments of `sbatch`")
    signal_s: int = option(
        120, "Warning", "time before the limit at which a run saves a checkpoint and ends", unit="s", minimum=10
    )
    network: str = option(
        "", "Network", "network interface over which several nodes talk; empty to leave it to the libraries"
    )
    port: int = option(29500, "Port", "port on the first node at which several nodes meet", minimum=1024, maximum=65535)

    @property
    def requests_gpus(self) -> bool:
        return bool(self.gpus)

    def check(self) -> None:
        _check_time(self.time)


@dataclass(frozen=True)
class RaySettings(EngineSettings):
    """Settings of a Ray cluster, which is asked by the HTTP interface of its dashboard."""

    address: str = option("", "Address", "of its dashboard: `http://HOST:8265`, `https://HOST`")
    token_file: str = option(
        "",
        "Token file",
        "file with its token; empty for where Ray's own commands look: `RAY_AUTH_TOKEN`, `RAY_AUTH_TOKEN_PATH`, "
        "`~/.ray/auth_token`",
    )
    time: str = option("", "Time limit", "`HH:MM:SS` or `D-HH:MM:SS`; empty for none")
    gpus: float = option(
        1.0, "GPUs", "GPUs that are requested for each device, which share a node; 0 to request none", minimum=0.0
    )
    cpus: float = option(1.0, "Processors", "processors that are requested for each device", minimum=0.1)
    memory_gib: float = option(0.0, "Memory", "memory that is requested for a run; 0 for none", unit="GiB", minimum=0.0)
    resources: tuple[str, ...] = option(
        (), "Resources", "further resources of a run by their names in Ray: `NAME=AMOUNT`"
    )
    signal_s: int = option(
        120, "Warning", "time before the limit at which a run saves a checkpoint and ends", unit="s", minimum=10
    )

    @property
    def requests_gpus(self) -> bool:
        return self.gpus > 0

    def check(self) -> None:
        scheme, found, host = self.address.partition("://")
        if scheme not in ("http", "https") or not found or not host.strip("/"):
            raise ConfigError(
                f"address: expected the address of its dashboard such as http://head:8265, got {self.address!r}"
            )
        _check_time(self.time)
        if self.time and time_limit_s(self.time) <= self.signal_s:
            raise ConfigError(f"time: expected more than the {self.signal_s} s of signal_s, got {self.time!r}")
        if self.gpus > 1.0 and self.gpus != int(self.gpus):
            raise ConfigError(f"gpus: expected a whole number or a part of one GPU, got {self.gpus:g}")
        for text in self.resources:
            if not _RESOURCE.fullmatch(text) or text.partition("=")[0] in ("CPU", "GPU", "memory"):
                raise ConfigError(
                    f"resources: expected NAME=AMOUNT with a name other than CPU, GPU and memory, got {text!r}"
                )

    @property
    def amounts(self) -> dict[str, float]:
        """Amount of each further resource by its name."""
        return {name: float(amount) for name, _, amount in (text.partition("=") for text in self.resources)}


def time_limit_s(text: str) -> int:
    """Seconds of a time limit, as Slurm reads it: ``M``, ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M``, ``D-H:M:S``."""
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = [(0, parts[0], 0), (0, *parts), tuple(parts)][len(parts) - 1]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _check_time(text: str) -> None:
    if text and not _TIME.fullmatch(text):
        raise ConfigError(f"time: expected a time limit such as 24:00:00 or 2-00:00:00, got {text!r}")


KINDS: dict[str, type[EngineSettings]] = {"ray": RaySettings, "slurm": SlurmSettings}
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
    cls: type = KINDS[kind]
    names = [spec.name for spec in specs_of(cls, section="")]
    values = {setting: value for setting, value in table.items() if setting != "kind"}
    for setting in values:
        if setting not in names:
            raise ConfigError(f"{where}: expected settings {', '.join(names)}; got {setting!r}")
    try:
        return kind, KINDS[kind](**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
