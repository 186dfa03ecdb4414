"""Before a run: what can be known to be wrong is said now, the run folder is made, and the queue gets its keeper."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from core.config import TrainConfig
from core.errors import ConfigError, RunError
from core.runs.catalog import find_checkpoint, put_in_index
from core.runs.store import folder as files
from core.runs.store.process import alive, identity, module_command, start_detached
from core.runs.store.state import RESUMABLE, RunState, observe, write_state

WORKER = "core.runs.processes.worker"
SUPERVISOR_FILE, SUPERVISOR_LOG = ".supervisor.json", ".supervisor.log"
DEMO = "demo"


def submit(root: Path, config: TrainConfig, name: str = "", worker: str = WORKER) -> str:
    """Queue a training run and return its id at once; a detached process starts it when its turn comes.

    Raises
    ------
    UserError
        If the configuration, the data set or the checkpoints root cannot be used; then no run is made.
    """
    folder = create_run(root, checked(root, config), name)
    ensure_supervisor(root, worker)
    return folder.name


def duplicate(root: Path, run_id: str, name: str = "", worker: str = WORKER) -> str:
    """Queue a new run with the configuration of another, whatever became of that; returns the new id.

    Raises
    ------
    UserError
        If there is no such run, or its data or the checkpoint that it began with are gone.
    """
    folder = files.run_folder(root, run_id)
    return submit(
        root, files.read_config(folder), name or f"{files.read_name(folder)[: files.NAME_LENGTH - 6]} again", worker
    )


def resume(root: Path, run_id: str, worker: str = WORKER) -> None:
    """Queue an ended run again, in its own folder; it goes on from its last checkpoint, or from the start without one.

    Raises
    ------
    RunError
        If there is no such run, or it is queued, active or finished.
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        state = observe(folder)
        if state.state == "finished":
            raise RunError(
                f"{run_id}: it is finished and cannot be resumed; a new run can start from its weights: "
                f"--init-from {run_id}"
            )
        if state.state not in RESUMABLE:
            raise RunError(f"{run_id}: expected a stopped, failed or crashed run, it is {state.state}")
        files.read_config(folder)
        now = time.time()
        write_state(folder, replace(state, state="queued", message="", what="", queued_at=now, turn=now, ended_at=None))
    put_in_index(root, folder)
    ensure_supervisor(root, worker)


def create_run(root: Path, config: TrainConfig, name: str = "", foreground: bool = False) -> Path:
    """Make the folder of a new run, queued, or starting under this very process; returns the folder.

    The folder appears complete: it is prepared under a hidden name and renamed.

    Raises
    ------
    RunError
        If the name is not allowed, or the root cannot be written or would need its index on a network file system.
    """
    from core.runs.store.index import database_url

    root, name, now = root.absolute(), files.check_name(name), time.time()
    state = RunState(created_at=now, queued_at=now, turn=now)
    if foreground:
        pid = os.getpid()
        state = replace(
            state, state="starting", attempt=1, started_at=now, shim_pid=pid, shim_start=identity(pid), what="starting"
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        database_url(root)
        folder = root / files.new_run_id(name or config.preset)
        hidden = root / f".new-{folder.name}"
        hidden.mkdir()
        files.write_json(hidden / files.RUN, {"version": 1, "name": name, "created_at": now})
        files.write_json(hidden / files.CONFIG, config.to_json())
        write_state(hidden, state)
        os.rename(hidden, folder)
    except OSError as error:
        raise RunError(
            f"{root}: a run cannot be made there: {error.strerror or error}; choose another --checkpoints"
        ) from error
    put_in_index(root, folder)
    return folder


def checked(root: Path, config: TrainConfig) -> TrainConfig:
    """The configuration with absolute paths, after everything that needs no training was looked at.

    Raises
    ------
    UserError
        If the data set cannot be opened, lacks a modality, class or subject that was asked for, or the checkpoint to
        start from is not there.
    """
    values = {"init_from": _initial_checkpoint(root, config.run.init_from)}
    if not config.data.path:
        raise ConfigError("DATA: expected the folder of a data set, or 'demo', got nothing")
    if config.data.path != DEMO:
        values["path"] = os.path.abspath(Path(config.data.path).expanduser())
        _check_data(config, Path(values["path"]))
    return config.with_values(values)


def supervisor_alive(root: Path) -> bool:
    """Whether a process looks after the queue of this root."""
    try:
        keeper = files.read_json(root / SUPERVISOR_FILE)
    except RunError:
        return False
    return alive(keeper.get("pid"), str(keeper.get("identity", "")))


def ensure_supervisor(root: Path, worker: str = WORKER) -> None:
    """Start the keeper of the queue, detached, unless one is there. Starting two does no harm: one leaves again."""
    if not supervisor_alive(root):
        command = module_command("core.runs.processes.queue_supervisor", str(root.absolute()), "--worker", worker)
        start_detached(command, root / SUPERVISOR_LOG)


def wake(root: Path, worker: str = WORKER) -> None:
    """Start the keeper of the queue if runs wait and nobody looks after them (killed, or the machine restarted)."""
    if any(observe(folder).state == "queued" for folder in files.run_folders(root)):
        ensure_supervisor(root, worker)


def _initial_checkpoint(root: Path, given: str) -> str:
    try:
        return str(find_checkpoint(root, given)) if given else ""
    except RunError as error:
        raise RunError(f"init_from: {error}") from error


def _check_data(config: TrainConfig, path: Path) -> None:
    from core.datasets import open_dataset
    from core.datasets.splits import split_subjects

    dataset = open_dataset(path, config.data.layout)
    missing = [m for m in config.data.modalities if m not in dataset.modalities]
    if missing:
        raise ConfigError(f"modalities: {path} has {', '.join(dataset.modalities)}; got {', '.join(missing)}")
    if config.data.classes:
        dataset.labels.subset(config.data.classes)
    labelled = [subject.id for subject in dataset.subjects if subject.label is not None]
    split_subjects(labelled, config.split)
