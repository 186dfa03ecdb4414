"""The pages, run without a browser: empty states, normal states, failing states, and what buttons do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core import runs
from core.paths import project_root
from core.presets import preset
from tests.support.run_folders import make_run
from ui.shared.jobs import Job

ROOT = project_root()
FOOTER = "For research and teaching, not a medical device."


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root, nobody who starts queued runs, and no demo subject yet."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(data))
    monkeypatch.setattr("core.runs.launch.ensure_supervisor", lambda *_: None)
    being_made(monkeypatch)
    return data


def being_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have pages find the demo subject being made when they ask for it, without the work; returns what they asked."""
    asked: list[str] = []
    monkeypatch.setattr("ui.shared.demo_jobs.start_demo_subject", asked.append)
    monkeypatch.setattr("ui.shared.demo_jobs.observe_demo_subject", lambda _: Job("running" if asked else "none", 1, 4))
    return asked


def open_page(name: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "ui" / "shell.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    if name != "home":
        app.switch_page(str(ROOT / "pages" / f"{name}.py")).run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def texts(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.error, *app.warning, *app.info, *app.success, *app.title, *app.subheader]
    return "\n".join(str(p.value) for p in parts).replace("\\", "")


def table(app: AppTest) -> Any:
    import json

    return next(d for e in app.get("bidi_component") if "rows" in (d := json.loads(e.proto.json or "{}")))


@pytest.mark.parametrize("name", ["home", "learn", "data", "train", "runs", "review", "predict", "quiz"])
def test_every_page_opens_on_a_fresh_server_with_title_and_footer_once(checkpoints: Path, name: str) -> None:
    app = open_page(name)
    assert len(app.title) == 1
    assert [c.value for c in app.caption].count(FOOTER) == 1


def test_home_begins_on_the_demo_data(checkpoints: Path) -> None:
    app = open_page("home")
    assert "The demo data is made for you" in texts(app)
    next(b for b in app.button if b.label == "Train on the demo data").click().run()
    (run,) = runs.list_runs(checkpoints)
    assert (run.config.preset, run.config.data.path, run.state.state) == ("quick", "demo", "queued")


def test_home_shows_what_runs_and_what_came_out(checkpoints: Path) -> None:
    make_run(checkpoints, "done <b>well</b>")
    runs.submit(checkpoints, preset("quick").with_values({"path": "demo"}), "waiting")
    app = open_page("home")
    shown = texts(app)
    assert "Running now" in shown and "Last results" in shown and "held-out sub-volumes, n = 8" in shown


def test_runs_without_runs_says_what_to_do(checkpoints: Path) -> None:
    assert "No runs yet" in texts(open_page("runs"))


def test_runs_shows_the_newest_and_its_numbers(checkpoints: Path) -> None:
    run = make_run(checkpoints, "net", epochs=3)
    app = open_page("runs")
    (row,) = table(app)["rows"]
    assert (row["id"], row["dice"], row["epoch"], row["state"]) == (run, "0.875", "3/10", "finished")
    assert {m.label: m.value for m in app.metric}["Best mean Dice"] == "0.875"
    assert "this is the log of net" in app.code[0].value


def test_a_run_that_is_not_there(checkpoints: Path) -> None:
    make_run(checkpoints, "net")
    app = open_page("runs", run="gone-123")
    assert "There is no run called gone-123" in texts(app)


def test_a_run_that_ended_shows_dice_per_class_and_no_time_left(checkpoints: Path) -> None:
    make_run(checkpoints, "net", epochs=3)
    numbers = {m.label: m.value for m in open_page("runs").metric}
    assert {n: numbers[n] for n in ("CSF", "GM", "WM")} == dict.fromkeys(("CSF", "GM", "WM"), "0.875")
    assert "Time left" not in numbers and "Sub-volumes / s" not in numbers


def test_a_run_that_never_trained_shows_no_numbers(checkpoints: Path) -> None:
    make_run(checkpoints, "net", "failed", epochs=0, message="no data")
    assert list(open_page("runs").metric) == []


def test_a_run_that_waits_says_how_many_come_before_it(checkpoints: Path) -> None:
    submitted = [runs.submit(checkpoints, preset("quick").with_values({"path": "demo"}), f"n{n}") for n in range(3)]
    assert "trains one run at a time. 2 queued runs before it." in texts(open_page("runs", run=submitted[2]))
    assert "trains one run at a time. It is next." in texts(open_page("runs", run=submitted[0]))


def test_a_run_that_waits_is_moved_by_its_arrows(checkpoints: Path) -> None:
    a, b, c = (runs.submit(checkpoints, preset("quick").with_values({"path": "demo"}), name) for name in "abc")
    app = open_page("runs", run=c)
    assert [row["shown"] for row in table(app)["rows"]] == ["queued 3", "queued 2", "queued 1"]
    assert app.button(key=f"move-later-{c}").disabled and not app.button(key=f"move-first-{c}").disabled
    app.button(key=f"move-earlier-{c}").click().run()
    assert runs.queued_runs(checkpoints) == [a, c, b]
    app.button(key=f"move-first-{c}").click().run()
    assert runs.queued_runs(checkpoints) == [c, a, b]
    assert "It is next." in texts(app)
    assert app.button(key=f"move-first-{c}").disabled and app.button(key=f"move-earlier-{c}").disabled


def test_a_single_run_that_waits_has_nowhere_to_go(checkpoints: Path) -> None:
    only = runs.submit(checkpoints, preset("quick").with_values({"path": "demo"}), "only")
    app = open_page("runs", run=only)
    assert not [b for b in app.button if str(b.key).startswith("move-")]
    assert [row["shown"] for row in table(app)["rows"]] == ["queued"]


def test_a_run_without_a_sign_of_life_says_so(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.runs.store.state.is_alive", lambda *_: True)
    monkeypatch.setattr("core.runs.store.state.STALLED_S", -1.0)
    run = make_run(checkpoints, "net", "running")
    app = open_page("runs", run=run)
    assert "No update for" in texts(app) and "not ended automatically" in texts(app)
    (row,) = table(app)["rows"]
    assert row["shown"] == "stalled" and row["state"] == "running" and "no update for" in row["title"]


@pytest.mark.parametrize("state", ["failed", "crashed"])
def test_a_run_that_went_wrong_says_what_why_and_what_now(checkpoints: Path, state: str) -> None:
    make_run(checkpoints, "net", state, message="no *memory* left")
    app = open_page("runs")
    (error,) = app.error
    shown = error.value.replace("\\", "")
    assert f"It {state}" in shown and "no *memory* left" in shown and "esume it" in shown
    assert "\\*memory\\*" in error.value


def test_the_filter_leaves_what_fits(checkpoints: Path) -> None:
    make_run(checkpoints, "alpha")
    make_run(checkpoints, "beta", "stopped")
    app = open_page("runs")
    app.text_input(key="run_filter").set_value("ALP").run()
    assert [r["name"] for r in table(app)["rows"]] == ["alpha"]
    app.text_input(key="run_filter").set_value("zzz").run()
    assert table(app)["rows"] == [] and "No run matches" in texts(app)


def test_stop_resume_rename_delete(checkpoints: Path) -> None:
    run = runs.submit(checkpoints, preset("quick").with_values({"path": "demo"}), "net")
    app = open_page("runs")
    app.button(key=f"stop-now-{run}").click().run()
    assert runs.get_run(checkpoints, run).state.state == "stopped"
    next(b for b in app.button if b.label == "Resume").click().run()
    assert runs.get_run(checkpoints, run).state.state == "queued"
    app.text_input(key=f"name-{run}").set_value("other").run()
    app.button(key=f"rename-now-{run}").click().run()
    assert runs.get_run(checkpoints, run).name == "other"
    app.button(key=f"delete-now-{run}").click().run()
    assert runs.list_runs(checkpoints) == [] and "No runs yet" in texts(app)


def test_train_starts_what_the_form_says(checkpoints: Path) -> None:
    app = open_page("train")
    chosen: Any = app.get("button_group")[0]
    chosen.set_value("quick").run()
    field(app, "learning_rate").set_value("0.01").run()
    assert "--learning-rate 0.01" in app.code[0].value
    assert "back to 0.02" in [b.label for b in app.button]
    start(app).click().run()
    (run,) = runs.list_runs(checkpoints)
    assert run.config == preset("quick").with_values({"path": "demo", "learning_rate": 0.01})


def test_train_says_what_is_wrong_at_the_field(checkpoints: Path) -> None:
    app = open_page("train")
    for name, value, said in (
        ("learning_rate", "fast", "Expected a number"),
        ("sub_volume", "64,64", "Expected 3 values, got 2"),
        ("fold", 7, "Expected 0 to 4 with 5 folds, got 7"),
    ):
        field(app, name).set_value(value).run()
        assert not app.exception and said in texts(app), name
        assert "Please correct" in app.warning[0].value
        assert not [b for b in app.button if b.label == "Start training" and not b.disabled]
        next(b for b in app.button if b.label.startswith("back to") and f".{name}." in (b.key or "")).click().run()
        assert said not in texts(app)
    assert not start(app).disabled


def test_train_keeps_every_value_when_one_leaves_and_comes_back(checkpoints: Path) -> None:
    app = open_page("train")
    field(app, "learning_rate").set_value("0.01").run()
    field(app, "loss").set_value("dice").run()
    app.text_input(key="run_name").set_value("mine").run()
    app.switch_page(str(ROOT / "pages" / "runs.py")).run()
    app.switch_page(str(ROOT / "pages" / "train.py")).run()
    assert field(app, "learning_rate").value == "0.01" and field(app, "loss").value == "dice"
    assert app.text_input(key="run_name").value == "mine"


def test_train_has_a_field_for_every_option(checkpoints: Path) -> None:
    from core.config import field_specs

    app = open_page("train")
    for spec in field_specs():
        if spec.name != "path":
            assert field(app, spec.name).help.startswith(spec.help), spec.name


def test_train_on_real_data_says_what_will_happen(checkpoints: Path, own_data: Path, test_data: Path) -> None:
    (own_data / "hippo").symlink_to(test_data / "Task04_Hippocampus")
    app = open_page("train")
    app.selectbox(key="data").set_value("hippo").run()
    shown = "\n".join(e.proto.body for e in app.get("html"))
    assert "64 train, 16 choose the best epoch" in shown and "parameters" in shown


def test_data_offers_the_demo_data(checkpoints: Path) -> None:
    app = open_page("data")
    assert "Ten synthetic subjects" in texts(app)
    assert "Make the demo data" in [b.label for b in app.button]


def field(app: AppTest, name: str) -> Any:
    """The widget of a configuration field, whatever its kind."""
    for kind in ("text_input", "number_input", "selectbox", "toggle", "multiselect"):
        for widget in app.get(kind):
            if f".{name}." in (widget.key or "") and str(widget.key).startswith("form."):
                return widget
    raise AssertionError(f"no widget for {name}")


def start(app: AppTest) -> Any:
    return next(b for b in app.button if b.label == "Start training")
