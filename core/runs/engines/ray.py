"""Ray as an engine: the trainer's parent process of a run is a job of Ray's job interface, asked over HTTP.

Ray forgets its jobs when its head is restarted, kills a stopped job three seconds after the signal, restarts none, and
gives up one that waits for long; the run folder stays the truth.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.config import TrainConfig
from core.errors import ConfigError
from core.runs.engines.check_job import run_check_job
from core.runs.engines.engine import Capabilities, Check, EngineError
from core.runs.engines.job_shell import OUTPUT, end_of, job_name, preamble, python_of, trainer_parent
from core.runs.engines.ray_api import NotFoundError, RayApi
from core.runs.engines.ray_reasons import (
    EXPIRED,
    STOPPED,
    SUCCEEDED,
    UNKNOWN,
    explain_failure,
    explain_waiting,
    fits,
    gave_up_waiting,
)
from core.runs.engines.settings import RaySettings, time_limit_s
from core.runs.store import folder as files
from core.runs.store.engine_records import (
    JOB,
    JOB_ENDS,
    JOB_LIMITS_ITSELF,
    JOB_SIGNAL_S,
    EngineRecord,
    JobReport,
    change_engine,
    read_engine,
    write_engine,
)
from core.runs.store.process import LockHeldError
from core.runs.store.state import read_state
from core.runs.store.submissions import current_lease, submission

JOBS = "/api/jobs/"
NODES = "/nodes?view=summary"
WORKER = "segmentarium_worker"  # in the metadata of a job: the module of its trainer process
WANTED = "segmentarium_wants_"  # and before the name of each resource that it asks for
LIMIT = "segmentarium_time_limit_s"  # in the metadata of a job that has one
OVERTIME_S = 60  # for the trainer's parent process to record how the run ended
_EXISTS = "already exists"


@dataclass(frozen=True)
class _Node:
    """A node: its host name, and the amount of each resource that it has in all."""

    name: str
    total: Mapping[str, float]


class RayEngine:
    """A Ray cluster.

    Parameters
    ----------
    root : Path. Checkpoints root, which all nodes see under this path.
    name : str. Name in ``engines.toml``.
    settings : RaySettings. Its settings there.
    """

    kind = "ray"

    def __init__(self, root: Path, name: str, settings: RaySettings) -> None:
        self.name = name
        self.title = f"{name} (Ray)"
        self.poll_s = settings.poll_s
        self.capabilities = Capabilities(jobs=True, requests_gpus=settings.requests_gpus)
        self.settings = settings
        self._root = root.absolute()
        self._api = RayApi(name, settings)

    def check_config(self, config: TrainConfig) -> None:
        """Refuse devices whose shares of GPUs are not whole ones together.

        Raises
        ------
        ConfigError
            If they are not.
        """
        gpus = self._request(config).get("GPU", 0.0)
        if gpus > 1.0 and gpus != int(gpus):
            raise ConfigError(
                f"devices: expected a number that asks Ray for whole GPUs at {self.settings.gpus:g} each (`gpus` of "
                f"engine {self.name!r}), got {config.run.devices}, which is {gpus:g}"
            )

    def submit(self, folders: Sequence[Path], worker: str) -> None:
        """Submit a job for each run. Its name is made of the run and of when it was queued, and written before it is
        used: Ray takes each name once, so no run is submitted twice."""
        for folder in folders:
            record = read_engine(folder)
            if record is None or record.job:
                continue
            named: EngineRecord | None = record
            if not record.name:
                named = change_engine(folder, record, name=job_name(folder, record.submitted_at or time.time()))
            if named is not None:
                self._submit_run(folder, named, worker)

    def resubmit(self, folder: Path) -> None:
        """Submit a queued run again whose job Ray gave up before it began; after a failure it is as before."""
        with submission(self._root):
            self._resubmit(folder)

    def _resubmit(self, folder: Path) -> None:
        expired = read_engine(folder)
        if expired is None or not expired.job:
            return
        worker = _metadata(self._api.get(JOBS + expired.job))[WORKER]  # before the lock, which others wait for
        with files.lock(folder):
            if read_engine(folder) != expired or read_state(folder).state != "queued":
                return
            now = time.time()
            record = EngineRecord(self.name, job_name(folder, now), submitted_at=now, lease=current_lease())
            write_engine(folder, record)
        try:
            self._submit_run(folder, record, worker)
        except EngineError:
            change_engine(folder, record, **asdict(expired))
            raise

    def find(self, records: Sequence[EngineRecord]) -> list[str]:
        """Ids of the jobs with the names of records, which are these names; empty where there is none."""
        if not any(record.name for record in records):
            return [""] * len(records)
        known = {job.get("submission_id") for job in self._api.get(JOBS, list)}
        return [record.name if record.name in known else "" for record in records]

    def status_many(self, jobs: Sequence[str]) -> dict[str, JobReport]:
        """What Ray says about jobs; where one waits or runs, its nodes are asked for too."""
        if not jobs:
            return {}
        wanted = set(jobs)
        listed = self._api.get(JOBS, list)
        details = {str(job.get("submission_id")): job for job in listed if job.get("submission_id") in wanted}
        living = any(job.get("status") in ("PENDING", "RUNNING") for job in details.values())
        nodes = self._nodes() if living else {}
        return {job: _report(details[job], nodes) if job in details else JobReport("unknown", UNKNOWN) for job in jobs}

    def ping(self) -> None:
        """Ask the job interface, as for the state of jobs."""
        self._api.get(JOBS, list)

    def cancel(self, job: str) -> None:
        """Stop a job; no effect on one that has ended, or that Ray has forgotten. One that waits goes on waiting, and
        ends as soon as it begins."""
        try:
            self._api.post(f"{JOBS}{job}/stop")
        except NotFoundError:
            return

    def logs(self, folder: Path) -> str:
        """The end of what the shell of the job wrote."""
        return end_of(folder / OUTPUT)

    def check(self, root: Path) -> Iterator[Check]:
        """Try token, dashboard, nodes, and a job that looks for root, torch and GPUs."""
        try:
            _, source = self._api.token_source()
            yield Check("token", True, f"in {source}" if source else "none: anybody may use the cluster")
            version = self._api.get("/api/version").get("ray_version", "of unknown version")
            yield Check("dashboard", True, f"Ray {version} answers at {self.settings.address}")
            nodes = list(self._nodes().values())
            found = ", ".join(f"{node.name} ({node.total.get('GPU', 0):g} GPUs)" for node in nodes)
            wanted = self._request(TrainConfig())
            yield Check("nodes", bool(nodes), found or "none: start one with `ray start --address=...`")
            if any(fits(wanted, node.total) for node in nodes):
                yield from run_check_job(self, self._root, python_of(self.settings), self._submit_probe)
            elif nodes:
                yield Check("resources", False, explain_waiting(wanted, [node.total for node in nodes]))
        except EngineError as error:
            yield Check("Ray", False, str(error))

    # --- submission --------------------------------------------------------------------------------------------------

    def _request(self, config: TrainConfig) -> dict[str, float]:
        """Amount of each resource that a run needs, by Ray's name of it."""
        settings, devices = self.settings, config.run.devices
        gpus = settings.gpus * devices if config.run.device != "cpu" else 0.0
        amounts = {"CPU": settings.cpus * devices, "GPU": gpus, "memory": settings.memory_gib * 1024**3}
        return {name: amount for name, amount in {**amounts, **settings.amounts}.items() if amount}

    def _submit_run(self, folder: Path, record: EngineRecord, worker: str) -> None:
        """Submit the job of a run under its name, and write that it has been."""
        word, limit_s = shlex.quote(str(folder.absolute())), self._limit_s()
        lines = [
            f"[ -d {word} ] || {{ echo {shlex.quote(_root_is_missing(folder))}; exit 1; }}",
            f"exec >>{word}/{OUTPUT} 2>&1",
            *preamble(self.settings),
            f"export {JOB}={shlex.quote(record.name)}",
        ]
        if limit_s:
            lines += self._time_limit(limit_s)
        lines.append(trainer_parent(self.settings, word, worker))
        wanted = self._request(files.read_config_or_default(folder))
        limit = {LIMIT: str(limit_s)} if limit_s else {}
        self._post(record.name, lines, wanted, {WORKER: worker, **limit})
        with suppress(LockHeldError):  # the job is found by its name
            change_engine(folder, record, job=record.name, problem="")

    def _limit_s(self) -> int:
        return time_limit_s(self.settings.time) if self.settings.time else 0

    def _time_limit(self, limit_s: int) -> list[str]:
        """Lines that signal that the time limit, which Ray does not have, is near: to save a checkpoint. At the limit
        the trainer's parent process ends the trainer, and is killed itself if it has not ended a moment later."""
        signal_s = self.settings.signal_s
        watch = f"sleep {limit_s - signal_s} && kill -TERM $$ && sleep {signal_s + OVERTIME_S} && kill -KILL $$"
        return [
            f"export {JOB_ENDS}=$(($(date +%s) + {limit_s})) {JOB_SIGNAL_S}={signal_s} {JOB_LIMITS_ITSELF}=1",
            f"( {watch} ) >/dev/null 2>&1 &",
        ]

    def _submit_probe(self, name: str, command: str, output: Path) -> str:
        """Submit a job that tries the cluster; returns its id."""
        lines = [f"exec >>{shlex.quote(str(output))} 2>&1", *preamble(self.settings), f"exec {command}"]
        self._post(name, lines, self._request(TrainConfig()), {})
        return name

    def _post(self, name: str, lines: Sequence[str], wanted: Mapping[str, float], metadata: Mapping[str, str]) -> None:
        """Submit a job; no effect if there is one of this name."""
        others = {key: amount for key, amount in wanted.items() if key not in ("CPU", "GPU", "memory")}
        body = {
            "submission_id": name,
            "entrypoint": "exec bash -c " + shlex.quote("\n".join(lines)),
            "metadata": {**metadata, **{WANTED + key: f"{amount:g}" for key, amount in wanted.items()}},
            "entrypoint_num_cpus": wanted.get("CPU"),
            "entrypoint_num_gpus": wanted.get("GPU"),
            "entrypoint_memory": int(wanted["memory"]) if "memory" in wanted else None,
            "entrypoint_resources": others or None,
        }
        try:
            self._api.post(JOBS, body)
        except EngineError as error:  # perhaps it was submitted, and only its answer came too late
            if _EXISTS not in str(error) and not self._has(name):
                raise

    def _has(self, name: str) -> bool:
        """Whether Ray says that it has a job of this name."""
        try:
            self._api.get(JOBS + name)
        except EngineError:
            return False
        return True

    # --- questions ---------------------------------------------------------------------------------------------------

    def _nodes(self) -> dict[str, _Node]:
        """The living nodes by their id."""
        nodes = {}
        for node in self._api.get(NODES).get("data", {}).get("summary", []):
            raylet = node.get("raylet", {})
            if raylet.get("state") == "ALIVE":  # one that has just joined has no host name yet
                name = str(raylet.get("nodeManagerHostname") or raylet.get("nodeManagerAddress", ""))
                nodes[str(raylet.get("nodeId"))] = _Node(name, raylet.get("resourcesTotal", {}))
        return nodes


def _metadata(job: Mapping[str, Any]) -> Mapping[str, str]:
    """What was said about a job when it was submitted."""
    return job.get("metadata") or {}


def _report(job: Mapping[str, Any], nodes: Mapping[str, _Node]) -> JobReport:
    """What Ray says about a job, as a report."""
    status, message, error_type = job.get("status"), str(job.get("message") or ""), str(job.get("error_type") or "")
    wanted = {k.removeprefix(WANTED): float(v) for k, v in _metadata(job).items() if k.startswith(WANTED)}
    if status == "PENDING":
        return JobReport("waiting", explain_waiting(wanted, [node.total for node in nodes.values()]))
    node = nodes.get(str(job.get("driver_node_id")))
    gpus = wanted.get("GPU", 0.0)
    place = "" if node is None else node.name + (f", {gpus:g} GPU{'' if gpus == 1 else 's'}" if gpus else "")
    if status == "RUNNING":
        return JobReport("running", "", place)
    if status == "STOPPED":
        return JobReport("ended", STOPPED, place, cancelled=True)
    if status == "SUCCEEDED":
        return JobReport("ended", SUCCEEDED, place)
    if gave_up_waiting(error_type, message):
        return JobReport("waiting", EXPIRED, expired=True)
    reason = explain_failure(error_type, message, job.get("driver_exit_code"), bool(_metadata(job).get(LIMIT)))
    return JobReport("ended", reason, place)


def _root_is_missing(folder: Path) -> str:
    """What a node says that does not see the root."""
    return f"{folder} is not on this node: the root of runs has to be a folder that all nodes see under the same path"
