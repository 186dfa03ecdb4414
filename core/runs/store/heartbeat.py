"""Heartbeat of a run: written every second where it trains, and judged by other hosts by whether it changes.

The clocks of two hosts differ, so the time in a beat says little on another one. A reader remembers when it saw a beat
for the first time, and how old its file was then (:mod:`core.runs.store.file_clock`); only a beat that stays the same
for long enough on the reader's own clock is old for certain.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.formatting import format_duration
from core.hosts import boot_id, host_name
from core.runs.store import folder as files

HEARTBEAT = "heartbeat.json"
EVERY_S = 1.0
OLD_S = 60.0  # a heartbeat this late counts as missing: network file systems may show the content of up to a minute ago


@dataclass(frozen=True)
class Beat:
    """Content of ``heartbeat.json``.

    Attributes
    ----------
    host, boot : str. Host name and boot id of the machine.
    pid : int. PID of the process that writes it, the trainer's parent.
    job : str. Id of the job of the engine; empty without one.
    restart : int. How often the engine has restarted the job.
    at : float. Time on that machine, in seconds since 1970.
    count : int. Number of beats since the process was started.
    """

    host: str
    boot: str
    pid: int
    job: str
    restart: int
    at: float
    count: int


@dataclass(frozen=True)
class Silence:
    """Time for which a value has not changed.

    Attributes
    ----------
    age_s : float. Probable time since the last change; on the first read by the age of its file.
    observed_s : float. Time for which this process has seen no change, by its own clock.
    changed : bool. Whether this process has seen it change before.
    """

    age_s: float
    observed_s: float
    changed: bool

    @property
    def old(self) -> bool:
        """Whether the value has probably not changed for :data:`OLD_S`."""
        return self.age_s >= OLD_S

    @property
    def certain(self) -> bool:
        """Whether this process has observed that for itself."""
        return self.observed_s >= OLD_S


class ChangeWatch:
    """Remembers when this process first saw the present value of each of several things."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[Any, float, float, bool]] = {}  # value, when seen, its age then, changed

    def silence(self, key: Hashable, value: Any, first_age_s: Callable[[], float]) -> Silence:
        """For how long a thing has had its present value.

        Parameters
        ----------
        key : hashable. The thing.
        value : object. Its present value.
        first_age_s : callable. Its age in seconds; called at the first look only.
        """
        now, known = time.monotonic(), self._seen.get(key)
        if known is None:
            known = self._seen[key] = (value, now, max(0.0, first_age_s()), False)
        elif known[0] != value:
            known = self._seen[key] = (value, now, 0.0, True)
        _, since, age_s, changed = known
        return Silence(age_s + now - since, now - since, changed)


class Heartbeat:
    """Writes the heartbeat of a run from a thread while its context is open. A beat that cannot be written is left out:
    a full disk does not end a run.

    Parameters
    ----------
    folder : Path. The run folder.
    job : str. Id of the job of the engine; empty without one.
    restart : int. How often the engine has restarted the job.
    file : str. Name of its file.
    """

    def __init__(self, folder: Path, job: str = "", restart: int = 0, file: str = HEARTBEAT) -> None:
        self._path = folder / file
        self._beat = Beat(host_name(), boot_id(), os.getpid(), job, restart, 0.0, 0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._write(0)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        count = 0
        while not self._ended.wait(EVERY_S):
            count += 1
            self._write(count)

    def _write(self, count: int) -> None:
        beat = dataclasses.replace(self._beat, at=time.time(), count=count)
        with contextlib.suppress(RunError):
            files.write_json(self._path, dataclasses.asdict(beat))


def last_heard(host: str, age_s: float) -> str:
    """When something was last heard from a host, in words; from one that is not named for an empty one."""
    return f"last heard {f'from {host} ' if host else ''}{format_duration(age_s)} ago"


def read_beat(folder: Path, file: str = HEARTBEAT) -> Beat | None:
    """The last beat of a run; ``None`` before the first one, and where it cannot be read."""
    try:
        data = files.read_json(folder / file)
        return Beat(**{field.name: data[field.name] for field in dataclasses.fields(Beat)})
    except (RunError, KeyError, TypeError):
        return None
