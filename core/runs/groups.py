"""Operations on groups of runs: queue all folds, make a group of runs, find, stop, resume, complete, delete."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from core.checkpointing.metadata import read_metadata
from core.config import TrainConfig, changed_fields
from core.config_data import NO_FOLD
from core.errors import ConfigError, RunError
from core.formatting import format_list
from core.paths import DEMO, dataset_folder
from core.runs import catalog, launch
from core.runs.catalog import RunSummary
from core.runs.store import folder as files
from core.runs.store.groups import FOLDS, Group, Member, group_of, read_group, read_groups, remove_group, write_group
from core.runs.store.state import RESUMABLE, State

SAME_DATA = ("path", "layout", "modalities", "classes", "ignore", "nan_is_zero")  # equal in all runs of a group
_STATES: tuple[State, ...] = ("running", "starting", "stopping", "queued", "failed", "crashed", "stopped")


@dataclass(frozen=True)
class GroupSummary:
    """A group and its runs.

    Attributes
    ----------
    group : Group.
    runs : tuple of RunSummary. Those that exist, in the order of the members.
    """

    group: Group
    runs: tuple[RunSummary, ...]

    @property
    def missing(self) -> tuple[Member, ...]:
        """Members whose run was deleted, or not made because queueing was interrupted."""
        existing = {run.id for run in self.runs}
        return tuple(member for member in self.group.members if member.run not in existing)

    @property
    def finished(self) -> int:
        """Number of finished runs."""
        return sum(run.state.state == "finished" for run in self.runs)

    @property
    def state(self) -> State:
        """The state of the runs as one: running where one is, finished where all are."""
        states = {run.state.state for run in self.runs}
        if self.missing:
            states.add("stopped")
        return next((state for state in _STATES if state in states), "finished")

    @property
    def progress(self) -> float:
        """Share of the work that is done, 0 to 1: the mean over the members."""
        shares = [1.0 if run.state.state == "finished" else run.progress or 0.0 for run in self.runs]
        return sum(shares) / len(self.group.members)

    @property
    def mean_dice(self) -> float | None:
        """Mean over the runs of the mean Dice of each so far, by which its best epoch is chosen."""
        values = [run.state.score.mean_dice for run in self.runs if run.state.score is not None]
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    @property
    def other_differences(self) -> tuple[str, ...]:
        """Fields besides the held-out subjects in which the configurations of the members differ."""
        split = {"fold", "folds", "val_subjects", "split_seed", "shuffle_subjects"}
        return tuple(dict.fromkeys(n for m in self.group.members for n in m.values if n not in split))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without scores."""
        group = self.group
        return {
            "id": group.id,
            "name": group.name,
            "kind": group.kind,
            "created_at": group.created_at,
            "state": self.state,
            "finished": self.finished,
            "members": [
                {"run": member.run, "values": member.values, "state": self._state_of(member.run)}
                for member in group.members
            ],
            "config": group.config.to_json(),
        }

    def _state_of(self, run_id: str) -> str | None:
        return next((run.state.state for run in self.runs if run.id == run_id), None)


# --- make -------------------------------------------------------------------------------------------------------------


def submit_folds(root: Path, config: TrainConfig, name: str = "", worker: str = launch.WORKER) -> Group:
    """Queue a run for every fold of the split; they start one after another, or at once where there are GPUs for it.

    Parameters
    ----------
    root : Path. Checkpoints root.
    config : TrainConfig. Configuration; its fold is not looked at.
    name : str. Display name of the group; the runs are called by it and their fold.
    worker : str. Module of the trainer process.

    Raises
    ------
    UserError
        If the configuration, the data set or the checkpoints root cannot be used; then nothing is queued.
    """
    if config.split.val_subjects:
        raise ConfigError("fold: expected no val_subjects with all folds, which hold out every subject in turn")
    from core.datasets.splits import number_of_folds

    config = launch.resolve_config(root, config.with_values({"fold": 0}))
    name = files.check_name(name)
    folds = range(number_of_folds(len(_subjects(config)), config.split))
    slug = name or config.preset
    members = tuple(Member(files.new_run_id(f"{slug[:30]} fold {fold}"), {"fold": fold}) for fold in folds)
    group_id = files.new_run_id(f"{slug[:30]} {FOLDS}")
    group = Group(group_id, name or group_id, FOLDS, config, members)
    write_group(root.absolute(), group)
    complete(root, group, worker)
    return group


def complete(root: Path, group: Group, worker: str = launch.WORKER) -> list[str]:
    """Queue the members of a group that have no run; returns the ids of the new runs.

    Raises
    ------
    RunError
        If a run cannot be created.
    """
    missing = summarise(root, group).missing
    for member in missing:
        launch.create_run(root, member.config(group.config), _member_name(group, member), run_id=member.run)
    if missing:
        launch.ensure_supervisor(root, worker)
    return [member.run for member in missing]


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
    return split_subjects(_subjects(run.config, with_test=True), run.config.split).val


# --- find -------------------------------------------------------------------------------------------------------------


def list_groups(root: Path, runs: Iterable[RunSummary] | None = None) -> list[GroupSummary]:
    """All groups that have a run, the newest first.

    Parameters
    ----------
    runs : iterable of RunSummary, optional. All runs of the root, if they are known.
    """
    groups = read_groups(root)
    by_id = {run.id: run for run in (catalog.list_runs(root) if runs is None else runs)} if groups else {}
    found = [_summary(group, by_id) for group in groups]
    return [summary for summary in found if summary.runs]


def summarise(root: Path, group: Group) -> GroupSummary:
    """A group and its runs."""
    existing = [id for id in group.runs if (root / id / files.CONFIG).is_file()]
    return _summary(group, {id: catalog.get_run(root, id) for id in existing})


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
        catalog.find_run(root, text)  # or the error that says what there is
        return None
    raise RunError(
        f"{text!r} matches {len(matching)} runs and groups: {format_list(sorted(matching, reverse=True))}; give more "
        "of the id"
    )


# --- change -----------------------------------------------------------------------------------------------------------


def stop_group(root: Path, group: Group, now: bool = False) -> list[str]:
    """Request all queued and active runs of a group to stop; returns their ids.

    Those that wait are stopped first, so that none of them starts in the place of one that ends.

    Raises
    ------
    RunError
        If none is queued or active.
    """
    runs = [run for run in summarise(root, group).runs if run.state.active or run.state.state == "queued"]
    if not runs:
        raise RunError(f"{group.id}: expected a group with queued or running runs, all have ended already")
    for run in sorted(runs, key=lambda run: run.state.active):
        catalog.request_stop(root, run.id, now)
    return [run.id for run in runs]


def resume_group(root: Path, group: Group, *, data: str = "", force: bool = False) -> list[str]:
    """Queue the runs of a group that ended early; returns their ids. Parameters are those of
    :func:`core.runs.launch.resume`.

    Raises
    ------
    RunError
        If none ended early, or one cannot be resumed; those before it are queued then.
    """
    runs = [run for run in summarise(root, group).runs if run.state.state in RESUMABLE]
    if not runs:
        raise RunError(f"{group.id}: expected a group with stopped, failed or crashed runs, it has none")
    for run in runs:
        launch.resume(root, run.id, data=data, force=force)
    return [run.id for run in runs]


def delete_group(root: Path, group: Group, keep_runs: bool = False) -> None:
    """Delete a group with its runs, or without them.

    Raises
    ------
    RunError
        If a run is active, or cannot be removed; what remains is still a group.
    """
    if not keep_runs:
        runs = summarise(root, group).runs
        if active := [run for run in runs if run.state.active]:
            raise RunError(f"{active[0].id}: it is {active[0].state.state}; stop the group first, then delete it")
        for run in sorted(runs, key=lambda run: run.state.state != "queued"):  # none of them starts meanwhile
            catalog.delete(root, run.id)
    remove_group(root, group.id)


def rename_group(root: Path, group_id: str, name: str) -> None:
    """Change the display name of a group; with an empty name its id is displayed.

    Raises
    ------
    RunError
        If there is no such group or the name is not allowed.
    """
    write_group(root, replace(read_group(root, group_id), name=files.check_name(name) or group_id))


def refit_config(group: Group) -> TrainConfig:
    """The configuration that trains on every subject, for use after the cross-validation of a group."""
    return group.config.with_values({"folds": 0, "fold": NO_FOLD, "val_subjects": ()})


def _summary(group: Group, by_id: Mapping[str, RunSummary]) -> GroupSummary:
    return GroupSummary(group, tuple(by_id[id] for id in group.runs if id in by_id))


def _values(config: TrainConfig, base: TrainConfig) -> dict[str, Any]:
    """The fields in which a configuration differs from another one, with its values."""
    return {name: new for name, (_, new) in changed_fields(config, base).items()}


def _member_name(group: Group, member: Member) -> str:
    """Name of a member's run: that of its group with its values; none where the group has none."""
    if group.name == group.id:
        return ""
    values = " ".join(f"{name} {value}" for name, value in member.values.items())
    return f"{group.name[: files.NAME_LENGTH - len(values) - 1]} {values}"[: files.NAME_LENGTH]


def _subjects(config: TrainConfig, with_test: bool = False) -> tuple[str, ...]:
    """Ids of the labelled subjects that a split is made of; before the demo data is made, of its planned ones."""
    from core.datasets import DataOptions, open_dataset
    from core.datasets.synthetic.demo import DEFAULT_SUBJECTS, read_marker

    path = dataset_folder(config.data.path)
    if config.data.path == DEMO and read_marker(path) is None:
        ids = tuple(f"subject-{n}" for n in range(1, DEFAULT_SUBJECTS + 1))
    else:
        ids = open_dataset(path, config.data.layout, DataOptions.from_config(config.data)).labelled_ids
    return tuple(id for id in ids if with_test or id not in config.split.test_subjects)
