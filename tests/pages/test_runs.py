"""The Runs page without a browser: table, states, actions, comparison, notes and tags."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core import runs
from core.checkpointing.metadata import ACCEPT_DATA
from core.colours import PALETTE
from core.datasets.data_record import ChangedDataError
from core.presets import preset
from core.runs.store import folder as files
from core.runs.store.state import Best, read_state, write_state
from tests.core.runs.test_compare import trained
from tests.support.app_pages import button_labels, click, component_data, open_page, run_page, texts
from tests.support.balls import write_balls
from tests.support.run_folders import add_metrics, dice, make_run

pytestmark = pytest.mark.usefixtures("empty_app")


def submit(root: Path, name: str) -> str:
    return runs.submit(root, preset("quick").with_values({"path": "demo"}), name)


def table(app: AppTest) -> list[dict[str, Any]]:
    """Rows of the table of runs."""
    rows: list[dict[str, Any]] = component_data(app, "rows")["rows"]
    return rows


@pytest.mark.slow
def test_page_without_runs_explains_how_to_start_one() -> None:
    app = open_page("runs")
    assert "No runs yet" in texts(app) and button_labels(app) == ["Train on the demo data"]


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
def test_configuration_that_is_not_understood_is_reported(checkpoints: Path) -> None:
    run = make_run(checkpoints, "net")
    assert "cannot be read" not in texts(open_page("runs"))
    config = files.read_json(checkpoints / run / files.CONFIG)
    config["data"]["of_a_newer_version"] = True
    files.write_json(checkpoints / run / files.CONFIG, config)
    shown = texts(open_page("runs"))
    assert "A file of this run cannot be read" in shown and "of_a_newer_version" in shown.replace("\\", "")


@pytest.mark.slow
def test_unknown_run_in_url_is_reported(checkpoints: Path) -> None:
    make_run(checkpoints, "net")
    assert "There is no run called gone-123" in texts(open_page("runs", run="gone-123"))


@pytest.mark.slow
def test_unknown_group_beside_a_known_run_in_url_is_reported(checkpoints: Path) -> None:
    run_id = make_run(checkpoints, "alpha")
    assert "There is no group called lost" in texts(open_page("runs", group="lost", run=run_id))


@pytest.mark.slow
def test_progress_is_that_of_the_time_and_times_are_in_one_named_zone(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.runs.store.reconciliation.is_alive", lambda *_: True)
    monkeypatch.setattr("streamlit.runtime.context.ContextProxy.timezone", "Asia/Kolkata")
    run = make_run(checkpoints, "net", "running", epochs=3)  # of about ten epochs, but nearly done
    state = dataclasses.replace(read_state(checkpoints / run), elapsed_s=95.0, remaining_s=5.0)
    write_state(checkpoints / run, state)
    (checkpoints / run / "log.txt").write_text("20:31:05  a line\nno time\n", encoding="utf-8")
    app = open_page("runs")
    (row,) = table(app)
    assert (row["share"], row["left"]) == (0.95, "95%, 5 s left")
    assert "Asia/Kolkata (UTC+5:30)" in row["started_at"]
    assert app.code[0].value == "02:01:05  a line\nno time"
    assert "Times in Asia/Kolkata (UTC+5:30)." in texts(app)


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
def test_run_shows_what_is_prepared_then_dice_so_far_and_offers_its_first_checkpoint(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Before a best epoch is chosen, as for the whole run of a preset that scores whole volumes at its end."""
    monkeypatch.setattr("core.runs.store.reconciliation.is_alive", lambda *_: True)
    run = make_run(checkpoints, "net", "starting", epochs=0, path=str(write_balls(tmp_path / "balls")))
    folder = checkpoints / run

    def change(**values: Any) -> AppTest:
        write_state(folder, replace(read_state(folder), **values))
        return open_page("runs", run=run)

    app = change(what="reading subjects 2/10", done=2, total=10)
    (bar,) = app.get("progress")
    assert bar.proto.value == 20  # type: ignore[attr-defined]
    shown = bar.proto.text.replace("\\", "")  # type: ignore[attr-defined]
    assert shown == "Preparing: reading subjects, 2 of 10 done. The time budget begins with the first step."
    assert "ball_0" in texts(app) and component_data(app, "rows")["rows"] and component_data(app, "layers")["layers"]
    assert "Review" not in button_labels(app)

    add_metrics(checkpoints, run, 1, 1)
    (folder / "last.safetensors").write_bytes(b"")
    latest = Best(1, dice(1), "held-out sub-volumes", 20)
    app = change(state="running", what="training", done=0, total=0, epoch=1, step=20, latest=latest)
    numbers = {m.label: m.value for m in app.metric}
    assert numbers["Mean Dice so far"] == numbers["GM"] == "0.500" and "Best mean Dice" not in numbers
    (row,) = table(app)
    assert (row["dice"], row["on"]) == ("0.500", "held-out sub-volumes, so far")
    for state in ("running", "stopped"):
        assert "Review" in button_labels(change(state=state))


@pytest.mark.slow
def test_stalled_run_is_marked(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.runs.store.reconciliation.is_alive", lambda *_: True)
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
    click(app, "Resume on these files")
    assert runs.get_run(checkpoints, run).state.state == "queued"
    assert (checkpoints / run / ACCEPT_DATA).exists()


def test_duplicate_submits_a_run_with_the_same_settings(checkpoints: Path) -> None:
    one = trained(checkpoints, "one", learning_rate=0.5)
    app = open_page("runs", run=one.name)
    run_page(app.text_input(key=f"copy-{one.name}").set_value("second"))
    run_page(app.button(key=f"duplicate-now-{one.name}").click())
    copy = next(run for run in runs.list_runs(checkpoints) if run.id != one.name)
    assert (copy.name, copy.state.state) == ("second", "queued")
    assert copy.config == runs.get_run(checkpoints, one.name).config
    assert app.query_params["run"] in (copy.id, [copy.id])


def test_ticked_runs_are_compared_in_the_chart_and_by_their_settings(checkpoints: Path) -> None:
    one, two = trained(checkpoints, "one"), trained(checkpoints, "two", learning_rate=1e-4)
    app = open_page("runs", run=one.name)
    assert [run["id"] for run in chart(app)["runs"]] == [one.name]
    app = open_page("runs", run=one.name, compare=f"{two.name},gone-run")
    assert {run["id"] for run in chart(app)["runs"]} == {one.name, two.name}
    colours = {run["colour"] for run in chart(app)["runs"]}
    assert len(colours) == 2 and not colours & set(PALETTE)  # never those of classes
    assert component_data(app, "rows")["ticked"] == {run["id"]: run["colour"] for run in chart(app)["runs"]}
    settings, results = (frame.value for frame in app.dataframe[:2])
    assert settings.to_dict("records") == [{"setting": "learning_rate", "one": "0.02", "two": "0.0001"}]
    assert set(results["measurement"]) == {"train/loss", "lr", "whole/dice_mean"}
    assert list(results.columns) == ["measurement", "one", "two"]


def test_runs_of_equal_name_have_the_id_in_their_column(checkpoints: Path) -> None:
    one, two = trained(checkpoints, "net"), trained(checkpoints, "net")
    app = open_page("runs", run=one.name, compare=two.name)
    results = app.dataframe[0].value
    names = [f"net ({run.name[-4:]})" for run in (one, two)]
    assert list(results.columns) == ["measurement", *names]
    assert [run["name"] for run in chart(app)["runs"]] == names
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


def chart(app: AppTest) -> dict[str, Any]:
    """Data of the chart."""
    return component_data(app, "runs")
