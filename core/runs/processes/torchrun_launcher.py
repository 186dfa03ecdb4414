"""Several trainer processes for one run, one for each device: ``torchrun`` starts them and replaces those that die.

``python -m core.runs.processes.torchrun_launcher FOLDER --devices N``, started by the shim in place of the trainer; the run's ``pid`` is this
process's. When a trainer is killed, torchrun starts all of them anew, and they go on from the last checkpoint. What a
trainer finds wrong itself ends the run instead: the leader writes it down, another leaves a note for the leader.
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
from core.runs.store.process import die_with_parent
from core.runs.store.state import observe, read_state

RESTARTS = 5  # that a run survives between two starts of its own
LAUNCHER = "SEGMENTARIUM_LAUNCHER"  # environment: the pid of this process
NOTE = "failure.json"  # in the run folder, from a trainer that is not the leader
POLL_S = 0.2
WAIT_S = 5.0  # for the leader to write down how the run ended


@dataclass(frozen=True)
class Member:
    """One of the trainers, as its environment tells.

    Attributes
    ----------
    rank : from 0, the leader.
    restarts : how often the crew was started anew.
    launcher : pid of the process that looks after the crew.
    """

    rank: int
    restarts: int
    launcher: int


def member() -> Member | None:
    """Who this process is in a crew; ``None`` for a trainer that works alone."""
    launcher = os.environ.get(LAUNCHER, "")
    if not launcher or "RANK" not in os.environ:
        return None
    return Member(int(os.environ["RANK"]), int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")), int(launcher))


def leave_note(folder: Path, rank: int, message: str) -> None:
    """Write down for the leader what went wrong here, unless it meets the same and ends the run by itself."""
    until = time.monotonic() + WAIT_S
    while read_state(folder).active and time.monotonic() < until:
        time.sleep(POLL_S)
    files.write_json(folder / NOTE, {"rank": rank, "message": message}, durable=True)


def read_note(folder: Path) -> str:
    """What :func:`leave_note` wrote since the run was started; empty if nothing."""
    try:
        return str(files.read_json(folder / NOTE).get("message", ""))
    except RunError:
        return ""


def exit_when_run_ends(folder: Path) -> None:
    """Wait until the run has ended; what then is left of this trainer waits for a leader that is gone, and is ended."""
    while observe(folder).active:
        time.sleep(POLL_S)
    time.sleep(WAIT_S)
    os._exit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the trainers of the run in FOLDER and look after them until they are done."""
    parser = argparse.ArgumentParser(prog="python -m core.runs.processes.torchrun_launcher", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, required=True, help="trainers to start")
    parser.add_argument("--worker", required=True, help="the module that trains")
    parser.add_argument("--attached", type=int, default=0, metavar="PID", help="pid of the command that watches")
    args = parser.parse_args(arguments)
    if args.attached:
        die_with_parent(args.attached)
    (args.folder / NOTE).unlink(missing_ok=True)
    os.environ[LAUNCHER] = str(os.getpid())
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # they are all on this machine, whatever its name resolves to
    # Set, or torchrun sets it to 1 with a warning; every trainer takes its part of the cores itself.
    os.environ.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // args.devices, 1)))
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    attached = ["--attached", str(args.attached)] if args.attached else []
    try:
        torchrun(
            ["--standalone", "--nproc-per-node", str(args.devices), "--max-restarts", str(RESTARTS),
             "--monitor-interval", "0.2", "--local-addr", "localhost", "-m", args.worker, str(args.folder), *attached]
        )  # fmt: skip
    except ChildFailedError as error:
        print(_told(error, args.devices), flush=True)
        return 1
    return 0


def _told(error: object, devices: int) -> str:
    """A line about trainers that died once too often."""
    rank, failure = error.get_first_failure()  # type: ignore[attr-defined]
    how = f"exit status {failure.exitcode}"
    if failure.exitcode < 0:
        how = signal.Signals(-failure.exitcode).name
    return f"trainer {rank} of {devices} ended with {how}, after {RESTARTS} new starts: the run is given up"


if __name__ == "__main__":
    sys.exit(main())
