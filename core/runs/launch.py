"""Starting runs: validates a configuration, creates or requeues the run folder, and hands it to its engine."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.checkpointing.metadata import ACCEPT_DATA
from core.config import TrainConfig
from core.errors import ConfigError, RunError
from core.losses import check_loss
from core.models import architecture, check_indicator, check_packages
from core.models.own_networks import KEPT, add_to_list
from core.paths import DEMO, absolute_path, dataset_folder
from core.processes import module_command, run_limited
from core.runs.catalog import get_run, update_index
from core.runs.engines import local
from core.runs.engines.registry import get_engine
from core.runs.group_summary import settings_of
from core.runs.hand_over import WORKER as WORKER
from core.runs.hand_over import is_unconfirmed, submit_again, waits_without_job
from core.runs.hand_over import start_queued as start_queued
from core.runs.hand_over import submission_to as submission_to
from core.runs.initial_weights import initial_checkpoint, network_of
from core.runs.recorded_code import check_recorded_code
from core.runs.run_actions import what_to_do
from core.runs.store import folder as files
from core.runs.store.engine_records import LOCAL, EngineRecord, engine_of, read_engine, write_engine
from core.runs.store.groups import Group, read_own_sweeps
from core.runs.store.process import process_identity
from core.runs.store.reconciliation import listed_state, reconciled_state
from core.runs.store.state import OBSERVED, RESUMABLE, RunState, write_state
from core.runs.store.submissions import current_lease

if TYPE_CHECKING:
    from core.datasets import Dataset
    from core.regions import RegionSpace

CHECK_NETWORK_S = 300.0  # longest check of a user's network: importing torch and a few steps, on a loaded machine


def submit(root: Path, config: TrainConfig, name: str = "", worker: str = WORKER, *, engine: str = LOCAL) -> str:
    """Queue a training run and return its id at once; its engine starts it when it has a place for it.

    Parameters
    ----------
    root : Path. Checkpoints root.
    config : TrainConfig. Configuration.
    name : str. Display name.
    worker : str. Module of the trainer process.
    engine : str. Name of the engine.

    Raises
    ------
    UserError
        If the configuration, the data set, the engine or the checkpoints root cannot be used; then no run is created.
        If the engine refuses the run, or cannot be reached; then it has failed with that reason. One that does not say
        whether it took the run is no error: the run is queued, and its submission is not confirmed.
    """
    with submission_to(root, engine):
        folder = create_run(root, resolve_config(root, config), name, engine=engine)
        start_queued(root, [folder.name], worker)
    return folder.name


def duplicate(root: Path, run_id: str, name: str = "", worker: str = WORKER, *, engine: str = "") -> str:
    """Queue a new run with the configuration of another one in any state, on the engine of that one unless another is
    named; returns the new id.

    Raises
    ------
    UserError
        If there is no such run, or its data set or initial checkpoint no longer exists.
    """
    folder = files.run_folder(root, run_id)
    name = name or files.name_with(files.read_name(folder), "again")
    return submit(root, files.read_config(folder), name, worker, engine=engine or engine_of(read_engine(folder)))


def resume(
    root: Path, run_id: str, worker: str = WORKER, *, data: str = "", force: bool = False, engine: str = ""
) -> None:
    """Queue an ended run again in its own folder; it resumes from its last checkpoint, or starts anew without one. A
    run whose submission is not confirmed is submitted again, unless its engine has its job.

    Parameters
    ----------
    root : Path. Checkpoints root.
    run_id : str. The run.
    worker : str. Module of the trainer process.
    data : str. New folder of the data set, if it was moved; empty for that of the configuration.
    force : bool. Whether the run resumes on data, or with code of its network, that is not what it began with.
    engine : str. Name of the engine; empty for that on which it was.

    Raises
    ------
    RunError
        If there is no such run, or it is queued, active or finished, or it is not confirmed that it has ended.
    ChangedDataError
        If names and headers show that the data is not what the run began with. Voxels are compared by the trainer,
        which reads them.
    ChangedCodeError
        If the code of a user's own network is not what the run began with.
    """
    folder = files.run_folder(root, run_id)
    was = engine_of(read_engine(folder))
    engine = engine or was
    if not data and engine == was and submit_again(root, [run_id], worker):
        return
    with submission_to(root, engine):
        _queue_again(folder, engine, data, force)
        update_index(root, folder)
        start_queued(root, [run_id], worker)


def _queue_again(folder: Path, engine: str, data: str, force: bool) -> None:
    """Set an ended run to queued; parameters and errors are those of :func:`resume`."""
    run_id, chosen = folder.name, get_engine(folder.parent, engine)
    with files.lock(folder):
        state = reconciled_state(folder)
        if state.state == "finished":
            raise RunError(
                f"{run_id}: it is finished and cannot be resumed; a new run can start from its weights: "
                f"--init-from {run_id}"
            )
        if state.state not in RESUMABLE and not is_unconfirmed(get_run(folder.parent, run_id)):
            known = f": {state.message}; {what_to_do(state, run_id)}" if state.state in OBSERVED else ""
            raise RunError(f"{run_id}: expected a stopped, failed or crashed run, it is {state.state}{known}")
        config = files.read_config(folder)
        chosen.check_config(config)
        if data:
            config = config.with_values({"path": DEMO if data == DEMO else os.path.abspath(absolute_path(data))})
        if not force and files.has_training_state(folder):
            _check_recorded_data(folder, config)
            check_recorded_code(folder, config)
        if data:
            files.write_json(folder / files.CONFIG, config.to_json())
        if force:
            (folder / ACCEPT_DATA).touch()
        else:
            (folder / ACCEPT_DATA).unlink(missing_ok=True)
        now = time.time()
        write_engine(folder, EngineRecord(engine, submitted_at=now, lease=current_lease()))
        queued = replace(state, state="queued", message="", what="", queued_at=now, turn=now, ended_at=None)
        write_state(folder, queued.moved_here())


def create_run(
    root: Path,
    config: TrainConfig,
    name: str = "",
    foreground: bool = False,
    run_id: str = "",
    engine: str = LOCAL,
) -> Path:
    """Create the folder of a new run atomically and return it.

    Parameters
    ----------
    root : Path. Checkpoints root, created if missing.
    config : TrainConfig. Configuration.
    name : str. Display name.
    foreground : bool. Whether the run is started by this process ("starting") instead of the queue ("queued").
    run_id : str. Its id, if it is given one before.
    engine : str. Name of the engine that is to start it.

    Raises
    ------
    UserError
        If the name is not allowed, there is no such engine or it cannot train this configuration, or the root cannot be
        written, or its database cannot be used.
    """
    from core.runs.store.database import database_url

    root, name, now = root.absolute(), files.check_name(name), time.time()
    get_engine(root, engine).check_config(config)
    state = RunState(created_at=now, queued_at=now, turn=now).moved_here()
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
        while not run_id and folder.exists():  # of hundreds that are made in a second
            folder = root / files.new_run_id(name or config.preset)
        hidden = root / f"{files.HIDDEN_NEW}{folder.name}"
        hidden.mkdir(exist_ok=bool(run_id))  # left by a process that was killed here
        files.write_json(hidden / files.RUN, {"version": 1, "name": name, "created_at": now})
        files.write_json(hidden / files.CONFIG, config.to_json())
        write_state(hidden, state)
        write_engine(hidden, EngineRecord(engine, submitted_at=now, lease=current_lease()))
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
        by names and headers and training is not forced, or the initial checkpoint does not exist or cannot be read.
    """
    check_network(config)
    check_loss(config.loss, config.model)
    check_indicator(config)
    initial = initial_checkpoint(root, config.run.init_from)
    if initial:
        network_of(Path(initial))
    values = {"init_from": initial}
    if not config.data.path:
        raise ConfigError("DATA: expected the folder of a data set, or 'demo', got nothing")
    if config.data.path != DEMO:
        values["path"] = os.path.abspath(absolute_path(config.data.path))
        _check_data(config, Path(values["path"]))
    return config.with_values(values)


def read_regions(config: TrainConfig) -> RegionSpace | None:
    """Regions of the configured data set, of the classes of the run; ``None`` for none.

    Raises
    ------
    UserError
        If the data set cannot be opened, or its regions are not valid.
    """
    from core.datasets import DataOptions, open_dataset

    if config.data.path == DEMO:
        return None  # it has none, and may not exist yet
    dataset = open_dataset(config.data.path, config.data.layout, DataOptions.from_config(config.data))
    return _regions(dataset, config)


def ensure_supervisor(root: Path, worker: str = WORKER) -> None:
    """Start a detached queue supervisor of this host unless one is running."""
    local.ensure_supervisor(root, worker)


def serve_queue(root: Path, worker: str = WORKER) -> None:
    """Start a queue supervisor if runs are queued here, or a sweep is to propose or submit trials, and none is running
    (it was killed, or the machine restarted)."""
    if any(_has_work(root, sweep) for sweep in read_own_sweeps(root)) or any(
        local.in_queue_here(folder, listed_state(folder)) for folder in files.run_folders(root)
    ):
        ensure_supervisor(root, worker)


def _has_work(root: Path, sweep: Group) -> bool:
    """Whether a sweep is to propose trials, to make one, or to submit some that wait without a job."""
    settings = settings_of(sweep)
    if settings.proposes(len(sweep.members)) or (settings.pending_run and not settings.stopped):
        return True
    return any(waits_without_job(root / run) for run in sweep.runs)


def check_network(config: TrainConfig) -> None:
    """Check that the network exists and its packages too; a user's own is tried out in a process of its own, within a
    time limit, and added to their list."""
    entry = architecture(config.model.model)
    check_packages(entry)
    if entry.own:
        done = run_limited(module_command("core.models.contract", entry.name), CHECK_NETWORK_S, cwd=None)
        if done is None:
            raise ConfigError(
                f"model: {entry.name}: expected its check to end within {CHECK_NETWORK_S:.0f} s, it was killed; check "
                f"for code in {entry.path or entry.module} that waits or never ends, and for too large default sizes"
            )
        if done.returncode or not done.stdout.rstrip().endswith(KEPT):
            ended = f"its check ended with status {done.returncode} before it was done; {done.stderr[-2000:].strip()}"
            raise ConfigError(done.stdout.strip() or f"model: {entry.path or entry.module}: {ended}")
        add_to_list(entry.name)


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
    from core.losses.targets import resolve_targets

    dataset = open_dataset(path, config.data.layout, DataOptions.from_config(config.data))
    missing = [m for m in config.data.modalities if m not in dataset.modalities]
    if missing:
        raise ConfigError(f"modalities: {path} has {', '.join(dataset.modalities)}; got {', '.join(missing)}")
    resolve_targets(config.data.targets, config.loss.loss, _regions(dataset, config))
    check_pairs(config.augment, ("", *(config.data.classes or dataset.labels.names[1:])))
    split_subjects(dataset.labelled, config.split)
    if not config.data.force:
        refuse_unfit(dataset, judge_files(dataset, config.data.modalities, config.split.test_subjects))


def _regions(dataset: Dataset, config: TrainConfig) -> RegionSpace | None:
    from core.regions import region_space

    labels = dataset.labels.subset(config.data.classes) if config.data.classes else dataset.labels
    return region_space(dataset.regions, dataset.region_order, labels.names)
