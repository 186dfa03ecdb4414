"""Changed settings of the Train page and the filter of the Runs page are in the URL, from which a reload reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.support.app_pages import click, open_page, run_page, texts
from tests.support.run_folders import make_run

pytestmark = [pytest.mark.usefixtures("empty_app", "known_cost"), pytest.mark.slow]


def reloaded(app: AppTest, page: str) -> AppTest:
    """The page in a new session, as after a reload."""
    return open_page(page, **dict(app.query_params))


@pytest.mark.long
def test_changed_settings_survive_a_reload_and_a_reset_removes_them() -> None:
    app = open_page("train", preset="quick")
    assert "set" not in app.query_params
    next(field for field in app.number_input if field.label == "Sub-volumes per epoch").set_value(33)
    next(field for field in app.text_input if field.label.startswith("Learning rate")).set_value("0.005")
    run_page(next(field for field in app.toggle if field.label == "Same sub-volumes in every epoch").set_value(True))
    assert app.query_params["set"] == "draw_once~true~learning_rate~0.005~samples_train~33"
    again = reloaded(app, "train")
    assert "--samples-train 33" in again.code[0].value and "--learning-rate 0.005" in again.code[0].value
    assert "--draw-once true" in again.code[0].value
    click(again, "Reset all")
    assert "set" not in again.query_params
    assert "--samples-train" not in again.code[0].value


def test_time_and_another_value_of_auto_survive_a_reload() -> None:
    again = open_page("train", preset="auto", set="flip~0.1~minutes~2.0")
    assert "--minutes 2" in again.code[0].value and "--flip 0.1" in again.code[0].value


def test_settings_of_the_url_that_cannot_be_used_are_named() -> None:
    app = open_page("train", preset="quick", set="colour~red~flip~7~epochs~3~minutes~0.0")
    assert "left out: colour, flip" in texts(app)
    assert "--epochs 3" in app.code[0].value


def test_filter_of_runs_survives_a_reload_and_can_be_emptied(checkpoints: Path) -> None:
    make_run(checkpoints, "alpha")
    app = open_page("runs")
    run_page(app.text_input(key="run_filter").set_value("beta"))
    assert app.query_params["filter"] == "beta" and "show" not in app.query_params
    again = reloaded(app, "runs")
    assert again.text_input(key="run_filter").value == "beta" and "No run matches" in texts(again)
    run_page(again.text_input(key="run_filter").set_value(""))
    assert "filter" not in again.query_params and "No run matches" not in texts(again)
