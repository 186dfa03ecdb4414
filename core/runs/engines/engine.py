"""Interface of an engine: it starts the trainer's parent process of queued runs, and says where and whether it runs.

The run folder is authoritative: a run has finished when its folder states it, regardless of what an engine reports.
An engine is never asked while a page is drawn: see :mod:`core.runs.engine_poller`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from core.config import TrainConfig
from core.errors import UserError
from core.runs.store.engine_records import EngineRecord, JobReport


class EngineError(UserError):
    """An engine does not answer, or refuses a request."""


class UnansweredError(EngineError):
    """An engine does not answer: whether it took the request is not known, and it may be tried again."""


class UnsentError(UnansweredError):
    """An engine cannot be reached: it did not get the request, which may be tried again."""


@dataclass(frozen=True)
class Capabilities:
    """What an engine can do; outside this folder nothing looks at its kind.

    Attributes
    ----------
    jobs : bool. Whether a run is a job, which is submitted, asked about and cancelled; otherwise this machine trains it
        from its own queue, and its processes and devices are known.
    requests_gpus : bool. Whether it requests a GPU for each device of a run.
    """

    jobs: bool
    requests_gpus: bool = False


@dataclass(frozen=True)
class Check:
    """One thing that was tried on an engine.

    Attributes
    ----------
    what : str. What was tried.
    held : bool. Whether it held.
    found : str. What was found, and what to do where it did not hold.
    """

    what: str
    held: bool
    found: str


class Engine(Protocol):
    """Trains runs of a checkpoints root. Methods raise :class:`EngineError` if the engine does not answer or refuses.

    Attributes
    ----------
    name, kind : str. Name in ``engines.toml``; what it is ("slurm", "ray").
    title : str. Name and kind for people.
    poll_s : float. Interval at which it is asked about its jobs; 0 without jobs.
    capabilities : Capabilities.
    """

    name: str
    kind: str
    title: str
    poll_s: float
    capabilities: Capabilities

    def check_config(self, config: TrainConfig) -> None:
        """Refuse a configuration that this engine cannot train.

        Raises
        ------
        ConfigError
            If it cannot.
        """

    def submit(self, folders: Sequence[Path], worker: str) -> None:
        """Have queued runs started, in this order; a run that was submitted already is not submitted again.

        Parameters
        ----------
        folders : sequence of Path. Run folders of one root; their ``engine.json`` names this engine.
        worker : str. Module of the trainer process.
        """

    def resubmit(self, folder: Path) -> None:
        """Submit a queued run again whose job has expired; no effect where jobs do not."""

    def find(self, records: Sequence[EngineRecord]) -> list[str]:
        """Ids of the jobs with the names of records, empty where there is none, in one request."""

    def status_many(self, jobs: Sequence[str]) -> dict[str, JobReport]:
        """A report about each of these jobs, "unknown" for those that it does not know, in one request."""

    def ping(self) -> None:
        """Ask for an answer alone, where there is no job to ask about."""

    def cancel(self, job: str) -> None:
        """Cancel a job; no effect on one that has ended."""

    def logs(self, folder: Path) -> str:
        """The last lines that the engine itself wrote about a run; empty if there are none."""

    def check(self, root: Path) -> Iterator[Check]:
        """Try the engine: its client, whether it answers, and a job that looks for root, torch and GPUs."""
