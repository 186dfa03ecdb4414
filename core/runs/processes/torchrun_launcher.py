"""Launcher of a run on several devices: starts one trainer per device with torchrun, which restarts them when one dies.

``python -m core.runs.processes.torchrun_launcher FOLDER --devices N --worker MODULE``, started by the trainer parent in
place of the trainer; the run's ``pid`` is the launcher's. When a trainer is killed, torchrun restarts all of them, and
they resume from the last checkpoint. An error raised in a trainer ends the run instead: rank 0 writes it to the state,
other ranks pass it to rank 0 in ``failure.json``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import RunError
from core.runs.store import folder as files
from core.runs.store.engine_records import JOB_NODE, JOB_NODE_COUNT, JOB_RENDEZVOUS
from core.runs.store.process import die_with_parent
from core.runs.store.reconciliation import reconciled_state
from core.runs.store.state import ENDED, read_state

MAX_RESTARTS = 5  # per start of the run
LAUNCHER_PID = "SEGMENTARIUM_LAUNCHER"  # environment variable of the trainers: PID of the launcher
FAILURE = "failure.json"  # in the run folder, written by a rank other than 0
POLL_S = 0.2
WAIT_S = 5.0  # for rank 0 to write how the run ended


@dataclass(frozen=True)
class TorchrunContext:
    """Environment of a trainer started by torchrun.

    Attributes
    ----------
    rank : int. Rank of the process.
    restarts : int. How often torchrun has restarted the trainers.
    launcher_pid : int. PID of the launcher.
    """

    rank: int
    restarts: int
    launcher_pid: int


@dataclass(frozen=True)
class JobNodes:
    """The nodes of a job, on each of which a launcher starts its share of the trainers. They are not restarted one by
    one: a trainer that dies ends the job's step, and the run resumes from its last checkpoint.

    Attributes
    ----------
    count : int. Number of nodes.
    number : int. Number of this node, from 0; on the first one is rank 0.
    address, port : str. Where the first one listens.
    """

    count: int
    number: int
    address: str
    port: str

    def options(self) -> list[str]:
        """Arguments of torchrun."""
        place = ["--nnodes", str(self.count), "--node-rank", str(self.number), "--max-restarts", "0"]
        return [*place, "--master-addr", self.address, "--master-port", self.port]


def nodes_of_job() -> JobNodes | None:
    """The nodes of the job of this process; ``None`` where it has one node."""
    number, meeting = os.environ.get(JOB_NODE, ""), os.environ.get(JOB_RENDEZVOUS, "")
    if not number or not meeting:
        return None
    address, _, port = meeting.rpartition(":")
    return JobNodes(int(os.environ[JOB_NODE_COUNT]), int(number), address, port)


def torchrun_context() -> TorchrunContext | None:
    """The context of this process; ``None`` for a trainer on a single device."""
    launcher_pid = os.environ.get(LAUNCHER_PID, "")
    if not launcher_pid or "RANK" not in os.environ:
        return None
    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    return TorchrunContext(int(os.environ["RANK"]), restarts, int(launcher_pid))


def write_failure(folder: Path, rank: int, message: str) -> None:
    """Pass an error of a rank other than 0 to rank 0, unless rank 0 raises one too and ends the run."""
    deadline = time.monotonic() + WAIT_S
    while read_state(folder).active and time.monotonic() < deadline:
        time.sleep(POLL_S)
    files.write_json(folder / FAILURE, {"rank": rank, "message": message}, durable=True)


def read_failure(folder: Path) -> str:
    """The message of :func:`write_failure` since the run was started; empty if there is none."""
    try:
        return str(files.read_json(folder / FAILURE).get("message", ""))
    except RunError:
        return ""


def exit_when_run_ends(folder: Path) -> None:
    """Wait until the run has ended, then end this process, which may be waiting for a rank 0 that has exited."""
    while reconciled_state(folder).state not in ENDED:  # an old answer of an engine may say that its job waits
        time.sleep(POLL_S)
    time.sleep(WAIT_S)
    os._exit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the trainers of the run in FOLDER and wait until they end."""
    parser = argparse.ArgumentParser(prog="python -m core.runs.processes.torchrun_launcher", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, required=True, help="number of trainers")
    parser.add_argument("--worker", required=True, help="module of the trainer process")
    parser.add_argument("--attached", type=int, default=0, metavar="PID", help="PID of the command in the terminal")
    args = parser.parse_args(arguments)
    if args.attached:
        die_with_parent(args.attached)
    nodes = nodes_of_job()
    if nodes is None or nodes.number == 0:
        (args.folder / FAILURE).unlink(missing_ok=True)
    os.environ[LAUNCHER_PID] = str(os.getpid())
    if nodes is None and sys.platform == "linux":
        os.environ.setdefault(
            "GLOO_SOCKET_IFNAME", "lo"
        )  # all on this machine, independent of what its host name resolves to
    here = args.devices if nodes is None else args.devices // nodes.count
    # Unset, torchrun sets it to 1 with a warning; every trainer limits its threads itself.
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // here, 1)))
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    command = ["--nproc-per-node", str(here), *(_one_node() if nodes is None else nodes.options())]
    command += ["--monitor-interval", "0.2", "-m", args.worker, str(args.folder)]
    if args.attached:
        command += ["--attached", str(args.attached)]
    try:
        torchrun(command)
    except ChildFailedError as error:
        print(_describe(error, args.devices, MAX_RESTARTS if nodes is None else 0), flush=True)
        return 1
    return 0


def _one_node() -> list[str]:
    """Arguments of torchrun for trainers on this machine alone."""
    return ["--standalone", "--local-addr", "localhost", "--max-restarts", str(MAX_RESTARTS)]


def _describe(error: object, devices: int, restarts: int) -> str:
    """One line about the trainer that exhausted the restarts."""
    rank, failure = error.get_first_failure()  # type: ignore[attr-defined]
    status = f"exit status {failure.exitcode}"
    if failure.exitcode < 0:
        status = signal.Signals(-failure.exitcode).name
    return f"trainer {rank} of {devices} ended with {status} after {restarts} restarts: the run is given up"


if __name__ == "__main__":
    sys.exit(main())
