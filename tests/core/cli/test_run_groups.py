"""Groups on the command line: all folds are queued, shown, stopped, resumed and deleted by one id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core import cli, runs
from core.cli.run_groups import _lines
from core.evaluation.metrics import SubjectScore
from core.runs import groups
from core.runs.group_scores import CrossValidation, HeldOutSubject
from core.runs.launch import create_run
from core.runs.store.groups import read_groups
from tests.support.balls import tiny

pytestmark = pytest.mark.usefixtures("no_supervisor")


@pytest.fixture
def group(checkpoints: Path, data: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Id of a group of three folds, as `submit` prints it."""
    assert cli.main(["submit", data, "--preset", "quick", "--folds", "3", "--fold", "all", "--name", "net"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert [g.id for g in read_groups(checkpoints)] == [line]
    return line


def members(root: Path) -> list[runs.RunSummary]:
    return sorted(runs.list_runs(root), key=lambda run: run.config.split.fold)


def test_group_is_shown_with_its_runs_and_commands(
    checkpoints: Path, group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [run.name for run in members(checkpoints)] == ["net fold 0", "net fold 1", "net fold 2"]
    assert cli.main(["runs", "group", "net"]) == 0
    shown = capsys.readouterr().out
    assert "queued, 0 of 3 runs finished" in shown
    assert all(f"{run.id}: no checkpoint yet, it is queued" in shown for run in members(checkpoints))
    assert "--preset quick --folds 0 --fold none" in shown
    assert cli.main(["runs", "group", group[:-1], "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["id"], report["kind"], report["state"]) == (group, "folds", "queued")
    assert [member["values"] for member in report["members"]] == [{"fold": 0}, {"fold": 1}, {"fold": 2}]
    assert cli.main(["runs", "group"]) == 0
    assert capsys.readouterr().out.split() == [group, "net", *["queued,", "0", "of", "3", "runs", "finished"]]
    assert report["scores"]["subjects"] == [] and len(report["scores"]["waiting"]) == 3


def test_all_runs_are_stopped_resumed_renamed_and_deleted_by_the_name_of_the_group(
    checkpoints: Path, group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["runs", "stop", "net"]) == 0
    assert capsys.readouterr().out == f"{group}: stopped, 0 of 3 runs finished\n"
    assert cli.main(["runs", "stop", "net"]) == 1
    assert cli.main(["runs", "resume", group]) == 0
    assert len(runs.queued_runs(checkpoints)) == 3
    assert cli.main(["runs", "stop", "net fold 1"]) == 0  # one run of it
    assert len(runs.queued_runs(checkpoints)) == 2
    assert cli.main(["runs", "rename", group, "--name", "other"]) == 0
    assert cli.main(["runs", "delete", "net fold 1", "--yes"]) == 0
    assert cli.main(["runs", "group", "other", "--complete"]) == 0
    assert len(runs.queued_runs(checkpoints)) == 3
    assert cli.main(["runs", "delete", "other", "--yes"]) == 0
    assert runs.list_runs(checkpoints) == [] and read_groups(checkpoints) == []


def test_runs_become_a_group_that_can_go_without_them(
    checkpoints: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [create_run(checkpoints, tiny(path=data, fold=fold)).name for fold in (0, 1)]
    assert cli.main(["runs", "make-group", *made, "--name", "pair", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["name"], [member["run"] for member in report["members"]]) == ("pair", made)
    assert cli.main(["runs", "delete", "pair", "--keep-runs", "--yes"]) == 0
    assert read_groups(checkpoints) == [] and len(runs.list_runs(checkpoints)) == 2
    assert cli.main(["runs", "delete", made[0], "--keep-runs", "--yes"]) == 1
    assert "expected a group with --keep-runs" in capsys.readouterr().err


def test_train_in_a_terminal_refuses_all_folds(
    checkpoints: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", data, "--fold", "all"]) == 1
    assert "expected one fold to train in a terminal, got all; queue all" in capsys.readouterr().err
    assert runs.list_runs(checkpoints) == []
    assert cli.main(["runs", "group", create_run(checkpoints, tiny(path=data)).name]) == 1
    assert "is a run; groups: none" in capsys.readouterr().err
    assert cli.main(["runs", "group"]) == 0
    assert "no groups in" in capsys.readouterr().out


def test_refit_is_submitted_with_the_word_none(
    checkpoints: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["submit", data, "--folds", "0", "--fold", "none"]) == 0
    (run,) = runs.list_runs(checkpoints)
    assert run.config.split.holds_out_nothing
    assert cli.main(["runs", "show", run.id]) == 0
    assert "--folds 0 --fold none" in capsys.readouterr().out


def test_tables_hold_mean_both_spreads_and_the_command_for_what_is_missing(checkpoints: Path, group: str) -> None:
    def score(dice: float) -> SubjectScore:
        return SubjectScore({"bright": dice}, {"bright": 1.5}, {"bright": 0.5}, ("bright",) * (dice == 0.5), {})

    summary = groups.summarise(checkpoints, read_groups(checkpoints)[0])
    first, second, _ = summary.group.runs
    subjects = (
        HeldOutSubject("ball_0", first, score(0.9)),
        HeldOutSubject("ball_1", first, score(0.8)),
        HeldOutSubject("ball_2", second, score(0.5)),
        HeldOutSubject("ball_3", second, None, "not segmented yet"),
    )
    lines = _lines(summary, CrossValidation(("bright",), subjects, {}))
    (row,) = [line for line in lines if line.startswith("bright")]
    assert row.split() == ["bright", "0.733", "0.208", "0.247", "1.50", "0.00", "0.50", "3", "1"]
    assert any(
        "n = 3, 2 folds; without postprocessing; SD: sample standard deviation over subjects" in line for line in lines
    )
    (missing,) = [line for line in lines if "without a score" in line]
    assert missing.startswith(f"1 subject of {second}") and f"evaluate {second} " in missing and "--keep" in missing
