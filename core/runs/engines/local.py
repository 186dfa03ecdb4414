"""The queue of this machine as an engine: a detached supervisor per root and host starts its runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from core.config import TrainConfig
from core.errors import RunError
from core.hosts import host_in_file_name, machine_marks
from core.processes import module_command
from core.runs.engines.engine import Capabilities, Check
from core.runs.store import folder as files
from core.runs.store.engine_records import LOCAL, EngineRecord, JobReport, read_engine
from core.runs.store.gpu_slots import count_gpus
from core.runs.store.process import is_alive, start_detached
from core.runs.store.reconciliation import reconciled_state
from core.runs.store.run_origin import Origin, is_here
from core.runs.store.state import RunState

EARLIER_SUPERVISOR = ".supervisor.json"  # of versions whose root belonged to one host
SUPERVISOR_LOG = ".supervisor.log"
TITLE = "this machine"


def supervisor_file(root: Path) -> Path:
    """Record of the queue supervisor of this host."""
    return root / f".supervisor.{_host()}.json"


def supervisor_lock(root: Path) -> Path:
    """Lock of the queue supervisor of this host."""
    return root / f".supervisor.{_host()}.lock"


def supervisor_alive(root: Path) -> bool:
    """Whether a queue supervisor of this root is running on this host."""
    if _is_supervisor(supervisor_file(root)) or _is_supervisor(root / EARLIER_SUPERVISOR):
        return True
    return any(_is_supervisor(path) for path in root.glob(".supervisor.*.json"))  # from before the host was renamed


def ensure_supervisor(root: Path, worker: str) -> None:
    """Start a detached queue supervisor unless one is running. If two are started at once, one of them exits."""
    if not supervisor_alive(root):
        command = module_command("core.runs.processes.queue_supervisor", str(root.absolute()), "--worker", worker)
        start_detached(command, root / SUPERVISOR_LOG)


def in_queue_here(folder: Path, state: RunState) -> bool:
    """Whether a run waits in the queue of this host."""
    return state.state == "queued" and state.origin.is_own and read_engine(folder) is None


class LocalEngine:
    """The queue of this machine.

    Parameters
    ----------
    root : Path. Checkpoints root.
    """

    name = LOCAL
    kind = LOCAL
    title = TITLE
    poll_s = 0.0
    capabilities = Capabilities(jobs=False)

    def __init__(self, root: Path) -> None:
        self._root = root

    def check_config(self, config: TrainConfig) -> None:
        """Every configuration is taken: the trainer reports what this machine lacks."""

    def submit(self, folders: Sequence[Path], worker: str) -> None:
        """Start the supervisor, which starts the runs when a slot is free."""
        if folders:
            ensure_supervisor(self._root, worker)

    def resubmit(self, folder: Path) -> None:
        """Runs have no jobs here."""

    def find(self, records: Sequence[EngineRecord]) -> list[str]:
        """Runs have no jobs here."""
        return [""] * len(records)

    def status_many(self, jobs: Sequence[str]) -> dict[str, JobReport]:
        """Runs have no jobs here: their state follows from their processes."""
        return {}

    def ping(self) -> None:
        """This machine is here."""

    def cancel(self, job: str) -> None:
        """Runs have no jobs here: they are stopped by their stop file."""

    def logs(self, folder: Path) -> str:
        """Everything is in the log of the run."""
        return ""

    def check(self, root: Path) -> Iterator[Check]:
        """Say how many GPUs the queue gives to runs."""
        gpus = count_gpus()
        yield Check("GPUs", True, f"torch sees {gpus} here: each trains one run" if gpus else "none: runs use the CPU")
        queued = sum(in_queue_here(folder, reconciled_state(folder)) for folder in files.run_folders(root))
        yield Check("queue", True, f"{queued} queued; supervisor {'running' if supervisor_alive(root) else 'idle'}")


def _is_supervisor(path: Path) -> bool:
    try:
        record = files.read_json(path)
    except RunError:
        return False
    identity = str(record.get("identity", ""))
    origin = Origin(str(record.get("host", "")), str(record.get("pid_space", "")))
    return is_here(origin, identity) and is_alive(record.get("pid"), identity)


def _host() -> str:
    """This host in names of files: by a mark too, where it has one, as another machine may have its name."""
    return ".".join([host_in_file_name(), *machine_marks()[:1]])
