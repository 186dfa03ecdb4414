"""Sweeps without a browser: the search on Train, and the page of a sweep in each state."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import runs
from core.runs.store.groups import Group, read_group, read_groups
from core.runs.sweeps import sweep_of
from tests.support.app_pages import button_labels, click, component_data, open_page, run_page, texts
from tests.support.balls import tiny, write_balls
from tests.support.sweeps import end_trial, finish_trials, make_sweep, next_trial

pytestmark = [pytest.mark.usefixtures("empty_app", "known_cost"), pytest.mark.slow]


@pytest.fixture
def sweep(checkpoints: Path, empty_app: Path) -> Group:
    return make_sweep(checkpoints, tiny(path=str(write_balls(empty_app / "balls"))), trials=6)


def test_sweep_without_trials_says_what_it_does(sweep: Group) -> None:
    app = open_page("runs", group=sweep.id)
    (row,) = component_data(app, "rows")["rows"]
    assert (row["id"], row["tags"], row["state"], row["epoch"]) == (sweep.id, ["6 trials"], "queued", "0/6 runs")
    assert "Choosing the values of the next trial" in texts(app) and "0 of 6 trials ended" in texts(app)
    assert "mean Dice on held-out whole volumes, fold 0, seed 0, 6 epochs each" in texts(app)


def test_finished_sweep_shows_best_figures_and_trials(checkpoints: Path, sweep: Group) -> None:
    summary = finish_trials(checkpoints, sweep, 6)
    assert summary.best is not None
    app = open_page("runs", group=sweep.id)
    assert f"{summary.best.dice:.3f}" in [metric.value for metric in app.metric]
    assert len(app.get("plotly_chart")) == 3
    frame = app.dataframe[0].value
    assert list(frame["Dice"]) == sorted(frame["Dice"], reverse=True) and len(frame) == 6
    assert {"Learning rate", "Loss", "Weight of false positives"} <= set(frame.columns)
    app = click(app, "Open its run")
    assert [header.value for header in app.header] == [f"search trial {summary.best.number}"]


def test_failed_sweep_says_why_and_is_resumed(checkpoints: Path, sweep: Group) -> None:
    for _ in range(3):
        end_trial(checkpoints, next_trial(checkpoints, sweep), None, "failed", message="the data set is gone")
    next_trial(checkpoints, sweep)
    app = open_page("runs", group=sweep.id)
    assert "3 trials in a row failed" in app.error[0].value and "the data set is gone" in app.error[0].value
    assert "No trial of this sweep has finished" in texts(app)
    click(app, "Resume")
    assert sweep_of(checkpoints, read_group(checkpoints, sweep.id)).proposes


def test_sweep_is_stopped_and_extended_on_its_page(checkpoints: Path, sweep: Group) -> None:
    run = next_trial(checkpoints, sweep)
    app = open_page("runs", group=sweep.id)
    app = run_page(app.button(key=f"no-more-{sweep.id}").click())
    assert runs.queued_runs(checkpoints) == [run]
    app = run_page(app.button(key=f"stop-now-{sweep.id}").click())
    assert runs.queued_runs(checkpoints) == [] and "Resume" in button_labels(app)
    run_page(app.button(key=f"extend-now-{sweep.id}").click())
    assert sweep_of(checkpoints, read_group(checkpoints, sweep.id)).total == 16


def test_best_trial_is_trained_on_all_folds_with_more_epochs(checkpoints: Path, sweep: Group) -> None:
    summary = finish_trials(checkpoints, sweep, 3)
    assert summary.best is not None
    app = open_page("runs", group=sweep.id)
    run_page(app.button(key=f"folds-{sweep.id}").click())
    (folds,) = [group for group in read_groups(checkpoints) if group.id != sweep.id]
    assert folds.name == "search best folds" and len(folds.members) == 3
    expected = summary.best.member.config(sweep.config).with_values({"epochs": 24, "fold": 0})
    assert folds.config == expected


def test_search_on_train_starts_the_sweep_that_its_command_would(checkpoints: Path, empty_app: Path) -> None:
    write_balls(empty_app / "balls")
    app = open_page("train", data="balls", preset="fast")
    assert "Start the search" not in button_labels(app)
    app = run_page(app.multiselect(key="search_fields").set_value(["learning_rate", "optimizer"]))
    assert app.text_input(key="search.fast.learning_rate").value == "0.002:0.2:log"
    app = run_page(app.text_input(key="search.fast.learning_rate").set_value("1:2:3"))
    assert "expected log or a step" in texts(app) and "Start the search" not in button_labels(app)
    app = run_page(app.text_input(key="search.fast.learning_rate").set_value("1e-3:1e-1:log"))
    assert (
        "--search learning_rate=0.001:0.1:log --search optimizer=sgd,adam,rmsprop,adamw,muon --trials 20"
        in [code.value for code in app.code][-1]
    )
    click(app, "Start the search")
    (group,) = read_groups(checkpoints)
    assert [part["field"] for part in group.settings["search"]] == ["learning_rate", "optimizer"]
    assert group.config.data.path == str(empty_app / "balls")
