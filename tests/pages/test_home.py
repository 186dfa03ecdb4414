"""The Home page without a browser."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core import runs
from core.datasets.splits import split_subjects
from core.formatting import format_duration
from core.presets import preset
from core.runs import groups
from core.runs.catalog import update_index
from core.runs.store.groups import FOLDS, SWEEP, Group, Member, write_group
from core.runs.store.pictures import add_picture, encode_png
from core.runs.store.process import process_identity
from core.runs.store.state import Best, read_state, write_state
from tests.support.app_pages import button, button_labels, click, open_page, texts
from tests.support.run_folders import make_run
from ui.home.best_runs import best_runs
from ui.home.shown_runs import shown_runs
from ui.home.starts import FEW

pytestmark = pytest.mark.usefixtures("empty_app")


@pytest.mark.slow
def test_home_starts_training_on_the_demo_data(checkpoints: Path) -> None:
    app = open_page("home")
    assert "The demo data is made for you" in texts(app)
    click(app, "Train on the demo data")
    (run,) = runs.list_runs(checkpoints)
    assert (run.config.preset, run.config.data.path) == ("quick", "demo")
    assert run.state.state in ("queued", "starting")
    assert run.config.split.subjects == FEW, "the first step is not waited for until ten subjects are made"
    assert split_subjects([f"subject-{n}" for n in range(1, FEW + 1)], run.config.split).val, "one is held out"


@pytest.mark.slow
def test_trained_model_is_as_prominent_as_training_and_one_click_away() -> None:
    app = open_page("home")
    assert button_labels(app) == [
        "Look at a trained model", "Train on the demo data", "Segment a scan", "My data"
    ]  # fmt: skip
    first, second = (button(app, label).proto.type for label in button_labels(app)[:2])
    assert first == second == "primary"
    assert "Nothing has to be prepared" in texts(app), "what a click does is said, not in a tooltip"
    app = click(app, "Look at a trained model")
    assert app.title[0].value == "Review" and app.session_state["model"] == "demo-model"


def test_home_shows_queued_and_finished_runs(checkpoints: Path) -> None:
    make_run(checkpoints, "done <b>well</b>")
    runs.submit(checkpoints, preset("quick").with_values({"path": "demo"}), "waiting")
    shown = texts(open_page("home"))
    assert "Last results" in shown and "held-out sub-volumes, n = 8" in shown
    assert "Waiting to start" in shown and "Running now" not in shown


def test_cards_show_what_is_prepared_then_dice_so_far_and_the_last_picture(checkpoints: Path) -> None:
    run = make_run(checkpoints, "mine", "starting", 0)
    set_state(checkpoints / run, what="making synthetic demo subjects 2/10", done=2, total=10, **alive())
    app = open_page("home")
    assert "Making synthetic demo subjects 2/10" in texts(app) and "Review" not in links(app)
    assert "Running now" in texts(app)
    best = Best(4, 0.907, "held-out sub-volumes, n = 8")
    set_state(checkpoints / run, state="running", epoch=4, latest=best, elapsed_s=30.0, remaining_s=90.0)
    add_picture(checkpoints / run, 4, 80, encode_png(np.zeros((8, 16, 3), np.uint8)))
    app = open_page("home")
    figures = f"epoch 4 / ~10 · {format_duration(90)} left · Dice 0.907 so far, held-out sub-volumes"
    assert figures in texts(app).replace("\\", "")
    assert len(app.get("image")) == 1
    (checkpoints / run / "last.safetensors").write_bytes(b"")
    assert {"Review", "Segment a scan", "Quiz"} <= set(links(open_page("home")))


def test_runs_of_a_group_are_one_card_and_what_trains_comes_before_what_waits(checkpoints: Path) -> None:
    first, second = (make_run(checkpoints, f"net fold {n}", "queued", 0) for n in (0, 1))
    set_state(checkpoints / second, state="running", **alive())
    waiting = make_run(checkpoints, "waiting", "queued", 0)
    trials = [make_run(checkpoints, f"search trial {n}", epochs=n) for n in (1, 2)]
    config = preset("quick")
    folds = Group("net-folds", "net", FOLDS, config, tuple(Member(run) for run in (first, second)))
    sweep = Group("search", "search", SWEEP, config, tuple(Member(run) for run in trials))
    for group in (folds, sweep):
        write_group(checkpoints, group)
    all_runs = runs.list_runs(checkpoints)
    going_on, ended = shown_runs(all_runs, groups.list_groups(checkpoints, all_runs))
    assert [(one.run.id, one.group and one.group.group.id) for one in going_on] == [
        (second, "net-folds"), (waiting, None)
    ]  # fmt: skip
    assert [one.run.id for one in ended] == [trials[1]], "the trial with the highest Dice stands for the sweep"
    app = open_page("home")
    assert [label for label in links(app) if label.startswith("**")] == ["**net**", "**waiting**", "**search**"]
    shown = texts(app).replace("\\", "")
    assert "0 of 2 folds finished" in shown and "search trial 2: demo" in shown


def test_best_run_of_a_data_set_is_measured_on_whole_volumes_where_one_is(checkpoints: Path) -> None:
    for name, data, dice, measured_on in (
        ("lucky", "/data/a", 0.99, "held-out sub-volumes, n = 8"),
        ("good", "/data/a", 0.9, "held-out whole volumes"),
        ("poor", "/data/a", 0.7, "held-out whole volumes"),
        ("only", "/data/b", 0.8, "held-out sub-volumes, n = 8"),
        ("unmeasured", "/data/c", None, ""),
    ):
        run = make_run(checkpoints, name, epochs=0, path=data)
        set_state(checkpoints / run, best=Best(1, dice, measured_on) if dice else None)
    rows = [(run.name, count) for run, count in best_runs(runs.list_runs(checkpoints))]
    assert rows == [("good", 3), ("only", 1)]
    assert "Best of each data set" in texts(open_page("home"))


def set_state(folder: Path, **values: Any) -> None:
    """Change the stored state of a run."""
    write_state(folder, dataclasses.replace(read_state(folder), **values))
    update_index(folder.parent, folder)


def alive() -> dict[str, Any]:
    """The process of a trainer that lives: this one."""
    return {"pid": os.getpid(), "pid_start": process_identity(os.getpid())}


def links(app: AppTest) -> list[str]:
    """The labels of the links to pages."""
    return [element.proto.label for element in app.get("page_link")]  # type: ignore[attr-defined]
