"""Starting runs: validates a configuration, creates or requeues the run folder, and starts the queue supervisor."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from core.checkpointing.metadata import ACCEPT_DATA
from core.config import TrainConfig
from core.errors import ConfigError, RunError
from core.losses import check_loss
from core.models import architecture, check_packages
from core.paths import DEMO, dataset_folder
from core.runs.catalog import find_checkpoint, update_index
from core.runs.store import folder as files
from core.runs.store.process import is_alive, module_command, module_environment, process_identity, start_detached
from core.runs.store.state import RESUMABLE, RunState, reconciled_state, write_state

WORKER = "core.runs.processes.worker"
SUPERVISOR_FILE, SUPERVISOR_LOG = ".supervisor.json", ".supervisor.log"


def submit(root: Path, config: TrainConfig, name: str = "", worker: str = WORKER) -> str:
    """Queue a training run and return its id at once; a detached supervisor starts it when a slot is free.

    Parameters
    ----------
    root : Path. Checkpoints root.
    config : TrainConfig. Configuration.
    name : str. Display name.
    worker : str. Module of the trainer process.

    Raises
    ------
    UserError
        If the configuration, the data set or the checkpoints root cannot be used; then no run is created.
    """
    folder = create_run(root, resolve_config(root, config), name)
    ensure_supervisor(root, worker)
    return folder.name


def duplicate(root: Path, run_id: str, name: str = "", worker: str = WORKER) -> str:
    """Queue a new run with the configuration of another one in any state; returns the new id.

    Raises
    ------
    UserError
        If there is no such run, or its data set or initial checkpoint no longer exists.
    """
    folder = files.run_folder(root, run_id)
    name = name or f"{files.read_name(folder)[: files.NAME_LENGTH - 6]} again"
    return submit(root, files.read_config(folder), name, worker)


def resume(root: Path, run_id: str, worker: str = WORKER, *, data: str = "", force: bool = False) -> None:
    """Queue an ended run again in its own folder; it resumes from its last checkpoint, or starts anew without one.

    Parameters
    ----------
    root : Path. Checkpoints root.
    run_id : str. The run.
    worker : str. Module of the trainer process.
    data : str. New folder of the data set, if it was moved; empty for that of the configuration.
    force : bool. Whether the run resumes on data that is not what it began with.

    Raises
    ------
    RunError
        If there is no such run, or it is queued, active or finished.
    ChangedDataError
        If names and headers show that the data is not what the run began with. Voxels are compared by the trainer,
        which reads them.
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        state = reconciled_state(folder)
        if state.state == "finished":
            raise RunError(
                f"{run_id}: it is finished and cannot be resumed; a new run can start from its weights: "
                f"--init-from {run_id}"
            )
        if state.state not in RESUMABLE:
            raise RunError(f"{run_id}: expected a stopped, failed or crashed run, it is {state.state}")
        config = files.read_config(folder)
        if data:
            config = config.with_values({"path": DEMO if data == DEMO else os.path.abspath(Path(data).expanduser())})
        if not force and any((folder / name).exists() for name in (files.LAST, files.PREVIOUS)):
            _check_recorded_data(folder, config)
        if data:
            files.write_json(folder / files.CONFIG, config.to_json())
        if force:
            (folder / ACCEPT_DATA).touch()
        else:
            (folder / ACCEPT_DATA).unlink(missing_ok=True)
        now = time.time()
        write_state(folder, replace(state, state="queued", message="", what="", queued_at=now, turn=now, ended_at=None))
    update_index(root, folder)
    ensure_supervisor(root, worker)


def create_run(root: Path, config: TrainConfig, name: str = "", foreground: bool = False, run_id: str = "") -> Path:
    """Create the folder of a new run atomically and return it.

    Parameters
    ----------
    root : Path. Checkpoints root, created if missing.
    config : TrainConfig. Configuration.
    name : str. Display name.
    foreground : bool. Whether the run is started by this process ("starting") instead of the queue ("queued").
    run_id : str. Its id, if it is given one before.

    Raises
    ------
    RunError
        If the name is not allowed, or the root cannot be written or is on a network file system.
    """
    from core.runs.store.index import database_url

    root, name, now = root.absolute(), files.check_name(name), time.time()
    state = RunState(created_at=now, queued_at=now, turn=now)
    if foreground:
        pid = os.getpid()
        state = replace(
            state,
            state="starting",
            attempt=1,
            started_at=now,
            shim_pid=pid,
            shim_start=process_identity(pid),
            what="starting",
        )
    try:
        root.mkdir(parents=True, exist_ok=True)
        database_url(root)
        folder = root / (run_id or files.new_run_id(name or config.preset))
        hidden = root / f".new-{folder.name}"
        hidden.mkdir(exist_ok=bool(run_id))  # left by a process that was killed here
        files.write_json(hidden / files.RUN, {"version": 1, "name": name, "created_at": now})
        files.write_json(hidden / files.CONFIG, config.to_json())
        write_state(hidden, state)
        os.rename(hidden, folder)
    except OSError as error:
        raise RunError(
            f"{root}: a run cannot be created there: {error.strerror or error}; choose another --checkpoints"
        ) from error
    update_index(root, folder)
    return folder


def resolve_config(root: Path, config: TrainConfig) -> TrainConfig:
    """The configuration with absolute paths, after all checks that need no training.

    Raises
    ------
    UserError
        If the network does not exist, is the user's own and breaks the contract of networks, or does not belong to the
        loss; if the data set cannot be opened, lacks a requested modality, class or subject, is not ready for training
        by names and headers and training is not forced, or the initial checkpoint does not exist.
    """
    _check_network(config)
    check_loss(config.loss, config.model)
    values = {"init_from": _initial_checkpoint(root, config.run.init_from)}
    if not config.data.path:
        raise ConfigError("DATA: expected the folder of a data set, or 'demo', got nothing")
    if config.data.path != DEMO:
        values["path"] = os.path.abspath(Path(config.data.path).expanduser())
        _check_data(config, Path(values["path"]))
    return config.with_values(values)


def supervisor_alive(root: Path) -> bool:
    """Whether a queue supervisor of this root is running."""
    try:
        record = files.read_json(root / SUPERVISOR_FILE)
    except RunError:
        return False
    return is_alive(record.get("pid"), str(record.get("identity", "")))


def ensure_supervisor(root: Path, worker: str = WORKER) -> None:
    """Start a detached queue supervisor unless one is running. If two are started at once, one of them exits."""
    if not supervisor_alive(root):
        command = module_command("core.runs.processes.queue_supervisor", str(root.absolute()), "--worker", worker)
        start_detached(command, root / SUPERVISOR_LOG)


def serve_queue(root: Path, worker: str = WORKER) -> None:
    """Start a queue supervisor if runs are queued and none is running (it was killed, or the machine restarted)."""
    if any(reconciled_state(folder).state == "queued" for folder in files.run_folders(root)):
        ensure_supervisor(root, worker)


def _check_network(config: TrainConfig) -> None:
    """Check that the network exists and its packages too; a user's own is tried out in a process of its own."""
    entry = architecture(config.model.model)
    check_packages(entry)
    if entry.own:
        command = module_command("core.models.contract", entry.name)
        done = subprocess.run(command, env=module_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ConfigError(done.stdout.strip() or f"model: {entry.name}: checking it failed: {done.stderr[-2000:]}")


def _initial_checkpoint(root: Path, text: str) -> str:
    try:
        return str(find_checkpoint(root, text)) if text else ""
    except RunError as error:
        raise RunError(f"init_from: {error}") from error


def _check_recorded_data(folder: Path, config: TrainConfig) -> None:
    """Compare names and headers of a run's data with its record, if it has one.

    Raises
    ------
    UserError
        If they differ, or the data set cannot be opened.
    """
    from core.datasets import DataOptions, open_dataset
    from core.datasets.data_record import ChangedDataError, DataRecord

    record = DataRecord.load(folder)
    path = dataset_folder(config.data.path)
    if record is None or (config.data.path == DEMO and not path.is_dir()):
        return  # the trainer makes the demo data
    dataset = open_dataset(path, config.data.layout, DataOptions.from_config(config.data))
    labels = dataset.labels.subset(config.data.classes) if config.data.classes else dataset.labels
    present = [id for id in record.subjects if id in dataset.ids]
    now = DataRecord.read_headers(dataset, present, config.data.modalities or dataset.modalities, labels)
    if changes := record.changes(now):
        raise ChangedDataError(changes)


def _check_data(config: TrainConfig, path: Path) -> None:
    from core.datasets import DataOptions, open_dataset
    from core.datasets.fitness import judge_files, refuse_unfit
    from core.datasets.splits import split_subjects
    from core.laterality import check_pairs

    dataset = open_dataset(path, config.data.layout, DataOptions.from_config(config.data))
    missing = [m for m in config.data.modalities if m not in dataset.modalities]
    if missing:
        raise ConfigError(f"modalities: {path} has {', '.join(dataset.modalities)}; got {', '.join(missing)}")
    if config.data.classes:
        dataset.labels.subset(config.data.classes)
    check_pairs(config.augment, ("", *(config.data.classes or dataset.labels.names[1:])))
    split_subjects(dataset.labelled_ids, config.split)
    if not config.data.force:
        refuse_unfit(dataset, judge_files(dataset, config.data.modalities, config.split.test_subjects))
