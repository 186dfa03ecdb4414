"""The Home page without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import runs
from core.presets import preset
from tests.support.app_pages import button, button_labels, click, open_page, texts
from tests.support.run_folders import make_run

pytestmark = pytest.mark.usefixtures("empty_app")


@pytest.mark.slow
def test_home_starts_training_on_the_demo_data(checkpoints: Path) -> None:
    app = open_page("home")
    assert "The demo data is made for you" in texts(app)
    click(app, "Train on the demo data")
    (run,) = runs.list_runs(checkpoints)
    assert (run.config.preset, run.config.data.path, run.state.state) == ("quick", "demo", "queued")


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
    assert "Running now" in shown and "Last results" in shown and "held-out sub-volumes, n = 8" in shown
