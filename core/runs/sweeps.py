"""Operations on sweeps: start, extend, and advance: create the next trials, prune, end after repeated failures.

The process that serves the queue of the host where a sweep was started calls :func:`advance`; its whole state is in the
group's file and the run folders, so another process can go on at any instant. Other hosts leave it alone until a person
extends or resumes it there: they may lack its data or the client of its engine. Several trials wait or train at a time,
as many as there are devices for. On another engine they are proposed together, so that a cluster gets them as one job
array.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from core.config import TrainConfig
from core.errors import ConfigError, RunError, UserError
from core.files import StampedCache, may_be_present
from core.losses.targets import common_targets
from core.runs import groups, launch, run_actions
from core.runs.engines.registry import get_engine
from core.runs.group_summary import SweepSummary, Trial, settings_of
from core.runs.store import folder as files
from core.runs.store import metrics_file
from core.runs.store.engine_records import LOCAL, EngineRecord
from core.runs.store.groups import GROUPS, SWEEP, Group, Member, lock_group, read_group, write_group
from core.runs.store.process import LockHeldError
from core.runs.store.run_origin import Origin
from core.runs.store.stop_file import read_pruned
from core.runs.store.submissions import current_lease, is_held, submission
from core.sweeps import study
from core.sweeps.history import Measurement, TrialRecord, failures_in_a_row, progress_curve
from core.sweeps.settings import METRICS, SweepSettings, check_sweep

TRY_AGAIN_S = 30.0  # wait before a submission that was not answered is tried again
FAILURES = 3  # trials that fail one after another and end a sweep
IMPORTANCE = "importance.json"  # beside the group's file, made again when a trial has finished

_measurements: StampedCache[tuple[Measurement, ...]] = StampedCache()


class Importance(NamedTuple):
    """How much each searched field decides the Dice, in shares of 1, as of a number of finished trials."""

    finished: int
    shares: dict[str, float]


def submit_sweep(
    root: Path, config: TrainConfig, settings: SweepSettings, name: str = "", worker: str = launch.WORKER
) -> Group:
    """Start a sweep; its trials are queued one after another, or several at once where there are GPUs for them.

    Parameters
    ----------
    root : Path. Checkpoints root.
    config : TrainConfig. What the trials share.
    settings : SweepSettings. What is searched, and on which engine.
    name : str. Display name of the sweep; its runs are called by it and their number.
    worker : str. Module of the trainer process.

    Raises
    ------
    UserError
        If the configuration, the search, the data set, the engine or the checkpoints root cannot be used; then nothing
        is queued.
    """
    name = files.check_name(name)
    get_engine(root, settings.engine).check_config(config)
    check_sweep(settings, config)
    config = launch.resolve_config(root, config).with_values({"reasons": ()})  # those of other values than the trials'
    choices = {dimension.name: dimension.choices for dimension in settings.space}
    for network in choices.get("model", ()):
        launch.check_network(replace(config, model=replace(config.model, model=network)))
    if (regions := launch.read_regions(config)) is not None:
        learned = common_targets(config.data.targets, choices.get("loss", (config.loss.loss,)), regions)
        config = config.with_values({"targets": learned})
    group_id = files.new_run_id(f"{(name or config.preset)[:30]} {SWEEP}")
    group = Group(group_id, name or group_id, SWEEP, config, (), settings=settings.to_json(), origin=Origin.here())
    root = root.absolute()
    write_group(root, group)
    launch.ensure_supervisor(root, worker)
    return group


def extend(root: Path, group: Group, trials: int) -> SweepSummary:
    """Have a sweep propose more trials, also one that has ended; from now on this host proposes them.

    Raises
    ------
    RunError
        If the group is no sweep, or every combination of values was tried.
    ConfigError
        If the number is not allowed.
    """
    if trials < 1:
        raise ConfigError(f"trials: expected 1 or more further trials, got {trials}")
    summary = sweep_of(root, read_group(root, group.id))
    if summary.settings.exhausted:
        raise RunError(f"{group.id}: expected a sweep with values left to try, all of its combinations were tried")
    number = len(summary.group.members)

    def extended(settings: SweepSettings) -> SweepSettings:
        options = replace(settings.options, trials=summary.total + trials)
        return replace(settings, options=options, stopped=False, problem="", failures_ignored_before=number)

    group = groups.change_settings(root, group, extended, take_over=True)
    launch.ensure_supervisor(root)
    return sweep_of(root, group)


def sweep_of(root: Path, group: Group) -> SweepSummary:
    """The summary of a sweep.

    Raises
    ------
    RunError
        If the group is no sweep.
    """
    summary = groups.summarise(root, group)
    if not isinstance(summary, SweepSummary):
        raise RunError(f"{group.id}: expected a sweep, it is a group of {summary.noun}s")
    return summary


def best_config(summary: SweepSummary) -> TrainConfig | None:
    """The configuration of the best trial; ``None`` before one has finished."""
    return None if summary.best is None else summary.best.member.config(summary.group.config)


def read_importance(root: Path, group: Group) -> Importance:
    """The importance of the searched fields; empty where the finished trials do not suffice yet."""
    try:
        data = files.read_json(root / GROUPS / group.id / IMPORTANCE)
        return Importance(int(data["finished"]), {str(k): float(v) for k, v in data["shares"].items()})
    except (RunError, KeyError, TypeError, ValueError, AttributeError):
        return Importance(0, {})


# --- advance ----------------------------------------------------------------------------------------------------------


def advance(root: Path, group_id: str, at_once: int, worker: str = launch.WORKER) -> bool:
    """Advance a sweep by one step: prune trials, and create the next one if fewer than ``at_once`` wait or train; on
    another engine all that are missing, which are submitted to it.

    Parameters
    ----------
    at_once : int. Number of trials that can train at the same time.
    worker : str. Module of the trainer process on another engine.

    Returns
    -------
    bool
        Whether the sweep goes on here: false when its last trial has ended, it was stopped or deleted, or is taken
        further by another host.
    """
    try:
        with ExitStack() as lease:
            with lock_group(root, group_id):
                if not read_group(root, group_id).origin.is_own:
                    return False  # another host took it over
                summary = _advance(root, group_id, at_once, lease)
            if summary.settings.engine:  # without the lock: an engine that does not answer delays no request to stop
                _submit(root, summary, worker)
        summary = sweep_of(root, read_group(root, group_id))
    except LockHeldError:  # another process changes the group, or one of its runs, just now
        return True
    except RunError:
        return False
    return summary.proposes or bool(summary.active)


def _advance(root: Path, group_id: str, at_once: int, lease: ExitStack) -> SweepSummary:
    """What of :func:`advance` changes the group, under its lock; ``lease`` holds a submission while trials without a
    job have been proposed."""
    summary = sweep_of(root, _make_pending(root, read_group(root, group_id)))
    try:
        records = [_record(trial, summary) for trial in summary.trials]
        _prune(root, summary, records)
        _update_importance(root, summary, records)
        if summary.proposes and len(summary.active) < at_once:
            if summary.settings.engine:
                lease.enter_context(submission(root))
            _propose(root, summary, records)
            if summary.settings.engine:
                _propose_missing(root, group_id, at_once)
    except LockHeldError:
        raise
    except Exception as error:  # noqa: BLE001 - a fault of the search ends the sweep, not the queue
        _end(root, read_group(root, group_id), error)
    return sweep_of(root, read_group(root, group_id))


def _propose(root: Path, summary: SweepSummary, records: Sequence[TrialRecord]) -> None:
    """Make the next trial, or note why there is none."""
    group, settings = summary.group, summary.settings
    failed = failures_in_a_row(records[settings.failures_ignored_before :])
    if failed >= FAILURES:
        reasons = [trial.reason for trial in summary.trials if trial.state == "failed"]
        problem = f"{failed} trials in a row failed, the last: {reasons[-1]}"
        _write(root, group, replace(settings, stopped=True, problem=problem))
        return
    values = study.propose(settings, group.config, records)
    if values is None:
        _write(root, group, replace(settings, exhausted=True))
        return
    number = len(group.members) + 1
    run_id = files.new_run_id(f"{(group.given_name or group.config.preset)[:28]} trial {number}")
    members = (*group.members, Member(run_id, values))
    _make_pending(root, _write(root, replace(group, members=members), replace(settings, pending_run=run_id)))


def _propose_missing(root: Path, group_id: str, at_once: int) -> None:
    """Make trials until as many as can train at the same time wait or train, or there is none left to make."""
    while True:
        summary = sweep_of(root, read_group(root, group_id))
        if not summary.proposes or len(summary.active) >= at_once:
            return
        _propose(root, summary, [_record(trial, summary) for trial in summary.trials])


def _submit(root: Path, summary: SweepSummary, worker: str) -> None:
    """Have the engine start the trials that wait and have no job, also after a kill in between. Where it does not
    answer, they wait and are submitted again; where it refuses them, the sweep ends."""
    runs = [trial.run for trial in summary.active if trial.state == "waiting" and trial.run is not None]
    due = [run.id for run in runs if run.engine is not None and _is_due(root, run.engine)]
    try:
        launch.start_queued(root, due, worker, tried_again=True)
    except LockHeldError:
        raise
    except Exception as error:  # noqa: BLE001 - ends the sweep, not the queue
        with lock_group(root, summary.group.id):
            _end(root, read_group(root, summary.group.id), error)


def _is_due(root: Path, record: EngineRecord) -> bool:
    """Whether a waiting trial is due for submission: without a job, not being submitted by another process, and
    ``TRY_AGAIN_S`` or more after a submission that was not answered."""
    if record.job:
        return False
    if record.problem:
        return not 0.0 <= time.time() - record.submitted_at < TRY_AGAIN_S
    return record.lease == current_lease() or not is_held(root, record)


def _make_pending(root: Path, group: Group) -> Group:
    """Make the run of a trial that was proposed, and note that it is made; after a kill in between it is made later."""
    settings = settings_of(group)
    if not settings.pending_run or settings.stopped:
        return group
    member = next((member for member in group.members if member.run == settings.pending_run), None)
    settings = replace(settings, pending_run="")
    if member is not None and not may_be_present(root / member.run / files.CONFIG):
        number = group.runs.index(member.run) + 1
        name = files.name_with(group.given_name, f"trial {number}")
        try:
            config, engine = member.config(group.config), settings.engine or LOCAL
            launch.create_run(root, config, name, run_id=member.run, engine=engine)
        except UserError as error:
            settings = replace(settings, pending_run=member.run, stopped=True, problem=str(error))
    return _write(root, group, settings)


def _end(root: Path, group: Group, error: Exception) -> None:
    """Have a sweep propose no further trials because of an error."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    _write(root, group, replace(settings_of(group), stopped=True, problem=" ".join(text.split())))


def _write(root: Path, group: Group, settings: SweepSettings) -> Group:
    group = replace(group, settings=settings.to_json())
    write_group(root, group)
    return group


def _prune(root: Path, summary: SweepSummary, records: Sequence[TrialRecord]) -> None:
    """Request the end of running trials that the pruner rejects."""
    for index, trial in enumerate(summary.trials):
        if trial.state != "running" or trial.run is None or trial.run.state.state != "running":
            continue
        reason = read_pruned(trial.run.folder)  # killed between the reason and the request
        if not reason and (comparison := study.prune_reason(summary.settings, records, index)):
            reason = f"pruned at epoch {trial.run.state.epoch}: {comparison}"
        if reason:
            run_actions.prune(root, trial.run.id, reason)


def _record(trial: Trial, summary: SweepSummary) -> TrialRecord:
    """A trial as input of the sampler and pruner."""
    dice = trial.dice if trial.state == "finished" else None
    if trial.run is None or trial.state in ("waiting", "failed"):
        return TrialRecord(trial.member.values, trial.state, dice)
    measured = _measured(trial.run.folder, METRICS[summary.objective])
    curve, compared_to = progress_curve(measured, trial.run.config, trial.state == "finished")
    return TrialRecord(trial.member.values, trial.state, dice, curve, compared_to)


def _measured(folder: Path, metric: str) -> tuple[Measurement, ...]:
    """The validations of a run, cached: the file of a long run is large, and trials are compared every two seconds."""

    def read() -> tuple[Measurement, ...]:
        rows = (row for row in metrics_file.read_metrics(folder) if row.name == metric)
        return tuple(Measurement(row.epoch, row.elapsed_s, row.value) for row in rows)

    return _measurements.get(read, folder / metrics_file.METRICS)


def _update_importance(root: Path, summary: SweepSummary, records: Sequence[TrialRecord]) -> None:
    """Work out the importance of the fields again when another trial has finished."""
    if summary.finished == read_importance(root, summary.group).finished:
        return
    try:
        shares = study.importances(summary.settings, records)
    except Exception:  # noqa: BLE001 - a figure for the reader: the search does not need it
        shares = {}
    path = root / GROUPS / summary.group.id / IMPORTANCE
    files.write_json(path, {"finished": summary.finished, "shares": shares})
