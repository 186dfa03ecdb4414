"""Where runs train at the same time: one run on each GPU of this machine, and one on its CPU.

A run on several devices takes as many GPUs at once. The queue is kept in order: nobody who came later takes the GPUs
that the first in line waits for; a run for the CPU does not wait for GPUs.
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
from core.runs.store.process import PROJECT, module_environment
from core.runs.store.state import RunState

COUNT_S = 120  # that torch may take to start, on a machine under load
VISIBLE = "CUDA_VISIBLE_DEVICES"
_COUNT = "import torch; print('gpus', torch.cuda.device_count() if torch.cuda.is_available() else 0)"


@dataclass(frozen=True)
class Place:
    """What a run trains on: the numbers of its GPUs, as torch counts those that this process sees; none: the CPU."""

    gpus: tuple[int, ...] = ()

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The variables with which a trainer sees its GPUs alone."""
        if not self.gpus:
            return dict(environment)
        visible = [name.strip() for name in environment.get(VISIBLE, "").split(",") if name.strip()]
        names = [visible[n] if n < len(visible) else str(n) for n in self.gpus]
        return {**environment, VISIBLE: ",".join(names)}


class Slots:
    """What is free beside the runs that train already.

    Parameters
    ----------
    gpus : of this machine.
    """

    def __init__(self, gpus: int) -> None:
        self.gpus = gpus
        self._taken: set[int] = set()
        self._cpu_taken = self._gpus_wanted = False

    def take(self, config: TrainConfig, gpus: Iterable[int] = ()) -> None:
        """A run trains already. ``gpus``: what it was given; one in a terminal was given none and takes the first."""
        if not self._on_gpus(config):
            self._cpu_taken = True
            return
        self._taken.update(tuple(gpus) or range(config.run.devices))

    def give(self, config: TrainConfig) -> Place | None:
        """A place for the next run in line; ``None`` where it has to wait. More GPUs than there are count as all: the
        trainer says what is wrong."""
        if not self._on_gpus(config):
            if self._cpu_taken:
                return None
            self._cpu_taken = True
            return Place()
        free = [n for n in range(self.gpus) if n not in self._taken]
        wanted = min(config.run.devices, self.gpus)
        if self._gpus_wanted or len(free) < wanted:
            self._gpus_wanted = True
            return None
        self._taken.update(free[:wanted])
        return Place(tuple(free[:wanted]))

    def _on_gpus(self, config: TrainConfig) -> bool:
        return self.gpus > 0 and config.run.device != "cpu"


def count_gpus() -> int:
    """The GPUs that torch can use here; asked in another process, since torch is large and keeps a GPU busy. Where it
    was built without CUDA or ROCm nothing is asked."""
    if not _built_for_gpus():
        return 0
    command = [sys.executable, "-c", _COUNT]
    try:
        done = subprocess.run(
            command, cwd=PROJECT, env=module_environment(), capture_output=True, text=True, timeout=COUNT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    told = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("gpus ")]
    return int(told[-1]) if told else 0


def _built_for_gpus() -> bool:
    """What torch's own file about its build says, which can be read without importing torch."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.submodule_search_locations:
        return False
    try:
        text = (Path(found.submodule_search_locations[0]) / "version.py").read_text(encoding="utf-8")
    except OSError:
        return True  # not known: ask torch
    return re.search(r"^(cuda|hip)\b[^=]*= *['\"]", text, re.MULTILINE) is not None


def in_order(queued: Iterable[tuple[str, RunState]]) -> list[str]:
    """Ids of queued runs, the next one first."""
    return [run for run, _ in sorted(queued, key=lambda item: (item[1].turn, item[0]))]
