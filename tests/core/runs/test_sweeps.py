"""Sweeps on the queue: proposing, crashes in between, states of trials, pruning, stopping, resuming, extending."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from core import runs
from core.config import TrainConfig
from core.errors import ConfigError, DatasetError, RunError
from core.events import SUB_VOLUMES_MEASURED
from core.hosts import host_name
from core.runs import groups, launch, sweeps
from core.runs.models import find_models
from core.runs.processes.sweep_driver import SweepDriver, trials_at_once
from core.runs.store import folder as files
from core.runs.store.groups import (
    GROUP,
    GROUPS,
    SWEEP,
    Group,
    Member,
    change_group,
    lock_group,
    read_group,
    read_groups,
)
from core.runs.store.process import locked
from core.runs.store.run_origin import Origin
from core.runs.store.state import read_state
from core.runs.store.stop_file import PRUNED, STOP, read_pruned, stop_requested
from core.runs.sweeps import advance, extend
from tests.support.balls import tiny
from tests.support.nested_tumours import write_tumours
from tests.support.sweeps import (
    end_trial,
    finish_trials,
    make_sweep,
    next_trial,
    run_trial,
    sweep_summary,
    trial_states,
)

pytestmark = pytest.mark.usefixtures("no_supervisor")


@pytest.fixture
def sweep(tmp_path: Path, config: TrainConfig) -> Group:
    return make_sweep(tmp_path, config, trials=6)


def test_sweep_that_another_process_changes_goes_on_and_a_deleted_one_does_not(
    tmp_path: Path, sweep: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock_group(tmp_path, sweep.id), monkeypatch.context() as patched:
        patched.setattr(sweeps, "lock_group", lambda root, id: locked(root / GROUPS / f".{id}.lock", timeout_s=0.0))
        assert advance(tmp_path, sweep.id, 1)
    groups.delete_group(tmp_path, sweep)
    assert not advance(tmp_path, sweep.id, 1)


def test_first_trial_is_queued_with_the_present_values_and_waits_alone(tmp_path: Path, sweep: Group) -> None:
    assert (sweep_summary(tmp_path, sweep).state, runs.queued_runs(tmp_path)) == ("queued", [])
    run = next_trial(tmp_path, sweep)
    assert next_trial(tmp_path, sweep) == run and runs.queued_runs(tmp_path) == [run]
    member = runs.get_run(tmp_path, run)
    assert (member.name, member.config) == ("search trial 1", sweep.config)
    assert read_group(tmp_path, sweep.id).members[0].values == {"learning_rate": 1e-2, "loss": "dice_ce"}


@pytest.mark.parametrize(("losses", "learned"), [("dice,dice_ce", "regions"), ("dice_ce,weighted_ce", "labels")])
def test_all_trials_learn_regions_or_all_learn_classes(tmp_path: Path, losses: str, learned: str) -> None:
    """Their means, which are compared, are of regions or of classes."""
    config = tiny(path=str(write_tumours(tmp_path / "tumours")))
    sweep = make_sweep(tmp_path, config, [f"loss={losses}"], trials=2)
    members = [member.config(sweep.config) for member in (Member("", {"loss": loss}) for loss in losses.split(","))]
    assert {member.data.targets for member in members} == {learned}
    with pytest.raises(ConfigError, match="expected labels for weighted_ce"):
        make_sweep(tmp_path, config.with_values({"targets": "regions"}), ["loss=dice,weighted_ce"], trials=2)


def test_trials_that_train_at_once_have_different_values(tmp_path: Path, sweep: Group) -> None:
    for _ in range(4):
        next_trial(tmp_path, sweep, at_once=3)
    members = read_group(tmp_path, sweep.id).members
    assert len(members) == 3 == len({json.dumps(member.values) for member in members})
    assert {run.config.run.seed for run in sweep_summary(tmp_path, sweep).runs} == {0}


@pytest.mark.slow
def test_sweep_ends_with_its_last_trial_and_names_the_best(tmp_path: Path, sweep: Group) -> None:
    summary = finish_trials(tmp_path, sweep, 6)
    assert not advance(tmp_path, sweep.id, 1)
    assert (summary.state, summary.finished, summary.proposes, summary.progress) == ("finished", 6, False, 1.0)
    best = max(summary.trials, key=lambda trial: trial.dice or 0)
    assert summary.best == best and summary.mean_dice == best.dice and summary.measured == "best of 6"
    assert summary.ranked[0] == best and sorted(summary.ranked, key=lambda trial: -(trial.dice or 0)) == summary.ranked
    assert summary.measure == f"mean Dice on {summary.objective}, fold 0, seed 0, 6 epochs each"
    for spec in (dimension.spec for dimension in summary.settings.space):  # tversky_alpha is used with one loss alone
        assert [trial.value(spec) for trial in summary.trials] == [
            t.member.values.get(spec.name) for t in summary.trials
        ]
    assert sweeps.best_config(summary) == runs.get_run(tmp_path, best.member.run).config
    importance = sweeps.read_importance(tmp_path, sweep)
    assert importance.finished == 6 and sum(importance.shares.values()) == pytest.approx(1, abs=1e-3)
    assert json.dumps(summary.to_json(), allow_nan=False)


@pytest.mark.parametrize("torn", [False, True])
def test_trial_whose_making_was_killed_is_made_once(
    tmp_path: Path, sweep: Group, torn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the trial was noted, before its run was made, or when it was made but not noted."""
    create = launch.create_run

    def killed(*arguments: object, **options: object) -> Path:
        if torn:
            create(*arguments, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("core.runs.launch.create_run", killed)
        with pytest.raises(KeyboardInterrupt):
            advance(tmp_path, sweep.id, 1)
    assert trial_states(tmp_path, sweep) == ["waiting"]
    assert advance(tmp_path, sweep.id, 1)
    (run,) = read_group(tmp_path, sweep.id).runs
    assert runs.queued_runs(tmp_path) == [run]
    shutil.rmtree(tmp_path / run)  # a run that is deleted is not made again
    advance(tmp_path, sweep.id, 1)
    assert trial_states(tmp_path, sweep) == ["deleted", "waiting"]


@pytest.mark.slow
def test_another_process_goes_on_from_the_folders(tmp_path: Path, config: TrainConfig) -> None:
    """The same results give the same next values, whoever asks."""
    first, second = (make_sweep(tmp_path / name, config) for name in ("a", "b"))
    for root, group in ((tmp_path / "a", first), (tmp_path / "b", second)):
        finish_trials(root, group, 4)
    values = [
        [member.values for member in read_group(tmp_path / n, g.id).members] for n, g in (("a", first), ("b", second))
    ]
    assert values[0] == values[1]


def test_every_end_of_a_trial_is_distinguished(tmp_path: Path, config: TrainConfig) -> None:
    sweep = make_sweep(tmp_path, config, trials=8)
    whole = "held-out whole volumes"
    ends = {
        "finished": (0.5, "finished", whole),
        "stopped": (0.5, "stopped", whole),
        "out of memory": (0.5, "failed", whole),
        "killed": (None, "crashed", whole),
        "too short": (0.5, "finished", SUB_VOLUMES_MEASURED),
        "nothing measured": (None, "finished", whole),
        "pruned": (0.5, "stopped", whole),
        "pruned, then killed": (0.5, "crashed", whole),
    }
    made = [next_trial(tmp_path, sweep, at_once=len(ends)) for _ in ends]
    for run, (message, (dice, state, on)) in zip(made, ends.items(), strict=True):
        end_trial(tmp_path, run, dice, state, on, message=message)  # type: ignore[arg-type]
        if message.startswith("pruned"):
            (tmp_path / run / PRUNED).write_text("pruned at epoch 3: 0.1 below")
    trials = sweep_summary(tmp_path, sweep).trials
    assert [trial.state for trial in trials] == ["finished", "stopped", *["failed"] * 4, "pruned", "pruned"]
    assert trials[2].reason == "out of memory"
    assert "measured on held-out sub-volumes, trials are compared on held-out whole volumes" in trials[4].reason
    assert "it has no Dice" in trials[5].reason and trials[6].reason == "pruned at epoch 3: 0.1 below"
    assert sweep_summary(tmp_path, sweep).best == trials[0]
    resumed = groups.resume_group(tmp_path, read_group(tmp_path, sweep.id))
    assert resumed == [made[1], made[3]]  # stopped by hand, and crashed; neither failed nor pruned


@pytest.mark.slow
def test_trial_that_falls_behind_is_asked_to_end_with_the_reason(tmp_path: Path, config: TrainConfig) -> None:
    sweep = make_sweep(tmp_path, config, trials=9)
    finish_trials(tmp_path, sweep, 4)
    good = next_trial(tmp_path, sweep, at_once=2)
    bad = next_trial(tmp_path, sweep, at_once=2)
    run_trial(tmp_path, good, os.getpid(), (0.5, 0.6))
    run_trial(tmp_path, bad, os.getpid(), (0.1, 0.2))
    advance(tmp_path, sweep.id, 2)
    assert not (tmp_path / good / STOP).exists() and (tmp_path / bad / STOP).exists()
    reason = read_pruned(tmp_path / bad)
    assert (
        reason.startswith("pruned at epoch 2: 0.200 below the median 0.") and "of 4 finished trials at 30 %" in reason
    )
    end_trial(tmp_path, bad, 0.2, "stopped")
    assert trial_states(tmp_path, sweep)[5] == "pruned"
    groups.resume_group(tmp_path, read_group(tmp_path, sweep.id))
    assert read_state(tmp_path / bad).state == "stopped"  # a pruned trial is not resumed


def test_sweep_ends_when_three_trials_in_a_row_fail(tmp_path: Path, sweep: Group) -> None:
    for _ in range(3):
        end_trial(tmp_path, next_trial(tmp_path, sweep), None, "failed", message="the data set is gone")
    assert not advance(tmp_path, sweep.id, 1)
    summary = sweep_summary(tmp_path, sweep)
    assert (summary.state, len(summary.trials)) == ("failed", 3)
    assert summary.settings.problem == "3 trials in a row failed, the last: the data set is gone"
    groups.resume_group(tmp_path, summary.group)
    assert next_trial(tmp_path, sweep) and len(sweep_summary(tmp_path, sweep).trials) == 4


def test_error_of_the_search_ends_the_sweep_and_is_reported(
    tmp_path: Path, sweep: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = next_trial(tmp_path, sweep)
    run_trial(tmp_path, run, os.getpid(), (0.5, 0.6))
    monkeypatch.setattr("core.sweeps.study.prune_reason", lambda *_: 1 / 0)
    assert advance(tmp_path, sweep.id, 1)  # its trial goes on
    assert sweep_summary(tmp_path, sweep).settings.problem == "ZeroDivisionError: division by zero"
    assert not sweep_summary(tmp_path, sweep).proposes


def test_sweep_whose_next_run_cannot_be_made_ends_with_the_reason_and_goes_on_when_resumed(
    tmp_path: Path, sweep: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_trial(tmp_path, next_trial(tmp_path, sweep), 0.5)

    def full(*_: object, **__: object) -> Path:
        raise RunError("cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("core.runs.launch.create_run", full)
        assert not advance(tmp_path, sweep.id, 1)
        assert not advance(tmp_path, sweep.id, 1), "the queue does not try for ever"
    summary = sweep_summary(tmp_path, sweep)
    assert summary.state == "failed" and "No space left" in summary.settings.problem
    assert trial_states(tmp_path, sweep) == ["finished", "stopped"] and summary.proposes_if_reopened
    with pytest.raises(RunError, match="all have ended"):
        groups.stop_group(tmp_path, sweep)
    groups.resume_group(tmp_path, summary.group)
    assert advance(tmp_path, sweep.id, 1)
    assert trial_states(tmp_path, sweep) == ["finished", "waiting"]
    assert sweep_summary(tmp_path, sweep).settings.problem == ""


def test_deleted_trials_are_not_queued_again(tmp_path: Path, sweep: Group) -> None:
    runs.delete(tmp_path, next_trial(tmp_path, sweep))
    with pytest.raises(RunError, match="got a sweep; propose further trials: runs extend"):
        groups.complete(tmp_path, read_group(tmp_path, sweep.id))


def test_importance_that_cannot_be_worked_out_does_not_end_a_sweep(
    tmp_path: Path, sweep: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_trial(tmp_path, next_trial(tmp_path, sweep), 0.5)
    monkeypatch.setattr("core.sweeps.study.importances", lambda *_: 1 / 0)
    assert next_trial(tmp_path, sweep) and sweep_summary(tmp_path, sweep).settings.problem == ""


def test_stop_ends_trials_and_proposals_and_resume_takes_both_up(tmp_path: Path, sweep: Group) -> None:
    run = next_trial(tmp_path, sweep)
    assert groups.stop_group(tmp_path, sweep) == [run]
    assert (sweep_summary(tmp_path, sweep).state, trial_states(tmp_path, sweep)) == ("stopped", ["stopped"])
    assert not advance(tmp_path, sweep.id, 1)
    assert groups.resume_group(tmp_path, read_group(tmp_path, sweep.id)) == [run]
    assert runs.queued_runs(tmp_path) == [run] and sweep_summary(tmp_path, sweep).proposes
    assert groups.end_proposals(tmp_path, sweep) and runs.queued_runs(tmp_path) == [run]
    end_trial(tmp_path, run, 0.5)
    with pytest.raises(RunError, match="all have ended"):
        groups.stop_group(tmp_path, sweep)


def test_ended_sweep_is_extended(tmp_path: Path, sweep: Group) -> None:
    finish_trials(tmp_path, sweep, 6)
    assert not sweep_summary(tmp_path, sweep).proposes
    summary = sweeps.extend(tmp_path, read_group(tmp_path, sweep.id), 2)
    assert (
        summary.total == 8
        and summary.proposes
        and next_trial(tmp_path, sweep) == read_group(tmp_path, sweep.id).runs[6]
    )
    with pytest.raises(ConfigError, match="trials: expected 1 or more"):
        sweeps.extend(tmp_path, sweep, 0)


def test_sweep_ends_early_when_every_combination_was_tried(tmp_path: Path, config: TrainConfig) -> None:
    sweep = make_sweep(tmp_path, config, ["loss=dice,dice_ce", "mirror=true,false"], trials=20)
    finish_trials(tmp_path, sweep, 4)
    assert not advance(tmp_path, sweep.id, 1)
    summary = sweep_summary(tmp_path, sweep)
    assert (summary.state, summary.total, summary.settings.exhausted) == ("finished", 4, True)
    with pytest.raises(RunError, match="all of its combinations"):
        sweeps.extend(tmp_path, sweep, 2)


def test_deleted_sweep_is_gone_and_is_not_advanced(tmp_path: Path, sweep: Group) -> None:
    next_trial(tmp_path, sweep)
    groups.delete_group(tmp_path, sweep)
    assert not advance(tmp_path, sweep.id, 1)
    assert read_groups(tmp_path) == [] and runs.list_runs(tmp_path) == []
    assert list((tmp_path / "groups").iterdir()) == []


def test_sweep_stands_for_its_best_trial_as_a_model(tmp_path: Path, sweep: Group) -> None:
    with pytest.raises(RunError):
        find_models(tmp_path, "search")
    summary = finish_trials(tmp_path, sweep, 3)
    assert summary.best is not None
    best = tmp_path / summary.best.member.run / files.BEST
    best.write_bytes(b"weights")
    assert find_models(tmp_path, "search") == (best,)


@pytest.mark.parametrize(
    ("values", "search", "message"),
    [
        ({"path": "gone"}, ["learning_rate=1e-3:1e-1"], "gone"),
        ({"fold": -1}, ["learning_rate=1e-3:1e-1"], "held out"),
        ({}, ["model=unet3d,no/such.py:Net"], "search: model"),
    ],
)
def test_sweep_that_cannot_be_started_leaves_nothing_behind(
    tmp_path: Path, config: TrainConfig, values: dict[str, object], search: list[str], message: str
) -> None:
    with pytest.raises((ConfigError, DatasetError), match=message):
        make_sweep(tmp_path / "runs", config.with_values(values), search)
    assert not (tmp_path / "runs").exists()


def test_sweep_of_a_newer_version_is_left_alone(tmp_path: Path, sweep: Group) -> None:
    path = tmp_path / "groups" / sweep.id / "group.json"
    data = json.loads(path.read_text())
    assert data["version"] == 2  # earlier versions do not take it for folds
    path.write_text(json.dumps({**data, "settings": {**data["settings"], "search": [{"field": "no_such_field"}]}}))
    summary = sweep_summary(tmp_path, sweep)
    assert summary.state == "failed" and "cannot be read" in summary.settings.problem
    assert not advance(tmp_path, sweep.id, 1)


def test_driver_advances_open_sweeps_and_leaves_ended_ones_alone(
    tmp_path: Path, sweep: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.runs.processes.sweep_driver.EVERY_S", 0.0)
    driver = SweepDriver(tmp_path, lambda: 0)
    assert driver.poll(()) and len(runs.queued_runs(tmp_path)) == 1
    groups.stop_group(tmp_path, sweep)
    assert not driver.poll(())
    monkeypatch.setattr("core.runs.processes.sweep_driver.advance", lambda *_: pytest.fail("it has ended"))
    assert not driver.poll(())


def test_as_many_trials_train_at_once_as_there_are_devices_for() -> None:
    config = TrainConfig()
    assert [trials_at_once(config, gpus) for gpus in (0, 1, 4)] == [1, 1, 4]
    assert trials_at_once(config.with_values({"devices": 2}), 5) == 2
    assert trials_at_once(config.with_values({"device": "cpu"}), 4) == 1


def test_queue_is_served_for_a_sweep_without_runs(
    tmp_path: Path, sweep: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []
    monkeypatch.setattr("core.runs.engines.local.ensure_supervisor", lambda root, worker: started.append(root))
    runs.serve_queue(tmp_path)
    assert started == [tmp_path]
    groups.end_proposals(tmp_path, sweep)
    runs.serve_queue(tmp_path)
    assert started == [tmp_path]


def test_groups_of_folds_are_written_as_before(tmp_path: Path, config: TrainConfig) -> None:
    group = groups.submit_folds(tmp_path, config)
    data = json.loads((tmp_path / "groups" / group.id / "group.json").read_text())
    assert data["version"] == 1 and "settings" not in data
    assert replace(group, kind=SWEEP).to_json()["version"] == 2


ELSEWHERE = Origin("other-host", "other-boot:1", ("other-mark",))


def moved_elsewhere(root: Path, group: Group) -> None:
    """Make a sweep one that was started on another host, which mounts the same root."""
    change_group(root, group.id, lambda now: replace(now, origin=ELSEWHERE))


@pytest.mark.fault(
    75, "two hosts serve a root: a sweep is taken further by that on which it was started, and by no other"
)
def test_sweep_of_another_host_is_left_to_it_and_taken_over_by_a_person_only(
    tmp_path: Path, config: TrainConfig, no_supervisor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = make_sweep(tmp_path, config, trials=8, pruner="median")
    finish_trials(tmp_path, group, 5)
    run = next_trial(tmp_path, group)
    run_trial(tmp_path, run, os.getpid(), [0.001] * 4)  # worse than all others: it would be pruned
    moved_elsewhere(tmp_path, group)
    started: list[Path] = []
    monkeypatch.setattr("core.runs.launch.ensure_supervisor", lambda root, worker="": started.append(root))
    runs.serve_queue(tmp_path)  # as every page does
    assert not SweepDriver(tmp_path, lambda: 8).poll(()) and not started
    assert not advance(tmp_path, group.id, 8)
    assert read_group(tmp_path, group.id).runs[-1] == run and not stop_requested(tmp_path / run)
    extend(tmp_path, read_group(tmp_path, group.id), 2)
    assert read_group(tmp_path, group.id).origin == Origin.here() and started == [tmp_path]
    assert advance(tmp_path, group.id, 1) and stop_requested(tmp_path / run)


def test_sweep_of_an_earlier_version_is_advanced_and_resuming_takes_it_over(
    tmp_path: Path, config: TrainConfig, no_supervisor: None
) -> None:
    group = make_sweep(tmp_path, config, trials=2)
    file = tmp_path / GROUPS / group.id / GROUP
    content = json.loads(file.read_text())
    assert content.pop("origin")["host"] == host_name()
    file.write_text(json.dumps(content))
    assert advance(tmp_path, group.id, 1) and len(read_group(tmp_path, group.id).runs) == 1
    moved_elsewhere(tmp_path, group)
    assert not advance(tmp_path, group.id, 2)
    groups.resume_group(tmp_path, read_group(tmp_path, group.id))
    assert advance(tmp_path, group.id, 2) and len(read_group(tmp_path, group.id).runs) == 2
