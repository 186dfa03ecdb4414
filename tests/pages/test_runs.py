"""The Runs page without a browser: table, states, actions, comparison, notes and tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core import runs
from core.checkpointing.metadata import ACCEPT_DATA
from core.datasets.data_record import ChangedDataError
from core.presets import preset
from tests.core.runs.test_compare import trained
from tests.support.app_pages import click, component_data, open_page, run_page, texts
from tests.support.run_folders import make_run

pytestmark = pytest.mark.usefixtures("empty_app")


def submit(root: Path, name: str) -> str:
    return runs.submit(root, preset("quick").with_values({"path": "demo"}), name)


def table(app: AppTest) -> list[dict[str, Any]]:
    """Rows of the table of runs."""
    rows: list[dict[str, Any]] = component_data(app, "rows")["rows"]
    return rows


@pytest.mark.slow
def test_page_without_runs_explains_how_to_start_one() -> None:
    assert "No runs yet" in texts(open_page("runs"))


@pytest.mark.slow
def test_newest_run_is_shown_with_its_results_and_log(checkpoints: Path) -> None:
    run = make_run(checkpoints, "net", epochs=3)
    app = open_page("runs")
    (row,) = table(app)
    assert (row["id"], row["dice"], row["epoch"], row["state"]) == (run, "0.875", "3/10", "finished")
    numbers = {m.label: m.value for m in app.metric}
    assert {n: numbers[n] for n in ("Best mean Dice", "CSF", "GM", "WM")} == dict.fromkeys(
        ("Best mean Dice", "CSF", "GM", "WM"), "0.875"
    )
    assert "Time left" not in numbers and "Sub-volumes / s" not in numbers  # it has ended
    assert "this is the log of net" in app.code[0].value


@pytest.mark.slow
def test_unknown_run_in_url_is_reported(checkpoints: Path) -> None:
    make_run(checkpoints, "net")
    assert "There is no run called gone-123" in texts(open_page("runs", run="gone-123"))


@pytest.mark.slow
def test_queued_run_shows_its_position_and_is_moved_by_buttons(checkpoints: Path) -> None:
    a, b, c = (submit(checkpoints, name) for name in "abc")
    app = open_page("runs", run=c)
    assert "2 queued runs before it." in texts(app)
    assert [row["shown"] for row in table(app)] == ["queued 3", "queued 2", "queued 1"]
    assert app.button(key=f"move-later-{c}").disabled and not app.button(key=f"move-first-{c}").disabled
    run_page(app.button(key=f"move-earlier-{c}").click())
    assert runs.queued_runs(checkpoints) == [a, c, b]
    run_page(app.button(key=f"move-first-{c}").click())
    assert runs.queued_runs(checkpoints) == [c, a, b]
    assert "It is next." in texts(app)
    assert app.button(key=f"move-first-{c}").disabled and app.button(key=f"move-earlier-{c}").disabled


@pytest.mark.slow
def test_stalled_run_is_marked(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.runs.store.state.is_alive", lambda *_: True)
    monkeypatch.setattr("core.runs.store.state.STALLED_S", -1.0)
    app = open_page("runs", run=make_run(checkpoints, "net", "running"))
    assert "No update for" in texts(app) and "not ended automatically" in texts(app)
    (row,) = table(app)
    assert row["shown"] == "stalled" and row["state"] == "running" and "no update for" in row["title"]


@pytest.mark.slow
@pytest.mark.parametrize(("state", "epochs"), [("failed", 0), ("crashed", 3)])
def test_failed_run_shows_reason_and_next_step_as_plain_text(checkpoints: Path, state: str, epochs: int) -> None:
    make_run(checkpoints, "net", state, epochs, message="no *memory* left")
    app = open_page("runs")
    (error,) = app.error
    shown = error.value.replace("\\", "")
    assert f"It {state}" in shown and "no *memory* left" in shown and "esume it" in shown
    assert "\\*memory\\*" in error.value
    assert bool(app.metric) == bool(epochs)


@pytest.mark.slow
def test_filter_reduces_the_table(checkpoints: Path) -> None:
    make_run(checkpoints, "alpha")
    make_run(checkpoints, "beta", "stopped")
    app = open_page("runs")
    run_page(app.text_input(key="run_filter").set_value("ALP"))
    assert [row["name"] for row in table(app)] == ["alpha"]
    run_page(app.text_input(key="run_filter").set_value("zzz"))
    assert table(app) == [] and "No run matches" in texts(app)


@pytest.mark.slow
def test_run_is_stopped_resumed_renamed_and_deleted(checkpoints: Path) -> None:
    run = submit(checkpoints, "net")
    app = open_page("runs")
    assert [row["shown"] for row in table(app)] == ["queued"]
    assert not [b for b in app.button if str(b.key).startswith("move-")]  # no other run is queued
    run_page(app.button(key=f"stop-now-{run}").click())
    assert runs.get_run(checkpoints, run).state.state == "stopped"
    click(app, "Resume")
    assert runs.get_run(checkpoints, run).state.state == "queued"
    run_page(app.text_input(key=f"name-{run}").set_value("other"))
    run_page(app.button(key=f"rename-now-{run}").click())
    assert runs.get_run(checkpoints, run).name == "other"
    run_page(app.button(key=f"delete-now-{run}").click())
    assert runs.list_runs(checkpoints) == [] and "No runs yet" in texts(app)


@pytest.mark.slow
def test_run_in_the_url_is_found_by_name_beside_a_longer_one(checkpoints: Path) -> None:
    base, longer = make_run(checkpoints, "base"), make_run(checkpoints, "base2")
    for text, run in (("base", base), ("base2", longer), (longer[:-1], longer)):
        assert (
            f"this is the log of {'base' if run == base else 'base2'}"
            == open_page("runs", run=text).code[0].value.split("  ")[-1]
        )
    twin = make_run(checkpoints, "base")
    assert "2 runs are called base" in texts(open_page("runs", run="base"))
    assert "this is the log of base" in open_page("runs", run=twin).code[0].value


def test_changed_data_is_resumed_on_request(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = submit(checkpoints, "net")
    runs.request_stop(checkpoints, run)

    def refuse(*_: object) -> None:
        raise ChangedDataError(["a.nii.gz: voxel size 1 x 1 x 1 mm to 2 x 2 x 2 mm"])

    monkeypatch.setattr("core.runs.launch._check_recorded_data", refuse)
    (checkpoints / run / "last.safetensors").touch()
    app = click(open_page("runs"), "Resume")
    assert "voxel size 1 x 1 x 1 mm to 2 x 2 x 2 mm" in texts(app)
    assert runs.get_run(checkpoints, run).state.state == "stopped"
    click(app, "Resume on this data")
    assert runs.get_run(checkpoints, run).state.state == "queued"
    assert (checkpoints / run / ACCEPT_DATA).exists()


def test_duplicate_submits_a_run_with_the_same_settings(checkpoints: Path) -> None:
    one = trained(checkpoints, "one", learning_rate=0.5)
    app = open_page("runs", run=one.name)
    assert "No other run has measurements yet" in texts(app)  # on the tab Compare
    run_page(app.text_input(key=f"copy-{one.name}").set_value("second"))
    run_page(app.button(key=f"duplicate-now-{one.name}").click())
    copy = next(run for run in runs.list_runs(checkpoints) if run.id != one.name)
    assert (copy.name, copy.state.state) == ("second", "queued")
    assert copy.config == runs.get_run(checkpoints, one.name).config
    assert app.query_params["run"] in (copy.id, [copy.id])


def test_comparison_shows_differing_settings_and_results(checkpoints: Path) -> None:
    one, two = trained(checkpoints, "one"), trained(checkpoints, "two", learning_rate=0.5)
    app = open_page("runs", run=one.name)
    assert "appear here side by side" in texts(app)
    run_page(app.multiselect(key=f"compare-{one.name}").select(two.name))
    settings, results = (frame.value for frame in comparison(app).dataframe)
    assert settings.to_dict("records") == [{"setting": "learning_rate", "one": "0.02", "two": "0.5"}]
    assert set(results["measurement"]) == {"train/loss", "lr", "whole/dice_mean"}
    assert list(results.columns) == ["measurement", "one", "two"]
    run_page(app.selectbox(key="compare-metric").select("train/loss"))


def test_runs_of_equal_name_have_the_id_in_their_column(checkpoints: Path) -> None:
    one, two = trained(checkpoints, "net"), trained(checkpoints, "net")
    app = open_page("runs", run=one.name)
    run_page(app.multiselect(key=f"compare-{one.name}").select(two.name))
    results = comparison(app).dataframe[0].value
    assert list(results.columns) == ["measurement", f"net ({one.name[-4:]})", f"net ({two.name[-4:]})"]
    assert "All settings are the same." in texts(app)


@pytest.mark.slow
def test_notes_are_saved_and_tags_are_searchable(checkpoints: Path) -> None:
    one, two = trained(checkpoints, "one"), trained(checkpoints, "two")
    runs.annotate(checkpoints, two.name, tags=["baseline"])
    app = open_page("runs", run=one.name)
    assert app.button(key=f"annotate-{one.name}").disabled
    run_page(app.text_area(key=f"notes-{one.name}").set_value("a *first* try"))
    run_page(app.button(key=f"annotate-{one.name}").click())
    assert runs.get_run(checkpoints, one.name).notes == "a *first* try"
    run_page(app.text_input(key="run_filter").set_value("baseline"))
    assert [(row["name"], row["tags"]) for row in table(app)] == [("two", ["baseline"])]


def comparison(app: AppTest) -> Any:
    """The tab with the comparison."""
    return next(tab for tab in app.tabs if tab.label == "Compare")
