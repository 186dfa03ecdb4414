"""Slurm as an engine: sbatch starts the trainer's parent process of a run as a job, squeue reports its state.

The commands are called as a person would call them; nothing of the cluster is configured but in ``engines.toml``.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from core.config import TrainConfig
from core.errors import ConfigError
from core.runs.engines.check_job import run_check_job
from core.runs.engines.engine import Capabilities, Check, EngineError, UnansweredError, UnsentError
from core.runs.engines.job_shell import OUTPUT, end_of, job_name, preamble, python_of, trainer_parent
from core.runs.engines.settings import SlurmSettings
from core.runs.engines.slurm_reasons import (
    UNKNOWN,
    explain_end,
    explain_refusal,
    explain_waiting,
    is_unanswered,
    is_unsent,
)
from core.runs.store import folder as files
from core.runs.store.engine_records import (
    ANSWERS,
    JOB,
    JOB_ENDS,
    JOB_NAME,
    JOB_NODE,
    JOB_NODE_COUNT,
    JOB_NODES,
    JOB_RENDEZVOUS,
    JOB_RESTART,
    JOB_SIGNAL_S,
    EngineRecord,
    JobReport,
    JobState,
    change_engine,
    read_engine,
)
from core.runs.store.process import LockHeldError

MAX_LISTED = 500  # jobs that one squeue call names; more are found among all jobs
_LIVING = "PENDING,CONFIGURING,RUNNING,SUSPENDED"
# What squeue is asked about a job, and the width in which it prints that: only this form has the restarts.
JOB_FIELDS = {
    "JobArrayID": 20,
    "ArrayTaskID": 20,
    "State": 20,
    "Reason": 48,
    "NodeList": 200,
    "tres-per-node": 60,
    "RestartCnt": 10,
}
_FORMAT = ",".join(f"{name}:{width}" for name, width in JOB_FIELDS.items())
_WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
_RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "SIGNALING", "STAGE_OUT", "STOPPED", "RESIZING")


class SlurmEngine:
    """A Slurm cluster.

    Parameters
    ----------
    root : Path. Checkpoints root, which all nodes see under this path.
    name : str. Name in ``engines.toml``.
    settings : SlurmSettings. Its settings there.
    """

    kind = "slurm"

    def __init__(self, root: Path, name: str, settings: SlurmSettings) -> None:
        self.name = name
        self.title = f"{name} (Slurm)"
        self.poll_s = settings.poll_s
        self.capabilities = Capabilities(jobs=True, requests_gpus=settings.requests_gpus)
        self.settings = settings
        self._root = root.absolute()

    def check_config(self, config: TrainConfig) -> None:
        """Refuse devices that cannot be divided among the nodes.

        Raises
        ------
        ConfigError
            If they cannot.
        """
        self._request(config)

    def submit(self, folders: Sequence[Path], worker: str) -> None:
        """Submit runs, those that ask for the same as a job array. A name is written before it is used, so that a job
        is found again if this process is killed in between."""
        fresh: dict[tuple[str, ...], dict[Path, EngineRecord]] = {}
        found: dict[str, str] = {}
        for folder in folders:
            record = read_engine(folder)
            if record is None or record.job:
                continue
            if record.name and record.name not in found:
                found[record.name] = self._find_earlier(record.name)
            if job := found.get(record.name, ""):
                _note(folder, record, job)
            else:
                request = self._request(files.read_config_or_default(folder))
                fresh.setdefault(request, {})[folder] = record
        for members in fresh.values():
            self._submit_new(members, worker)

    def _submit_new(self, members: Mapping[Path, EngineRecord], worker: str) -> None:
        """Submit runs that ask for the same as one job, by a name of which there is none."""
        name, named = job_name(next(iter(members)), time.time()), dict[Path, EngineRecord]()
        for task, (folder, record) in enumerate(members.items()):
            number = task if len(members) > 1 else None
            changed = change_engine(folder, record, name=name, task=number)
            if changed is not None:
                named[folder] = changed
        if named:
            job = self._sbatch(name, list(members), worker)
            for folder, record in named.items():
                _note(folder, record, job)

    def resubmit(self, folder: Path) -> None:
        """Slurm gives up no job that waits."""

    def find(self, records: Sequence[EngineRecord]) -> list[str]:
        """Ids of the jobs with the names of records; empty where there is none. The runs of an array share a name."""
        numbers = self._find({record.name for record in records} - {""})
        return [_job_id(numbers.get(record.name, ""), record) for record in records]

    def status_many(self, jobs: Sequence[str]) -> dict[str, JobReport]:
        """What ``squeue``, and ``sacct`` where the cluster keeps accounts, say about jobs."""
        if not jobs:
            return {}
        numbers = sorted({job.partition("_")[0] for job in jobs})
        listed = [] if len(numbers) > MAX_LISTED else ["-j", ",".join(numbers)]
        try:
            lines = self._run("squeue", "-h", "-t", "all", "-r", "-O", _FORMAT, *listed).splitlines()
        except EngineError as error:
            if "invalid job id" not in str(error).lower():
                raise
            lines = []  # it knows none of them
        found = dict(map(_reported, lines))
        missing = [job for job in jobs if job not in found]
        if missing:
            found |= self._accounted(missing)
        return {job: found.get(job, JobReport("unknown", UNKNOWN)) for job in jobs}

    def ping(self) -> None:
        """Ask the controller for its partitions."""
        self._run("sinfo", "-h", "-o", "%P")

    def cancel(self, job: str) -> None:
        """Cancel a job; no effect on one that has ended."""
        self._run("scancel", job)

    def logs(self, folder: Path) -> str:
        """The end of what Slurm and the shell of the job wrote."""
        record = read_engine(folder)
        return "" if record is None else end_of(self._output(folder, record))

    def check(self, root: Path) -> Iterator[Check]:
        """Try client, controller, partition, and a job that looks for root, torch and GPUs."""
        try:
            yield Check("client", True, self._run("sbatch", "--version").strip())
            partitions = self._run("sinfo", "-h", "-o", "%P|%D|%T").splitlines()
            known = {line.split("|")[0].rstrip("*") for line in partitions}
            wanted = self.settings.partition
            yield Check("controller", True, f"answers; partitions: {', '.join(sorted(known)) or 'none'}")
            if wanted and wanted not in known:
                yield Check("partition", False, f"there is no partition {wanted!r}: change `partition`")
                return
            yield from run_check_job(self, self._root, python_of(self.settings), self._submit_probe)
        except EngineError as error:
            yield Check("Slurm", False, str(error))

    # --- submission --------------------------------------------------------------------------------------------------

    def _request(self, config: TrainConfig) -> tuple[str, ...]:
        """Arguments of sbatch that say what a run needs."""
        settings, devices = self.settings, config.run.devices
        if devices % settings.nodes:
            raise ConfigError(
                f"devices: expected a multiple of the {settings.nodes} nodes of engine {self.name!r}, got {devices}"
            )
        per_node = devices // settings.nodes
        options = {
            "partition": settings.partition,
            "account": settings.account,
            "constraint": settings.constraint,
            "mem": settings.memory,
            "time": settings.time,
            "cpus-per-task": str(settings.cpus * per_node) if settings.cpus else "",
            "gres": f"{settings.gpus}:{per_node}" if settings.gpus and config.run.device != "cpu" else "",
        }
        given = [f"--{name}={value}" for name, value in options.items() if value]
        signal = f"--signal=B:TERM@{settings.signal_s}"
        return (*given, f"--nodes={settings.nodes}", "--ntasks-per-node=1", signal, *settings.extra)

    def _sbatch(self, name: str, members: Sequence[Path], worker: str) -> str:
        """Submit a job, or an array of several; returns its number."""
        request = self._request(files.read_config_or_default(members[0]))
        array = [f"--array=0-{len(members) - 1}"] if len(members) > 1 else []
        record = EngineRecord(self.name, name, 0 if array else None)
        output = str(self._output(members[0], record)).replace("%", "%%")
        output = output.removesuffix("-0.out") + "-%a.out" if array else output
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        return self._submit_script(name, [*request, *array], output, self._script(name, members, worker))

    def _submit_script(self, name: str, options: Sequence[str], output: str, script: str) -> str:
        fixed = ["--parsable", f"--job-name={name}", f"--output={output}", "--open-mode=append", "--requeue"]
        answer = self._run("sbatch", *fixed, f"--chdir={self._root}", *options, script=script)
        number = answer.strip().partition(";")[0]
        if not number.isdigit():
            raise EngineError(f"{self.name}: expected the number of a job of sbatch, got {answer.strip()!r}")
        return number

    def _script(self, name: str, members: Sequence[Path], worker: str) -> str:
        """The batch script: it becomes the trainer's parent process, which thus gets Slurm's signals itself."""
        folders = " ".join(shlex.quote(str(folder.absolute())) for folder in members)
        nodes = self._nodes_script() if self.settings.nodes > 1 else []
        lines = [
            "#!/bin/bash",
            *preamble(self.settings),
            f"folders=({folders})",
            "folder=${folders[${SLURM_ARRAY_TASK_ID:-0}]}",
            f"export {JOB}=${{SLURM_ARRAY_JOB_ID:+${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID}}",
            f"export {JOB}=${{{JOB}:-$SLURM_JOB_ID}} {JOB_RESTART}=${{SLURM_RESTART_COUNT:-0}}",
            f"export {JOB_NAME}={shlex.quote(name)}",
            'ends=$(timeout 10 squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null)',
            f'export {JOB_ENDS}=$(date -d "$ends" +%s 2>/dev/null) {JOB_SIGNAL_S}={self.settings.signal_s}',
            *nodes,
            trainer_parent(self.settings, '"$folder"', worker),
        ]
        return "\n".join(lines) + "\n"

    def _nodes_script(self) -> list[str]:
        """Lines that find the address of the first node, and name the command that starts a process on each node."""
        nodes, network = self.settings.nodes, shlex.quote(self.settings.network)
        task = f'{JOB_NODE}=$SLURM_NODEID exec "$0" "$@"'
        command = ["srun", "--kill-on-bad-exit=1", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
        command += ["bash", "-c", task]
        lines = [
            'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            'address=$(scontrol show node "$first" | sed -n "s/.*NodeAddr=\\([^ ]*\\).*/\\1/p")',
            f"export {JOB_NODE_COUNT}={nodes} {JOB_RENDEZVOUS}=${{address:-$first}}:{self.settings.port}",
            f"export {JOB_NODES}={shlex.quote(json.dumps(command))}",
        ]
        if self.settings.network:
            lines.append(f"export GLOO_SOCKET_IFNAME={network} NCCL_SOCKET_IFNAME={network}")
        return lines

    def _output(self, folder: Path, record: EngineRecord) -> Path:
        """File of what Slurm and the shell of a job write; the tasks of an array share a pattern."""
        if record.task is None:
            return folder / OUTPUT
        return self._root / ANSWERS / self.name / f"{record.name}-{record.task}.out"

    # --- questions ---------------------------------------------------------------------------------------------------

    def _find_earlier(self, name: str) -> str:
        """Number of the job of an earlier submission; where that cannot be asked, it may be there."""
        try:
            return self._find({name}).get(name, "")
        except UnsentError as error:
            raise UnansweredError(str(error)) from error

    def _find(self, names: Collection[str]) -> dict[str, str]:
        """Numbers of the jobs with these names that wait or run, by name; of several of one name the newest."""
        if not names:
            return {}
        listed = [] if len(names) > MAX_LISTED else ["--name", ",".join(sorted(names))]
        lines = self._run("squeue", "-h", "-t", _LIVING, *listed, "-o", "%F|%j").splitlines()
        rows = [line.partition("|") for line in lines]
        living = sorted((int(number), name) for number, _, name in rows if name in names)
        return {name: str(number) for number, name in living}

    def _accounted(self, jobs: Sequence[str]) -> dict[str, JobReport]:
        """What the accounts say about jobs that the controller has forgotten; nothing where there are none."""
        try:
            lines = self._run(
                "sacct", "-n", "-X", "-P", "-j", ",".join(jobs), "-o", "JobID,State,NodeList"
            ).splitlines()
        except EngineError:
            return {}
        rows = (line.split("|") for line in lines if line.count("|") == 2)
        return {job: _report(state, "None", place, "") for job, state, place in rows}

    def _submit_probe(self, name: str, command: str, output: Path) -> str:
        """Submit a job that tries the cluster; returns its number."""
        script = "\n".join(["#!/bin/bash", *preamble(self.settings), f"exec {command}"]) + "\n"
        config = TrainConfig().with_values({"devices": self.settings.nodes})
        options = [o for o in self._request(config) if not o.startswith(("--time", "--nodes", "--signal"))]
        return self._submit_script(name, [*options, "--time=5", "--nodes=1"], str(output), script)

    def _run(self, program: str, *arguments: str, script: str | None = None) -> str:
        """Standard output of a client.

        Raises
        ------
        EngineError
            If it is not installed, does not answer in time, or fails.
        """
        try:
            done = subprocess.run(
                [program, *arguments],
                input=script,
                capture_output=True,
                text=True,
                timeout=self.settings.timeout_s,
                check=False,
            )
        except FileNotFoundError as error:
            raise EngineError(f"{self.name}: {program} is not installed here: install Slurm's client") from error
        except subprocess.TimeoutExpired as error:
            raise UnansweredError(
                f"{self.name}: {program} did not answer within {self.settings.timeout_s:g} s: is its controller up?"
            ) from error
        if done.returncode:
            raise _failure(done.stderr)(f"{self.name}: {explain_refusal(program, done.stderr)}")
        return done.stdout


def _failure(output: str) -> type[EngineError]:
    """The error that a client which failed has met."""
    if is_unsent(output):
        return UnsentError
    return UnansweredError if is_unanswered(output) else EngineError


def _note(folder: Path, record: EngineRecord, job: str) -> None:
    """Write the number of the job of a run, unless it was queued again in the meantime."""
    with suppress(LockHeldError):  # the job is found by its name
        change_engine(folder, record, job=_job_id(job, record), problem="")


def _job_id(number: str, record: EngineRecord) -> str:
    """Id of the job of a run, which may be a task of an array; empty without a number."""
    return number if not number or record.task is None else f"{number}_{record.task}"


def _reported(line: str) -> tuple[str, JobReport]:
    """A line of ``squeue`` in the form of :data:`JOB_FIELDS`: the id of a job, and the report about it."""
    fields, start = [], 0
    for width in JOB_FIELDS.values():
        fields.append(line[start : start + width].strip())
        start += width
    number, task, *about, restarts = fields
    # 22.05 prints "7_1" for the task of an array; by its manual it would be "7".
    id = f"{number}_{task}" if task.isdigit() and "_" not in number else number
    report = _report(*about)
    return id, replace(report, restarts=int(restarts) if restarts.isdigit() else 0)


def _report(state: str, reason: str, nodes: str, gres: str) -> JobReport:
    """State, reason, nodes and generic resources of a job as a report."""
    name = state.split()[0] if state else ""
    gpus = re.search(r"gpu(?::[^:,]+)?:(\d+)", gres)
    place = nodes if not gpus or not nodes else f"{nodes}, {gpus[1]} GPU{'s' if gpus[1] != '1' else ''}"
    kind: JobState = "waiting" if name in _WAITING else "running" if name in _RUNNING else "ended"
    if kind == "running":
        return JobReport(kind, "", place)
    if kind == "waiting":
        return JobReport(kind, explain_waiting(reason))
    return JobReport(kind, explain_end(state, reason), place, cancelled=name == "CANCELLED")
