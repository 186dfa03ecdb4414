"""Sweeps on the command line: started, shown, stopped, resumed, extended; errors that name the field."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core import cli, runs
from core.runs.store.groups import SWEEP, read_groups
from core.sweeps.settings import SweepOptions
from tests.support.balls import tiny
from tests.support.sweeps import end_trial, finish_trials, make_sweep, next_trial, run_trial

pytestmark = pytest.mark.usefixtures("no_supervisor")


def test_sweep_prints_its_id_and_stores_its_options(
    checkpoints: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    search = ["--search", "learning-rate=1e-3:1e-1:log", "--search", "loss=dice,dice_ce"]
    options = ["--trials", "7", "--sampler", "random", "--pruner", "asha", "--sampler-seed", "3"]
    assert cli.main(["sweep", data, "--preset", "fast", "--epochs", "5", "--name", "net", *search, *options]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    (group,) = read_groups(checkpoints)
    assert (group.id, group.name, group.kind) == (line, "net", SWEEP)
    assert group.config.run.epochs == 5 and not group.config.run.minutes
    kept = SweepOptions(**{name: group.settings[name] for name in ("trials", "sampler", "pruner", "sampler_seed")})
    assert kept == SweepOptions(7, "random", "asha", 3)
    assert [part["field"] for part in group.settings["search"]] == ["learning_rate", "loss"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "search: expected one or more --search FIELD=VALUES"),
        (["--search", "lr=1:2"], "expected a field of the configuration, got 'lr'"),
        (["--search", "loss=dice,dise"], "loss: expected one of dice, "),
        (["--search", "loss=dice,ce", "--trials", "0"], "trials: expected a number from 1 to 10000"),
        (["--search", "loss=dice,ce", "--pruner", "best"], "pruner: expected one of median, asha, none; got 'best'"),
    ],
)
def test_error_of_a_search_is_one_line_that_names_the_field(
    checkpoints: Path, data: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sweep", data, *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and read_groups(checkpoints) == []


def test_sweep_is_shown_with_trials_best_and_commands(
    checkpoints: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    group = make_sweep(checkpoints, tiny(path=data), trials=5)
    summary = finish_trials(checkpoints, group, 4)
    assert summary.best is not None
    assert cli.main(["runs", "group", "search"]) == 0
    shown = capsys.readouterr().out
    assert f"queued, 4 of 5 trials ended, best {summary.best.dice:.3f} (trial {summary.best.number})" in shown
    assert "compared: mean Dice on held-out whole volumes, fold 0, seed 0, 6 epochs each" in shown
    assert "search: learning_rate=0.0001:0.1:log" in shown and "--fold all" in shown
    assert cli.main(["runs", "group", "search", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["best"]["run"] == summary.best.member.run and len(report["trial_list"]) == 4
    assert (report["kind"], report["trials"], report["objective"]) == (SWEEP, 5, "mean Dice on held-out whole volumes")
    assert set(report["importance"]) <= {"learning_rate", "loss", "tversky_alpha"}


def test_sweep_is_not_resumed_while_a_trial_is_stopping(
    checkpoints: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trial would end stopped, and the sweep go on without it."""
    group = make_sweep(checkpoints, tiny(path=data), trials=2)
    run = next_trial(checkpoints, group)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as trainer:
        run_trial(checkpoints, run, trainer.pid)
        assert cli.main(["runs", "stop", "search"]) == 0
        capsys.readouterr()
        assert cli.main(["runs", "resume", "search"]) == 1
        assert f"{run}: still stopping; resume {group.id} when it has ended" in capsys.readouterr().err
        trainer.kill()
    end_trial(checkpoints, run, None, state="stopped")
    assert cli.main(["runs", "resume", "search"]) == 0 and runs.queued_runs(checkpoints) == [run]


def test_group_that_does_not_exist_is_refused_with_those_that_do(
    checkpoints: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    group = make_sweep(checkpoints, tiny(path=data), trials=2)
    assert cli.main(["runs", "group", "nobody"]) == 1
    assert f"groups: {group.id}" in capsys.readouterr().err


def test_sweep_is_stopped_resumed_extended_and_deleted(
    checkpoints: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    group = make_sweep(checkpoints, tiny(path=data), trials=5)
    run = next_trial(checkpoints, group)
    assert cli.main(["runs", "stop", "search", "--no-more-trials"]) == 0
    assert runs.queued_runs(checkpoints) == [run]
    assert cli.main(["runs", "stop", "search"]) == 0 and runs.queued_runs(checkpoints) == []
    assert cli.main(["runs", "resume", "search"]) == 0 and runs.queued_runs(checkpoints) == [run]
    capsys.readouterr()
    assert cli.main(["runs", "extend", "search", "--trials", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"] == 8
    assert cli.main(["runs", "extend", run]) == 1 and "expected a sweep" in capsys.readouterr().err
    assert cli.main(["runs", "stop", run, "--no-more-trials"]) == 1
    assert cli.main(["runs", "delete", "search", "--yes"]) == 0
    assert runs.list_runs(checkpoints) == [] and read_groups(checkpoints) == []
