"""Runs side by side on the page Runs, notes and tags, duplicates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core import runs
from tests.core.runs.test_compare import trained
from tests.pages.test_pages import open_page, table, texts


@pytest.fixture(autouse=True)
def nobody_starts_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("core.runs.launch.ensure_supervisor", lambda *_: None)


def tabs(app: AppTest) -> Any:
    return {tab.label: tab for tab in app.tabs}


def test_there_is_nothing_to_compare_with(checkpoints: Path) -> None:
    one = trained(checkpoints, "one")
    assert "There is no other run with measurements yet" in texts(open_page("runs", run=one.name))


def test_runs_side_by_side(checkpoints: Path) -> None:
    one, two = trained(checkpoints, "one"), trained(checkpoints, "two", learning_rate=0.5)
    app = open_page("runs", run=one.name)
    assert "appear here side by side" in texts(app)
    app.multiselect(key=f"compare-{one.name}").select(two.name).run()
    assert not app.exception
    frames = [frame.value for frame in tabs(app)["Compare"].dataframe]
    settings, results = frames
    assert settings.to_dict("records") == [{"setting": "learning_rate", "one": "0.02", "two": "0.5"}]
    assert set(results["measurement"]) == {"train/loss", "lr", "whole/dice_mean"}
    assert list(results.columns) == ["measurement", "one", "two"]
    app.selectbox(key="compare-metric").select("train/loss").run()
    assert not app.exception


def test_runs_of_one_name_are_told_apart(checkpoints: Path) -> None:
    one, two = trained(checkpoints, "net"), trained(checkpoints, "net")
    app = open_page("runs", run=one.name)
    app.multiselect(key=f"compare-{one.name}").select(two.name).run()
    results = tabs(app)["Compare"].dataframe[0].value
    assert list(results.columns) == ["measurement", f"net ({one.name[-4:]})", f"net ({two.name[-4:]})"]
    assert "All settings are the same." in texts(app)


def test_notes_and_tags_are_kept_and_found(checkpoints: Path) -> None:
    one, two = trained(checkpoints, "one"), trained(checkpoints, "two")
    runs.annotate(checkpoints, two.name, tags=["baseline"])
    app = open_page("runs", run=one.name)
    assert app.button(key=f"annotate-{one.name}").disabled
    app.text_area(key=f"notes-{one.name}").set_value("a *first* try").run()
    app.button(key=f"annotate-{one.name}").click().run()
    assert runs.get_run(checkpoints, one.name).notes == "a *first* try"
    app.text_input(key="run_filter").set_value("baseline").run()
    assert [row["name"] for row in table(app)["rows"]] == ["two"]
    assert table(app)["rows"][0]["tags"] == ["baseline"]


def test_duplicate_starts_the_same_again(checkpoints: Path) -> None:
    one = trained(checkpoints, "one")
    app = open_page("runs", run=one.name)
    app.text_input(key=f"copy-{one.name}").set_value("second").run()
    app.button(key=f"duplicate-now-{one.name}").click().run()
    copy = next(run for run in runs.list_runs(checkpoints) if run.id != one.name)
    assert (copy.name, copy.state.state) == ("second", "queued")
    assert app.query_params["run"] in (copy.id, [copy.id])
