"""Operations on groups of runs: queue all folds, make a group of runs, find, stop, resume, complete, delete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.checkpointing.metadata import read_metadata
from core.config import TrainConfig, changed_fields
from core.config_data import NO_FOLD
from core.errors import ConfigError, RunError, UserError
from core.files import may_be_present
from core.formatting import format_list
from core.paths import dataset_folder
from core.runs import catalog, launch, run_actions
from core.runs.catalog import RunSummary
from core.runs.engines.registry import get_engine
from core.runs.group_summary import GroupSummary as GroupSummary
from core.runs.group_summary import SweepSummary, settings_of, summary_of
from core.runs.hand_over import is_unconfirmed, submit_again
from core.runs.store import folder as files
from core.runs.store.engine_records import LOCAL, engine_of, read_engine
from core.runs.store.groups import (
    FOLDS,
    SWEEP,
    Group,
    Member,
    change_group,
    group_of,
    lock_group,
    read_group,
    read_groups,
    remove_group,
    write_group,
)
from core.runs.store.run_origin import Origin
from core.runs.store.state import ENDED, RESUMABLE
from core.runs.store.stop_file import read_pruned
from core.sweeps.settings import SweepSettings

# Equal in all runs of a group.
SAME_DATA = ("path", "layout", "modalities", "classes", "ignore", "nan_is_zero", "missing_modalities")

# --- make -------------------------------------------------------------------------------------------------------------


def submit_folds(
    root: Path, config: TrainConfig, name: str = "", worker: str = launch.WORKER, *, engine: str = LOCAL
) -> Group:
    """Queue a run for every fold of the split; they start one after another, or at once where there are GPUs for it.

    Parameters
    ----------
    root : Path. Checkpoints root.
    config : TrainConfig. Configuration; its fold is not looked at.
    name : str. Display name of the group; the runs are called by it and their fold.
    worker : str. Module of the trainer process.
    engine : str. Name of the engine; a cluster gets all folds as one job array.

    Raises
    ------
    UserError
        If the configuration, the data set or the checkpoints root cannot be used; then nothing is queued.
    """
    if config.split.val_subjects:
        raise ConfigError("fold: expected no val_subjects with all folds, which hold out every subject in turn")
    from core.datasets.splits import number_of_folds, number_of_units

    config = launch.resolve_config(root, config.with_values({"fold": 0}))
    name = files.check_name(name)
    folds = range(number_of_folds(number_of_units(_labelled(config), config.split), config.split))
    slug = name or config.preset
    members = tuple(Member(files.new_run_id(f"{slug[:30]} fold {fold}"), {"fold": fold}) for fold in folds)
    group_id = files.new_run_id(f"{slug[:30]} {FOLDS}")
    group = Group(group_id, name or group_id, FOLDS, config, members)
    get_engine(root, engine).check_config(config)
    write_group(root.absolute(), group)
    complete(root, group, worker, engine=engine)
    return group


def complete(root: Path, group: Group, worker: str = launch.WORKER, *, engine: str = "") -> list[str]:
    """Queue the members of a group that have no run; returns the ids of the new runs.

    Parameters
    ----------
    root : Path. Checkpoints root.
    group : Group.
    worker : str. Module of the trainer process.
    engine : str. Name of the engine; empty for that of the other members.

    Raises
    ------
    RunError
        If a run cannot be created, or the group is a sweep, whose deleted trials count for nothing.
    """
    if group.kind == SWEEP:
        raise RunError(f"{group.id}: expected a group of folds, got a sweep; propose further trials: runs extend")
    summary = summarise(root, group)
    engine = engine or engine_of_group(summary)
    queued = [member.run for member in summary.missing]
    with launch.submission_to(root, engine):
        for member in summary.missing:
            config, name = member.config(group.config), _member_name(group, member)
            launch.create_run(root, config, name, run_id=member.run, engine=engine)
        launch.start_queued(root, queued, worker)
    return queued


def engine_of_group(summary: GroupSummary) -> str:
    """Name of the engine on which the runs of a group are, or that of the trials of a sweep."""
    if isinstance(summary, SweepSummary):
        return summary.settings.engine or LOCAL
    return next((engine_of(read_engine(run.folder)) for run in summary.runs), LOCAL)


def make_group(root: Path, names: Sequence[str], name: str = "") -> Group:
    """Make a group of runs that hold out different subjects of one data set.

    Parameters
    ----------
    root : Path. Checkpoints root.
    names : sequence of str. Two or more ids, unambiguous beginnings of ids, or names.
    name : str. Display name.

    Raises
    ------
    UserError
        If a run does not exist or is in a group, they read their data in different ways, or one of them held out a
        subject that another one did, or none.
    """
    runs = [catalog.find_run(root, text) for text in names]
    if len({run.id for run in runs}) < max(len(runs), 2):
        raise RunError(f"group: expected two or more different runs, got {', '.join(r.id for r in runs) or 'none'}")
    groups = read_groups(root)
    for run in runs:
        if (other := group_of(groups, run.id)) is not None:
            raise RunError(f"{run.id}: it is in the group {other.id}; a run is in one group")
    first = runs[0]
    for run in runs[1:]:
        changed = changed_fields(run.config, first.config)
        if different := [field for field in SAME_DATA if field in changed]:
            raise RunError(
                f"{run.id}: expected {different[0]} {changed[different[0]][0]!r} as in {first.id}, got "
                f"{changed[different[0]][1]!r}; a group is of one data set"
            )
    held_out: dict[str, str] = {}
    for run in runs:
        subjects = held_out_of(run)
        if not subjects:
            raise RunError(f"{run.id}: expected a run with held-out subjects, it was trained on every subject")
        if shared := [subject for subject in subjects if subject in held_out]:
            raise RunError(
                f"{run.id}: expected other held-out subjects than those of {held_out[shared[0]]}, got "
                f"{format_list(shared)} in both; use another --fold of the same split"
            )
        held_out |= dict.fromkeys(subjects, run.id)
    name = files.check_name(name)
    group_id = files.new_run_id(name or f"{first.config.preset} {FOLDS}")
    members = tuple(Member(run.id, _values(run.config, first.config)) for run in runs)
    group = Group(group_id, name or group_id, FOLDS, first.config, members)
    write_group(root, group)
    return group


def held_out_of(run: RunSummary) -> tuple[str, ...]:
    """Ids of the validation subjects of a run: those that its checkpoint states, before there is one by its split.

    Raises
    ------
    UserError
        If its data set or checkpoint cannot be read.
    """
    from core.datasets.splits import split_subjects

    checkpoint = catalog.run_checkpoint(run.folder)
    if checkpoint is not None:
        return tuple(read_metadata(checkpoint).split.get("val", ()))
    return split_subjects(_labelled(run.config), run.config.split).val


# --- find -------------------------------------------------------------------------------------------------------------


def list_groups(root: Path, runs: Iterable[RunSummary] | None = None) -> list[GroupSummary]:
    """All groups that have a run, and all sweeps, the newest first.

    Parameters
    ----------
    runs : iterable of RunSummary, optional. All runs of the root, if they are known.
    """
    groups = read_groups(root)
    by_id = {run.id: run for run in (catalog.list_runs(root) if runs is None else runs)} if groups else {}
    found = [summary_of(group, by_id) for group in groups]
    return [summary for summary in found if summary.runs or summary.group.kind == SWEEP]


def summarise(root: Path, group: Group) -> GroupSummary:
    """A group and its runs."""
    existing = [id for id in group.runs if may_be_present(root / id / files.CONFIG)]
    return summary_of(group, {id: catalog.get_run(root, id) for id in existing})


def find_group(root: Path, text: str) -> Group | None:
    """The group with this id, exact name, or unambiguous beginning of its id; ``None`` where a text names a run.

    Raises
    ------
    RunError
        If it names neither, or several.
    """
    groups = {group.id: group for group in read_groups(root)}
    names = {folder.name: files.read_name(folder) for folder in files.run_folders(root)}
    matching = catalog.matching_ids(text, names | {id: group.name for id, group in groups.items()})
    if len(matching) == 1 and matching[0] in groups:
        return groups[matching[0]]
    if not any(id in groups for id in matching):
        try:
            catalog.find_run(root, text)
        except RunError as error:
            known = f"; groups: {format_list(sorted(groups, reverse=True))}" if groups else ""
            raise RunError(f"{error}{known}") from error
        return None
    raise RunError(
        f"{text!r} matches {len(matching)} runs and groups: {format_list(sorted(matching, reverse=True))}; give more "
        "of the id"
    )


# --- change -----------------------------------------------------------------------------------------------------------


def stop_group(root: Path, group: Group, now: bool = False) -> list[str]:
    """Request all queued and active runs of a group to stop; returns their ids. A sweep proposes no further trials.

    Those that wait are stopped first, so that none of them starts in the place of one that ends.

    Raises
    ------
    RunError
        If none is queued or active.
    UserError
        If the job of one cannot be cancelled now, or its folder cannot be used. All are requested to stop nevertheless.
    """
    proposed = end_proposals(root, group)
    group = read_group(root, group.id)  # a sweep has got members since it was shown
    runs = [run for run in summarise(root, group).runs if run.state.active or run.state.state == "queued"]
    if not runs and not proposed:
        raise RunError(f"{group.id}: expected a group with queued or running runs, all have ended already")
    refused: UserError | None = None
    for run in sorted(runs, key=lambda run: run.state.active):
        try:
            run_actions.request_stop(root, run.id, now)
        except UserError as error:
            if not _has_ended(root, run.id):  # since the list was read, which is what was asked for
                refused = error
    if refused is not None:
        raise refused
    return [run.id for run in runs]


def _has_ended(root: Path, run_id: str) -> bool:
    """Whether a run has ended, or was deleted."""
    try:
        return catalog.get_run(root, run_id).state.state in ENDED
    except RunError:
        return True


def resume_group(root: Path, group: Group, *, data: str = "", force: bool = False, engine: str = "") -> list[str]:
    """Queue the runs of a group that ended early (:func:`resumable_runs`); returns their ids. Parameters are those of
    :func:`core.runs.launch.resume`. Runs whose submission is not confirmed are submitted again. A sweep goes on to
    propose and submit trials, on ``engine`` too.

    Raises
    ------
    RunError
        If none ended early, a trial is still stopping, or one cannot be resumed; those before it are queued then.
    """
    summary = summarise(root, read_group(root, group.id))
    stopping = [run.id for run in summary.runs if run.state.state == "stopping"]
    if stopping and isinstance(summary, SweepSummary):
        raise RunError(f"{format_list(stopping)}: still stopping; resume {group.id} when it has ended")
    runs = resumable_runs(summary)
    waiting = [run for run in summary.runs if is_unconfirmed(run)]
    moved = [run for run in waiting if data or engine not in ("", engine_of(run.engine))]
    again = [run.id for run in waiting if run not in moved]
    sweep = summary if isinstance(summary, SweepSummary) else None
    if not (runs or waiting or (sweep and sweep.proposes_if_reopened)):
        raise RunError(f"{group.id}: expected a group with stopped, failed or crashed runs, it has none")
    if sweep is None:
        submit_again(root, again)
    else:
        if engine:
            get_engine(root, engine).check_config(group.config)
        _reopen(root, sweep, engine)
    for run in (*runs, *moved):
        launch.resume(root, run.id, data=data, force=force, engine=engine)
    return [*(run.id for run in (*runs, *moved)), *again]


def resumable_runs(summary: GroupSummary) -> list[RunSummary]:
    """The runs of a group that ended early and go on when it is resumed. Of a sweep those that were stopped or died, or
    never began, as where their engine refused them; trials that failed or were pruned stay ended."""
    runs = [run for run in summary.runs if run.state.state in RESUMABLE]
    if not isinstance(summary, SweepSummary):
        return runs
    stopped = {trial.member.run for trial in summary.trials if trial.state == "stopped"}
    return [run for run in runs if run.id in stopped or _died(run)]


def _died(run: RunSummary) -> bool:
    """Whether a trial died, or failed before it began: its values were not tried."""
    if run.state.state == "failed":
        return not run.state.attempt
    return run.state.state == "crashed" and not read_pruned(run.folder)


def delete_group(root: Path, group: Group, keep_runs: bool = False) -> None:
    """Delete a group with its runs, or without them.

    Raises
    ------
    RunError
        If a run is active, or cannot be removed; what remains is still a group.
    """
    end_proposals(root, group)
    group = read_group(root, group.id)
    if not keep_runs:
        runs = summarise(root, group).runs
        if active := [run for run in runs if run.state.active]:
            raise RunError(f"{active[0].id}: it is {active[0].state.state}; stop the group first, then delete it")
        for run in sorted(
            runs, key=lambda run: run.state.state != "queued"
        ):  # so that none of them starts before it is stopped
            run_actions.delete(root, run.id)
    with lock_group(root, group.id):
        remove_group(root, group.id)


def rename_group(root: Path, group_id: str, name: str) -> None:
    """Change the display name of a group; with an empty name its id is displayed.

    Raises
    ------
    RunError
        If there is no such group or the name is not allowed.
    """
    name = files.check_name(name) or group_id
    change_group(root, group_id, lambda group: replace(group, name=name))


def end_proposals(root: Path, group: Group) -> bool:
    """Have a sweep propose no further trials; those that wait or train go on. Returns whether it was to propose some;
    false for other groups."""
    if group.kind != SWEEP:
        return False
    summary = summarise(root, read_group(root, group.id))
    assert isinstance(summary, SweepSummary)
    if summary.proposes:
        change_settings(root, group, lambda settings: replace(settings, stopped=True))
    return summary.proposes


def change_settings(
    root: Path, group: Group, change: Callable[[SweepSettings], SweepSettings], take_over: bool = False
) -> Group:
    """Change the settings of a sweep under its lock; returns the new group. With ``take_over``, this host proposes its
    trials from now on."""

    def changed(now: Group) -> Group:
        origin = Origin.here() if take_over else now.origin
        return replace(now, settings=change(settings_of(now)).to_json(), origin=origin)

    return change_group(root, group.id, changed)


def refit_config(group: Group) -> TrainConfig:
    """The configuration that trains on every subject, for use after the cross-validation of a group."""
    return group.config.with_values({"folds": 0, "fold": NO_FOLD, "val_subjects": ()})


def _reopen(root: Path, summary: SweepSummary, engine: str) -> None:
    """Have a sweep propose trials again if any are left, and its queue submit those that wait; on another engine if one
    is named."""
    number = len(summary.group.members)

    def reopened(settings: SweepSettings) -> SweepSettings:
        if engine:
            settings = replace(settings, engine="" if engine == LOCAL else engine)
        if not settings.space or settings.exhausted:
            return settings
        return replace(settings, stopped=False, problem="", failures_ignored_before=number)

    change_settings(root, summary.group, reopened, take_over=True)
    launch.ensure_supervisor(root)


def _values(config: TrainConfig, base: TrainConfig) -> dict[str, Any]:
    """The fields in which a configuration differs from another one, with its values."""
    return {name: new for name, (_, new) in changed_fields(config, base).items()}


def _member_name(group: Group, member: Member) -> str:
    """Name of a member's run: that of its group with its values; none where the group has none."""
    values = " ".join(f"{name} {value}" for name, value in member.values.items())
    return files.name_with(group.given_name, values)


def _labelled(config: TrainConfig) -> Mapping[str, Mapping[str, str]]:
    """The labelled subjects that a split is made of, as :attr:`core.datasets.Dataset.labelled`; before the demo data is
    made, its planned ones."""
    from core.datasets import DataOptions, open_dataset
    from core.datasets.synthetic.demo import planned_unless_made

    if planned := planned_unless_made(config.data.path):
        return planned.labelled
    path = dataset_folder(config.data.path)
    return open_dataset(path, config.data.layout, DataOptions.from_config(config.data)).labelled
