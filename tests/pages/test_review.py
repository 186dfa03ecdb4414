"""The Review page without a browser: what it offers, which case it shows, and what it says when something is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.cli import main
from core.paths import demo_model_path
from tests.pages.test_pages import being_made, open_page, texts
from tests.support.balls import write_balls
from tests.support.run_folders import make_run


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "data"
    write_balls(root / "balls")
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(root))
    return root / "balls"


@pytest.fixture
def run(checkpoints: Path, data: Path, tmp_path: Path) -> str:
    """A run with a checkpoint of a network that was hardly trained."""
    from core.training.experiment import train_run
    from tests.support.balls import tiny

    id = make_run(checkpoints, "balls", path=str(data))
    train_run(tiny(path=str(data), epochs=1, whole_every=0), checkpoints / id, lambda event: None)
    return id


def component(app: AppTest, what: str) -> Any:
    found = [json.loads(e.proto.json or "{}") for e in app.get("bidi_component")]
    return next(d for d in found if what in d)


def test_a_case_that_is_not_segmented_offers_to_do_so(run: str) -> None:
    app = open_page("review", model=run)
    cases = component(app, "selected")
    assert [row["dice"] for row in cases["rows"]] == ["–"] * len(cases["rows"]) and cases["selected"]
    assert {"Segment this case", f"Segment all {len(cases['rows'])} cases that wait"} <= {b.label for b in app.button}


def test_a_kept_prediction_is_shown_with_its_scores_and_the_worst_case_comes_first(
    run: str, data: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", run, str(data), "--split", "all", "--keep", "--json"]) == 0
    scores = {s["id"]: sum(s["dice"].values()) / 2 for s in json.loads(capsys.readouterr().out)["subjects"]}
    app = open_page("review", model=run)
    app.segmented_control[0].set_value("all").run()
    cases = component(app, "selected")
    assert [row["id"] for row in cases["rows"]] == sorted(scores, key=lambda id: scores[id])
    scene = component(app, "grid")
    assert set(scene["layers"]) == {"truth", "prediction"} and scene["rows"] == ["truth", "prediction"]
    assert f"n = {len(scores)}" in texts(app)
    assert not [b.label for b in app.button if b.label.startswith("Segment")]


def test_going_to_the_next_case_keeps_the_model(run: str) -> None:
    app = open_page("review", model=run)
    before = app.session_state["case"]
    next(b for b in app.button if b.label == "Next").click().run()
    assert app.session_state["case"] != before and app.session_state["model"] == run


def test_a_damaged_checkpoint_is_one_clear_line(run: str, checkpoints: Path) -> None:
    for file in (checkpoints / run).glob("*.safetensors"):
        file.write_bytes(b"no checkpoint")
    app = open_page("review", model=run)
    assert "checkpoint" in app.error[0].value and not app.exception


def test_data_that_is_gone_leaves_other_data_to_choose(run: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    being_made(monkeypatch)
    shutil.rmtree(data)
    app = open_page("review", model=run)
    assert not app.exception and "the data it was trained on" not in app.selectbox[1].options


def test_without_any_model_it_says_what_to_do(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.shared.cache.demo_model_path", lambda: checkpoints / "nothing")
    app = open_page("review")
    assert "No model yet" in texts(app)


def test_the_ready_made_model_is_offered_on_first_start(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = being_made(monkeypatch)
    app = open_page("review")
    assert demo_model_path().is_file() and app.selectbox[0].value == "demo-model"
    assert started == ["subject-1"] and not app.exception
