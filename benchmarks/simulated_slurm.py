"""A simulated Slurm cluster: the clients sbatch, squeue, scancel, sacct and sinfo, which keep jobs in a file.

    simulated = SimulatedSlurm(folder)
    simulated.start(gpus=4)     # makes the programs in folder, which is put first on PATH
    simulated.end(10)           # the ten oldest running jobs are over

Jobs wait in the order of their submission until one of the simulated GPUs is free, and then run until they are ended;
nothing is executed. Each answer has the format of Slurm 22.05, and takes the time of a Python process.
"""

from __future__ import annotations

import fcntl
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

CLIENTS = ("sbatch", "squeue", "scancel", "sacct", "sinfo")
STATE = "jobs.json"
OVER = ("COMPLETED", "CANCELLED")


class SimulatedSlurm:
    """A cluster.

    Parameters
    ----------
    folder : Path. Folder of its programs and its file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, gpus: int) -> None:
        """Make the programs of a cluster without jobs.

        Parameters
        ----------
        gpus : int. Jobs that run at once.
        """
        self.folder.mkdir(exist_ok=True)
        with self._jobs() as state:
            state.update(gpus=gpus, next=1, jobs=[], calls=dict.fromkeys(CLIENTS, 0))
        script = shlex.join([sys.executable, "-S", str(Path(__file__).resolve()), str(self.folder)])
        for name in CLIENTS:
            (self.folder / name).write_text(f'#!/bin/sh\nexec {script} {name} "$@"\n')
            (self.folder / name).chmod(0o755)

    def end(self, count: int) -> None:
        """End the oldest running jobs."""
        with self._jobs() as state:
            running = [job for job in state["jobs"] if job["state"] == "RUNNING"]
            for job in running[:count]:
                job["state"] = "COMPLETED"
            _schedule(state)

    def calls(self, client: str) -> int:
        """How often a client was called."""
        with self._jobs() as state:
            return int(state["calls"][client])

    def answer(self, client: str, arguments: Sequence[str]) -> str:
        """What a client prints."""
        with self._jobs() as state:
            state["calls"][client] += 1
            return _ANSWERS[client](state, arguments)

    @contextmanager
    def _jobs(self) -> Iterator[dict[str, Any]]:
        with (self.folder / STATE).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read()
            state = json.loads(text) if text else {}
            yield state
            file.seek(0)
            file.truncate()
            json.dump(state, file)


def _schedule(state: dict[str, Any]) -> None:
    free = state["gpus"] - sum(job["state"] == "RUNNING" for job in state["jobs"])
    for job in state["jobs"]:
        if free <= 0:
            return
        if job["state"] == "PENDING":
            job["state"], free = "RUNNING", free - 1


def _sbatch(state: dict[str, Any], arguments: Sequence[str]) -> str:
    options = dict(argument.lstrip("-").partition("=")[::2] for argument in arguments)
    number, state["next"] = state["next"], state["next"] + 1
    first, _, last = options.get("array", "").partition("-")
    tasks = [f"{number}_{task}" for task in range(int(first), int(last) + 1)] if last else [str(number)]
    state["jobs"] += [{"id": id, "name": options.get("job-name", ""), "state": "PENDING"} for id in tasks]
    _schedule(state)
    return f"{number}\n"


def _squeue(state: dict[str, Any], arguments: Sequence[str]) -> str:
    given = dict(pairwise(arguments))
    jobs = state["jobs"]
    if "--name" in given:
        names = set(given["--name"].split(","))
        jobs = [job for job in jobs if job["name"] in names]
    if "-j" in given:
        numbers = set(given["-j"].split(","))
        jobs = [job for job in jobs if job["id"].partition("_")[0] in numbers]
    if given.get("-t") != "all":
        jobs = [job for job in jobs if job["state"] not in OVER]
    return "".join(_wide_line(given["-O"], job) if "-O" in given else _line(given["-o"], job) for job in jobs)


def _line(form: str, job: dict[str, str]) -> str:
    values = {"%F": job["id"].partition("_")[0], "%j": job["name"]}
    for code, value in values.items():
        form = form.replace(code, value)
    return f"{form}\n"


def _wide_line(form: str, job: dict[str, str]) -> str:
    """A line of fields with the widths that are asked for: ``State:20,Reason:48``."""
    runs, task = job["state"] == "RUNNING", job["id"].partition("_")[2]
    values = {"JobArrayID": job["id"], "ArrayTaskID": task or "N/A", "State": job["state"]}
    values |= {"tres-per-node": "gres:gpu:1"}
    values |= {"Reason": "None" if runs else "Resources", "NodeList": "n1" if runs else "", "RestartCnt": "0"}
    asked = (field.partition(":") for field in form.split(","))
    return "".join(values[name][: int(width)].ljust(int(width)) for name, _, width in asked) + "\n"


def _scancel(state: dict[str, Any], arguments: Sequence[str]) -> str:
    for job in state["jobs"]:
        if job["id"] in arguments or job["id"].partition("_")[0] in arguments:
            job["state"] = "CANCELLED"
    _schedule(state)
    return ""


_ANSWERS = {
    "sbatch": _sbatch,
    "squeue": _squeue,
    "scancel": _scancel,
    "sacct": lambda state, arguments: "",
    "sinfo": lambda state, arguments: "ci*|1|idle\n",
}


def main() -> int:
    folder, client, *arguments = sys.argv[1:]
    if client == "sbatch":
        sys.stdin.read()  # the batch script
    sys.stdout.write(SimulatedSlurm(Path(folder)).answer(client, arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
