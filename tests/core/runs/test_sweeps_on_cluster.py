"""Sweeps whose trials train on a cluster: job arrays, submissions that were interrupted, refusals, engines."""

from __future__ import annotations

import json
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import runs
from core.config import TrainConfig
from core.errors import ConfigError
from core.runs import engine_poller, groups, run_actions
from core.runs.engines.registry import get_engine
from core.runs.processes.sweep_driver import SweepDriver
from core.runs.store.engine_records import LOCAL, read_engine, write_engine
from core.runs.store.folder import run_folders
from core.runs.store.groups import Group, read_group, read_groups
from core.runs.store.submissions import submission
from core.runs.sweeps import advance, submit_sweep
from core.sweeps.settings import ENGINE_AT_ONCE, SweepOptions, SweepSettings
from core.sweeps.space import parse_space
from tests.support.cluster.slurm_clients import SlurmClients
from tests.support.elsewhere import CLUSTER, SETTINGS
from tests.support.sweeps import (
    SEARCH,
    end_trial,
    sweep_summary,
    trial_states,
)
from tests.support.watching import wait_until

pytestmark = pytest.mark.usefixtures("no_supervisor")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmClients:
    """Stand-ins for the clients of the cluster that the root declares; its jobs are 42, 42, ..."""
    (tmp_path / "engines.toml").write_text(SETTINGS)
    clients = SlurmClients(tmp_path / "bin", monkeypatch)
    clients.answer("sbatch", "42\n")
    return clients


def sweep_on_cluster(root: Path, config: TrainConfig, **options: Any) -> Group:
    settings = SweepSettings(parse_space(SEARCH), SweepOptions(**options), engine=CLUSTER)
    return submit_sweep(root, config, settings, "search")


def jobs(root: Path, group: Group) -> list[str]:
    records = [read_engine(root / run) for run in read_group(root, group.id).runs]
    return [record.job if record is not None else "here" for record in records]


def test_trials_on_a_cluster_are_submitted_together_as_a_job_array(
    tmp_path: Path, config: TrainConfig, cluster: SlurmClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr("core.runs.processes.sweep_driver.ensure_pollers", asked.append)
    group = sweep_on_cluster(tmp_path, config, trials=5, at_once=3)
    assert SweepDriver(tmp_path, lambda: pytest.fail("the GPUs here do not count"), "toy").poll(())
    assert asked == [tmp_path], "the engine is asked whether the jobs live"
    (call,) = cluster.calls("sbatch")
    assert "--array=0-2" in call and jobs(tmp_path, group) == ["42_0", "42_1", "42_2"] and "toy" in cluster.script
    assert runs.queued_runs(tmp_path) == [], "this machine trains none of them"
    assert advance(tmp_path, group.id, 3) and len(cluster.calls("sbatch")) == 1
    first, *_ = read_group(tmp_path, group.id).runs
    end_trial(tmp_path, first, 0.8)
    assert advance(tmp_path, group.id, 3)
    assert "--array" not in cluster.calls("sbatch")[1], "one trial takes the place of the one that has ended"
    assert trial_states(tmp_path, group) == ["finished", "waiting", "waiting", "waiting"]
    values = [member.values for member in read_group(tmp_path, group.id).members]
    assert len({json.dumps(value, sort_keys=True) for value in values}) == 4


def test_trial_that_was_not_submitted_before_a_kill_is_submitted_later(
    tmp_path: Path, config: TrainConfig, cluster: SlurmClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = sweep_on_cluster(tmp_path, config, trials=2, at_once=2)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr("core.runs.launch.start_queued", _killed)
        advance(tmp_path, group.id, 2)
    assert jobs(tmp_path, group) == ["", ""] and not cluster.calls("sbatch")
    assert advance(tmp_path, group.id, 2) and jobs(tmp_path, group) == ["42_0", "42_1"]


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("error", ["Unable to contact slurm controller", "Socket timed out on send/recv operation"])
@pytest.mark.fault(58, "engine does not answer a submission of a sweep: its trials wait and are submitted again")
def test_engine_that_does_not_answer_delays_a_sweep_and_does_not_end_it(
    tmp_path: Path, config: TrainConfig, cluster: SlurmClients, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    group = sweep_on_cluster(tmp_path, config, trials=3, at_once=2)
    cluster.answer("sbatch", status=1, error=f"sbatch: error: Batch job submission failed: {error}")
    assert advance(tmp_path, group.id, 2) and len(cluster.calls("sbatch")) == 1
    summary = sweep_summary(tmp_path, group)
    assert not summary.settings.problem and trial_states(tmp_path, group) == ["waiting", "waiting"]
    message = summary.runs[0].state.message
    assert "submission not confirmed" in message and "it is submitted again" in message and error in message
    cluster.answer("sbatch", "42\n")
    assert advance(tmp_path, group.id, 2) and len(cluster.calls("sbatch")) == 1, "not before a moment has passed"
    monkeypatch.setattr("core.runs.sweeps.TRY_AGAIN_S", 0.0)
    run_actions.request_stop(tmp_path, summary.runs[0].id)
    assert advance(tmp_path, group.id, 2)
    stopped, *others = read_group(tmp_path, group.id).runs
    assert jobs(tmp_path, group) == ["", "42_0", "42_1"] and trial_states(tmp_path, group)[0] == "stopped"
    folders = " ".join(str(tmp_path / run) for run in others)
    assert f"folders=({folders})" in cluster.script and stopped not in cluster.script
    (again, _) = sweep_summary(tmp_path, group).runs[1:]
    assert again.engine is not None and not again.engine.problem


def test_engine_that_takes_its_time_delays_neither_the_queue_nor_a_stop(
    tmp_path: Path, config: TrainConfig, cluster: SlurmClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.runs.processes.sweep_driver.ANSWER_S", 0.01)
    monkeypatch.setattr("core.runs.processes.sweep_driver.EVERY_S", 0.0)
    monkeypatch.setattr("core.runs.processes.sweep_driver.ensure_pollers", lambda root: None)
    group, go_on = sweep_on_cluster(tmp_path, config, trials=4, at_once=2), tmp_path / "go-on"
    (cluster.folder / "sbatch").write_text(f"#!/bin/bash\nuntil [ -e {go_on} ]; do sleep 0.02; done\necho 42\n")
    driver = SweepDriver(tmp_path, lambda: 0, "toy")
    assert driver.poll(())
    wait_until(lambda: any((record := read_engine(folder)) and record.name for folder in run_folders(tmp_path)))
    assert driver.poll(()) and jobs(tmp_path, group) == ["", ""]
    groups.stop_group(tmp_path, group)
    assert trial_states(tmp_path, group) == ["stopped", "stopped"]
    go_on.touch()
    wait_until(lambda: not driver.poll(()))
    assert len(read_group(tmp_path, group.id).runs) == 2


def test_submission_that_was_taken_without_an_answer_is_found(
    tmp_path: Path, config: TrainConfig, cluster: SlurmClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = sweep_on_cluster(tmp_path, config, trials=2, at_once=2)
    cluster.answer("sbatch", status=1, error="sbatch: error: Socket timed out on send/recv operation")
    assert advance(tmp_path, group.id, 2)
    cluster.answer("squeue", "41\n")
    monkeypatch.setattr("core.runs.sweeps.TRY_AGAIN_S", 0.0)
    assert advance(tmp_path, group.id, 2)
    assert jobs(tmp_path, group) == ["41_0", "41_1"] and len(cluster.calls("sbatch")) == 1


def test_trials_that_another_process_submits_are_left_to_it(
    tmp_path: Path, config: TrainConfig, cluster: SlurmClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = sweep_on_cluster(tmp_path, config, trials=1, at_once=1)
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr("core.runs.launch.start_queued", _killed)
        advance(tmp_path, group.id, 1)
    (run,) = read_group(tmp_path, group.id).runs
    record = read_engine(tmp_path / run)
    assert record is not None
    with submission(tmp_path) as lease:  # as `runs resume` of that run does, in a cluster that takes its time
        write_engine(tmp_path / run, replace(record, lease=lease))
        thread = threading.Thread(target=advance, args=(tmp_path, group.id, 1))
        thread.start()
        thread.join()
        assert not cluster.calls("sbatch")
    assert advance(tmp_path, group.id, 1) and jobs(tmp_path, group) == ["42"]


def test_cluster_that_refuses_ends_the_sweep_with_its_reason_and_it_is_resumed(
    tmp_path: Path, config: TrainConfig, cluster: SlurmClients
) -> None:
    group = sweep_on_cluster(tmp_path, config, trials=4, at_once=2)
    cluster.answer("sbatch", status=1, error="sbatch: error: Invalid account or account/partition combination")
    assert not advance(tmp_path, group.id, 2)
    summary = sweep_summary(tmp_path, group)
    assert CLUSTER in summary.settings.problem and "account" in summary.settings.problem
    assert trial_states(tmp_path, group) == ["failed", "failed"]
    cluster.answer("sbatch", "42\n")
    refused = read_group(tmp_path, group.id).runs
    assert groups.resume_group(tmp_path, read_group(tmp_path, group.id)) == [*refused], "their values were not tried"
    assert advance(tmp_path, group.id, 2) and jobs(tmp_path, group) == ["42", "42"]
    assert (
        trial_states(tmp_path, group) == ["waiting", "waiting"] and not sweep_summary(tmp_path, group).settings.problem
    )


@pytest.mark.fault(49, "queue killed while no submission of a sweep was answered: goes on, none is lost or doubled")
@pytest.mark.parametrize("noted", [True, False], ids=["answered with an error", "killed while it waited"])
@pytest.mark.parametrize("taken", [True, False], ids=["taken", "not taken"])
def test_sweep_goes_on_whose_queue_died_while_no_submission_was_answered(
    tmp_path: Path,
    config: TrainConfig,
    cluster: SlurmClients,
    monkeypatch: pytest.MonkeyPatch,
    noted: bool,
    taken: bool,
) -> None:
    group = sweep_on_cluster(tmp_path, config, trials=2, at_once=2)
    cluster.answer("sbatch", status=1, error="sbatch: error: Socket timed out on send/recv operation")
    with monkeypatch.context() as killed:
        if not noted:
            killed.setattr("core.runs.hand_over._note_problem", _killed)
        with nullcontext() if noted else pytest.raises(KeyboardInterrupt):
            advance(tmp_path, group.id, 2)
    assert jobs(tmp_path, group) == ["", ""] and trial_states(tmp_path, group) == ["waiting", "waiting"]
    for module in ("submissions.TRIED_AGAIN_S", "heartbeat.OLD_S"):  # nobody has gone on for a long time
        monkeypatch.setattr(f"core.runs.store.{module}", 0.0)
    monkeypatch.setattr("core.runs.sweeps.TRY_AGAIN_S", 0.0)
    engine_poller.ask(tmp_path, get_engine(tmp_path, CLUSTER))
    assert trial_states(tmp_path, group) == ["waiting", "waiting"], "the sweep submits them, they have not failed"
    started: list[Path] = []
    monkeypatch.setattr("core.runs.launch.ensure_supervisor", lambda root, worker="": started.append(root))
    runs.serve_queue(tmp_path)  # as every page does
    groups.resume_group(tmp_path, read_group(tmp_path, group.id))
    assert started == [tmp_path, tmp_path]
    cluster.answer("sbatch", "42\n")
    cluster.answer("squeue", "41\n" if taken else "")
    assert advance(tmp_path, group.id, 2)
    assert jobs(tmp_path, group) == (["41_0", "41_1"] if taken else ["42_0", "42_1"])
    assert len(cluster.calls("sbatch")) == (1 if taken else 2) and len(read_group(tmp_path, group.id).runs) == 2


def test_sweep_whose_trials_were_all_refused_goes_on_with_their_values(
    tmp_path: Path, config: TrainConfig, cluster: SlurmClients
) -> None:
    group = sweep_on_cluster(tmp_path, config, trials=2, at_once=2)
    cluster.answer("sbatch", status=1, error="sbatch: error: Invalid account or account/partition combination")
    assert not advance(tmp_path, group.id, 2) and trial_states(tmp_path, group) == ["failed", "failed"]
    cluster.answer("sbatch", "42\n")
    groups.resume_group(tmp_path, read_group(tmp_path, group.id))
    assert trial_states(tmp_path, group) == ["waiting", "waiting"]
    for run in read_group(tmp_path, group.id).runs:
        end_trial(tmp_path, run, 0.8)
    assert sweep_summary(tmp_path, group).state == "finished", "the refusal is over"


def test_unconfirmed_trials_move_to_another_engine(tmp_path: Path, config: TrainConfig, cluster: SlurmClients) -> None:
    group = sweep_on_cluster(tmp_path, config, trials=2, at_once=2)
    cluster.answer("sbatch", status=1, error="sbatch: error: Socket timed out on send/recv operation")
    advance(tmp_path, group.id, 2)
    groups.resume_group(tmp_path, read_group(tmp_path, group.id), engine=LOCAL)
    assert jobs(tmp_path, group) == ["here", "here"]
    assert set(runs.queued_runs(tmp_path)) == {*read_group(tmp_path, group.id).runs}


def test_sweep_names_an_engine_that_there_is(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match=f"expected one of local, .* got '{CLUSTER}'"):
        sweep_on_cluster(tmp_path, config, trials=4)
    assert read_groups(tmp_path) == []


@pytest.mark.parametrize(
    ("engine", "at_once", "devices", "expected"),
    [("", 0, 4, 4), ("", 2, 4, 2), ("", 8, 4, 4), (CLUSTER, 0, 1, ENGINE_AT_ONCE), (CLUSTER, 9, 1, 9)],
)
def test_trials_at_once_are_bounded_by_the_devices_here_and_by_the_user_elsewhere(
    engine: str, at_once: int, devices: int, expected: int
) -> None:
    settings = SweepSettings(parse_space(SEARCH), SweepOptions(at_once=at_once), engine=engine)
    assert settings.at_once(devices) == expected
    assert SweepSettings.from_json(settings.to_json()) == settings
