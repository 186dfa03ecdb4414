"""The Home page without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import runs
from core.presets import preset
from tests.support.app_pages import click, open_page, texts
from tests.support.run_folders import make_run

pytestmark = pytest.mark.usefixtures("empty_app")


@pytest.mark.slow
def test_home_starts_training_on_the_demo_data(checkpoints: Path) -> None:
    app = open_page("home")
    assert "The demo data is made for you" in texts(app)
    click(app, "Train on the demo data")
    (run,) = runs.list_runs(checkpoints)
    assert (run.config.preset, run.config.data.path, run.state.state) == ("quick", "demo", "queued")


def test_home_shows_queued_and_finished_runs(checkpoints: Path) -> None:
    make_run(checkpoints, "done <b>well</b>")
    runs.submit(checkpoints, preset("quick").with_values({"path": "demo"}), "waiting")
    shown = texts(open_page("home"))
    assert "Running now" in shown and "Last results" in shown and "held-out sub-volumes, n = 8" in shown
