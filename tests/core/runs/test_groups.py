"""Groups of runs: queueing all folds, groups of existing runs, interrupted queueing, actions on all runs of a group."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import runs
from core.config import TrainConfig
from core.errors import ConfigError, DatasetError, RunError
from core.events import SUB_VOLUMES_MEASURED, WHOLE_VOLUMES_MEASURED
from core.runs import groups, run_actions
from core.runs.group_summary import settings_of
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store.groups import FOLDS, Group, Member, read_group, read_groups, write_group
from core.runs.store.state import Best, State, read_state, write_state
from core.runs.store.stop_file import STOP
from tests.support.elsewhere import CLUSTER, SETTINGS
from tests.support.sweeps import make_sweep

pytestmark = pytest.mark.usefixtures("no_supervisor")


def set_state(root: Path, run: str, state: State, **values: Any) -> None:
    write_state(root / run, replace(read_state(root / run), state=state, **values))


def test_all_folds_are_queued_in_order_and_hold_out_every_subject_once(tmp_path: Path, config: TrainConfig) -> None:
    root = tmp_path / "runs"
    group = groups.submit_folds(root, config.with_values({"fold": 2}), "My net")
    assert (group.name, group.kind, len(group.members)) == ("My net", FOLDS, 3)
    assert runs.queued_runs(root) == list(group.runs)
    members = [runs.get_run(root, id) for id in group.runs]
    assert [(run.name, run.config.split.fold) for run in members] == [(f"My net fold {n}", n) for n in range(3)]
    assert members[1].config == config.with_values({"fold": 1})
    held_out = [subject for run in members for subject in groups.held_out_of(run)]
    assert sorted(held_out) == [f"ball_{n}" for n in range(6)]
    assert read_groups(root) == [group] and read_group(root, group.id) == group


def test_folds_adapt_to_the_subjects_that_are_no_test_subjects(tmp_path: Path, config: TrainConfig) -> None:
    few = config.with_values({"folds": 5, "test_subjects": ("ball_0", "ball_1")})
    assert len(groups.submit_folds(tmp_path, few).members) == 4
    assert len(groups.submit_folds(tmp_path, config.with_values({"folds": 0})).members) == 6


def test_demo_data_that_is_not_made_yet_has_as_many_folds_as_it_will(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    group = groups.submit_folds(tmp_path / "runs", TrainConfig().with_values({"path": "demo", "folds": 0}))
    assert len(group.members) == 10


@pytest.mark.parametrize(
    ("values", "message"),
    [({"val_subjects": ("ball_0",)}, "no val_subjects"), ({"folds": 7}, "at most 6"), ({"path": "gone"}, "gone")],
)
def test_folds_that_cannot_be_queued_leave_nothing_behind(
    tmp_path: Path, config: TrainConfig, values: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, DatasetError), match=message):
        groups.submit_folds(tmp_path / "runs", config.with_values(values))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("torn", [False, True])
def test_queueing_that_was_killed_is_completed_with_the_same_runs(
    tmp_path: Path, config: TrainConfig, torn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the third run was created, or while it was."""
    made: list[str] = []

    def create(root: Path, config: TrainConfig, name: str, run_id: str, engine: str) -> Path:
        if len(made) == 2:
            if torn:
                (tmp_path / f".new-{run_id}").mkdir()
                (tmp_path / f".new-{run_id}" / files.CONFIG).write_text("{")
            raise KeyboardInterrupt
        made.append(run_id)
        return create_run(root, config, name, run_id=run_id, engine=engine)

    with monkeypatch.context() as patch:
        patch.setattr("core.runs.launch.create_run", create)
        with pytest.raises(KeyboardInterrupt):
            groups.submit_folds(tmp_path, config)
    (summary,) = groups.list_groups(tmp_path)
    assert [run.id for run in summary.runs] == made and summary.state == "queued"
    assert [member.values for member in summary.missing] == [{"fold": 2}]
    assert groups.complete(tmp_path, summary.group) == [summary.missing[0].run]
    (whole,) = groups.list_groups(tmp_path)
    assert [run.id for run in whole.runs] == list(summary.group.runs) and not whole.missing
    assert whole.runs[2].config == config.with_values({"fold": 2})
    assert groups.complete(tmp_path, summary.group) == []


def test_group_of_which_no_run_exists_is_not_listed(tmp_path: Path) -> None:
    write_group(tmp_path, Group("lonely", "lonely", FOLDS, TrainConfig(), (Member("never-made"),)))
    assert len(read_groups(tmp_path)) == 1 and groups.list_groups(tmp_path) == []


def test_runs_without_a_group_are_in_none(tmp_path: Path, config: TrainConfig) -> None:
    create_run(tmp_path, config)
    assert read_groups(tmp_path) == groups.list_groups(tmp_path) == []


WITH_ORIGIN = (
    '{"version": 2, "name": "sweep", "kind": "sweep", "config": {}, "members": [], "created_at": 0, "origin": "host"}'
)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1}', '{"version": 99, "members": []}', WITH_ORIGIN])
def test_damaged_group_leaves_its_runs_usable(tmp_path: Path, config: TrainConfig, content: str) -> None:
    group = groups.submit_folds(tmp_path, config)
    file = tmp_path / "groups" / group.id / "group.json"
    file.write_text(content)
    assert read_groups(tmp_path) == [] and len(runs.list_runs(tmp_path)) == 3
    with pytest.raises(RunError, match=r"group\.json"):
        read_group(tmp_path, group.id)


def test_a_folder_of_groups_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, pattern: str) -> Iterator[Path]:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "glob", refuse)
    with pytest.raises(RunError, match="groups: the groups of runs cannot be read: Permission denied"):
        read_groups(tmp_path)


def test_state_and_progress_are_those_of_the_members(tmp_path: Path, config: TrainConfig) -> None:
    group = groups.submit_folds(tmp_path, config)
    first, second, third = group.runs
    set_state(tmp_path, first, "finished")
    summary = groups.summarise(tmp_path, group)
    assert (summary.state, summary.finished, round(summary.progress, 3)) == ("queued", 1, 0.333)
    for run in (second, third):
        set_state(tmp_path, run, "finished")
    assert groups.summarise(tmp_path, group).state == "finished"
    set_state(tmp_path, third, "failed")
    assert groups.summarise(tmp_path, group).state == "failed"
    runs.delete(tmp_path, third)
    summary = groups.summarise(tmp_path, group)
    assert (summary.state, summary.finished, len(summary.missing)) == ("stopped", 2, 1)
    states = [member["state"] for member in summary.to_json()["members"]]
    assert states == ["finished", "finished", None] and json.dumps(summary.to_json())


def test_stop_ends_the_waiting_runs_before_the_active_one(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.runs.store.reconciliation.is_alive", lambda *_: True)
    group = groups.submit_folds(tmp_path, config)
    set_state(tmp_path, group.runs[0], "running", attempt=1)
    assert groups.stop_group(tmp_path, group) == [*group.runs[:1], *group.runs[1:]]
    assert [run.state.state for run in groups.summarise(tmp_path, group).runs] == ["stopping", "stopped", "stopped"]
    stopped_at = [(tmp_path / id / files.STATE).stat().st_mtime_ns for id in group.runs[1:]]
    assert max(stopped_at) <= (tmp_path / group.runs[0] / STOP).stat().st_mtime_ns
    with pytest.raises(RunError, match=r"it is (running|stopping); stop the group"):
        groups.delete_group(tmp_path, group)


def test_dice_of_sub_volumes_and_of_whole_volumes_are_not_averaged(tmp_path: Path, config: TrainConfig) -> None:
    group = groups.submit_folds(tmp_path, config)
    first, second, _ = group.runs
    set_state(tmp_path, first, "queued", latest=Best(1, 0.5, SUB_VOLUMES_MEASURED))
    summary = groups.summarise(tmp_path, group)
    assert (summary.mean_dice, summary.measured) == (0.5, "mean of 1 of 3")
    set_state(tmp_path, second, "queued", best=Best(1, 0.8, WHOLE_VOLUMES_MEASURED))
    summary = groups.summarise(tmp_path, group)
    assert (summary.mean_dice, summary.measured) == (0.8, "mean of 1 of 3")


def test_all_others_are_stopped_where_one_run_has_just_ended(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run ends between the list of those that are to be stopped and its own turn."""
    group = groups.submit_folds(tmp_path, config)
    request_stop = run_actions.request_stop

    def ended_first(root: Path, run_id: str, now: bool = False) -> None:
        if run_id == group.runs[0]:
            set_state(root, run_id, "finished")
        request_stop(root, run_id, now)

    monkeypatch.setattr("core.runs.run_actions.request_stop", ended_first)
    groups.stop_group(tmp_path, group)
    assert [run.state.state for run in groups.summarise(tmp_path, group).runs] == ["finished", "stopped", "stopped"]


def test_stopped_runs_are_resumed_together_and_finished_ones_left_alone(tmp_path: Path, config: TrainConfig) -> None:
    group = groups.submit_folds(tmp_path, config)
    groups.stop_group(tmp_path, group)
    with pytest.raises(RunError, match="all have ended"):
        groups.stop_group(tmp_path, group)
    set_state(tmp_path, group.runs[0], "finished")
    assert groups.resume_group(tmp_path, group) == list(group.runs[1:])
    assert runs.queued_runs(tmp_path) == list(group.runs[1:])
    with pytest.raises(RunError, match="it has none"):
        groups.resume_group(tmp_path, group)


def test_deleted_group_takes_its_runs_along_or_leaves_them(tmp_path: Path, config: TrainConfig) -> None:
    kept, gone = groups.submit_folds(tmp_path, config, "kept"), groups.submit_folds(tmp_path, config, "gone")
    other = create_run(tmp_path, config, "other").name
    groups.delete_group(tmp_path, gone)
    groups.delete_group(tmp_path, kept, keep_runs=True)
    assert read_groups(tmp_path) == [] and not list((tmp_path / "groups").iterdir())
    assert {run.id for run in runs.list_runs(tmp_path)} == {other, *kept.runs}


def test_group_is_found_by_id_name_or_beginning_and_distinguished_from_runs(
    tmp_path: Path, config: TrainConfig
) -> None:
    group = groups.submit_folds(tmp_path, config, "net")
    for text in ("net", group.id, group.id[:-2]):
        assert groups.find_group(tmp_path, text) == group
    assert groups.find_group(tmp_path, "net fold 1") is None
    with pytest.raises(RunError, match="runs and groups"):
        groups.find_group(tmp_path, "net-fold")
    with pytest.raises(RunError, match="expected a run's id"):
        groups.find_group(tmp_path, "nobody")
    groups.rename_group(tmp_path, group.id, "new name")
    assert read_group(tmp_path, group.id).name == "new name"
    groups.rename_group(tmp_path, group.id, "")
    assert read_group(tmp_path, group.id).name == group.id
    with pytest.raises(RunError, match="expected a run id"):
        read_group(tmp_path, "../outside")


def test_runs_of_different_folds_become_a_group(tmp_path: Path, config: TrainConfig) -> None:
    made = [create_run(tmp_path, config.with_values({"fold": fold}), f"fold {fold}").name for fold in (1, 0)]
    group = groups.make_group(tmp_path, ["fold 1", "fold 0"], "both")
    assert group.runs == tuple(made) and [member.values for member in group.members] == [{}, {"fold": 0}]
    assert groups.summarise(tmp_path, group).other_differences == ()
    with pytest.raises(RunError, match=f"is in the group {group.id}"):
        groups.make_group(tmp_path, made)


def test_other_settings_that_differ_in_a_group_are_named(tmp_path: Path, config: TrainConfig) -> None:
    changes: tuple[dict[str, Any], ...] = ({}, {"fold": 1, "learning_rate": 0.5})
    made = [create_run(tmp_path, config.with_values(values)).name for values in changes]
    group = groups.make_group(tmp_path, made)
    assert groups.summarise(tmp_path, group).other_differences == ("learning_rate",)
    shutil.rmtree(tmp_path / made[1])
    groups.complete(tmp_path, group)
    assert runs.get_run(tmp_path, made[1]).config == config.with_values(changes[1])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fold": 0}, "other held-out subjects"),
        ({"fold": 1, "classes": ("bright",)}, r"expected classes \(\)"),
        ({"folds": 0, "fold": -1}, "trained on every subject"),
    ],
)
def test_runs_that_are_no_cross_validation_are_refused(
    tmp_path: Path, config: TrainConfig, values: dict[str, Any], message: str
) -> None:
    made = [create_run(tmp_path, changed).name for changed in (config, config.with_values(values))]
    with pytest.raises(RunError, match=message):
        groups.make_group(tmp_path, made)
    with pytest.raises(RunError, match="two or more different"):
        groups.make_group(tmp_path, [made[0], made[0]])
    assert read_groups(tmp_path) == []


def test_refit_trains_on_every_subject_with_the_settings_of_the_folds(tmp_path: Path, config: TrainConfig) -> None:
    group = groups.submit_folds(tmp_path, config)
    refit = groups.refit_config(group)
    assert refit.split.holds_out_nothing and refit.split.folds == 0
    assert refit.with_values({"folds": 3, "fold": 0}) == group.config


def test_sweep_that_is_resumed_on_another_engine_trains_its_further_trials_there(
    tmp_path: Path, config: TrainConfig
) -> None:
    (tmp_path / "engines.toml").write_text(SETTINGS)
    sweep = make_sweep(tmp_path, config, trials=3)
    groups.end_proposals(tmp_path, sweep)
    with pytest.raises(ConfigError, match="expected one of local"):
        groups.resume_group(tmp_path, sweep, engine="other")
    found = []
    for engine in (CLUSTER, "", "local"):
        groups.resume_group(tmp_path, sweep, engine=engine)
        found.append(settings_of(read_group(tmp_path, sweep.id)).engine)
    assert found == [CLUSTER, CLUSTER, ""]
