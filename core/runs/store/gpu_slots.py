"""Slots for runs that train at the same time: each GPU of this machine takes one run, its CPU another one.

A run on several devices takes as many GPUs at once. The queue order is kept: a later run does not take GPUs that the
first queued one waits for, but runs on the CPU do not wait for GPUs.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from core.config import TrainConfig
from core.processes import PROJECT, module_environment
from core.runs.store.state import RunState

COUNT_TIMEOUT_S = 120  # importing torch may take that long on a loaded machine
VISIBLE = "CUDA_VISIBLE_DEVICES"
_COUNT_SCRIPT = "import torch; print('gpus', torch.cuda.device_count() if torch.cuda.is_available() else 0)"


@dataclass(frozen=True)
class GpuSlot:
    """Devices of one run.

    Attributes
    ----------
    gpus : tuple of int. GPU indices, as torch counts those visible to this process; empty for the CPU.
    """

    gpus: tuple[int, ...] = ()

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The environment variables of a trainer that sees only these GPUs."""
        if not self.gpus:
            return dict(environment)
        visible = [name.strip() for name in environment.get(VISIBLE, "").split(",") if name.strip()]
        names = [visible[n] if n < len(visible) else str(n) for n in self.gpus]
        return {**environment, VISIBLE: ",".join(names)}


class SlotPool:
    """The free GPUs and the CPU of this machine.

    Parameters
    ----------
    gpus : int. Number of GPUs.
    """

    def __init__(self, gpus: int) -> None:
        self.gpus = gpus
        self._used: set[int] = set()
        self._cpu_used = self._gpus_reserved = False

    def occupy(self, config: TrainConfig, gpus: Iterable[int] = ()) -> None:
        """Mark the devices of an active run as used.

        Parameters
        ----------
        config : TrainConfig. The run's configuration.
        gpus : iterable of int. GPU indices assigned to it; empty for a run in a terminal, which uses the first ones.
        """
        if not self._needs_gpus(config):
            self._cpu_used = True
            return
        self._used.update(tuple(gpus) or range(config.run.devices))

    def allocate(self, config: TrainConfig) -> GpuSlot | None:
        """The slot of the next queued run; ``None`` if it has to wait. A run for more GPUs than there are gets all of
        them: its trainer reports the error."""
        if not self._needs_gpus(config):
            if self._cpu_used:
                return None
            self._cpu_used = True
            return GpuSlot()
        free = [n for n in range(self.gpus) if n not in self._used]
        needed = min(config.run.devices, self.gpus)
        if self._gpus_reserved or len(free) < needed:
            self._gpus_reserved = True
            return None
        self._used.update(free[:needed])
        return GpuSlot(tuple(free[:needed]))

    def _needs_gpus(self, config: TrainConfig) -> bool:
        return self.gpus > 0 and config.run.device in ("auto", "cuda")


def count_gpus() -> int:
    """Number of GPUs that torch can use.

    Torch is imported in a child process, since it is large and occupies a GPU; not at all if its build has no CUDA or
    ROCm.
    """
    if not _built_for_gpus():
        return 0
    command = [sys.executable, "-c", _COUNT_SCRIPT]
    try:
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env=module_environment(),
            capture_output=True,
            text=True,
            timeout=COUNT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    counts = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("gpus ")]
    return int(counts[-1]) if counts else 0


def _built_for_gpus() -> bool:
    """Whether torch was built with CUDA or ROCm, from its ``version.py``, without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return False
    try:
        text = (Path(spec.submodule_search_locations[0]) / "version.py").read_text(encoding="utf-8")
    except OSError:
        return True  # unknown: import torch and count
    return re.search(r"^(cuda|hip)\b[^=]*= *['\"]", text, re.MULTILINE) is not None


def queue_order(queued: Iterable[tuple[str, RunState]]) -> list[str]:
    """Ids of queued runs in the order in which they start."""
    return [run_id for run_id, _ in sorted(queued, key=lambda item: (item[1].turn, item[0]))]
