"""The Learn page without a browser: before its subject is there, with it, with and without a model, and what fails."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.paths import project_root
from tests.support.learn_data import copy_demo, small_model
from ui.learn import jobs as learn_jobs
from ui.learn.chapters import chapters
from ui.shared import demo_jobs, jobs

FIGURES = ("counts", "block", "draws", "shapes", "shares", "stages", "grid")  # what only one of them is given
ROOT = project_root()


@pytest.fixture(autouse=True)
def data(tmp_path: Path, checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root, and no ready-made model."""
    root = tmp_path / "data"
    root.mkdir()
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(root))
    for module in ("core.paths", "ui.shared.cache"):
        monkeypatch.setattr(f"{module}.ready_made", lambda: tmp_path / "no-model.safetensors")
    return root


def open_page() -> AppTest:
    app = AppTest.from_file(str(ROOT / "ui" / "shell.py"), default_timeout=120).run()
    return again(app.switch_page(str(ROOT / "pages" / "learn.py")))


def again(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def until(app: AppTest, ready: Callable[[AppTest], object]) -> AppTest:
    """Run the page again, as its progress bars do, until something is there."""
    end = time.monotonic() + 120
    while not ready(app) and time.monotonic() < end:
        time.sleep(0.3)
        again(app)
    assert ready(app)
    return app


def figures(app: AppTest) -> dict[str, Any]:
    """Data of the figures by what is in it."""
    found = {}
    for element in app.get("bidi_component"):
        data = json.loads(element.proto.json or "{}")
        kind = next(
            (k for k in ("counts", "block", "draws", "shapes", "shares", "stages", "grid") if k in data), "other"
        )
        found[kind] = data
    return found


def texts(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.error, *app.info, *app.title, *app.header]
    return "\n".join(str(p.value) for p in parts).replace("\\", "")


def test_before_there_is_a_subject_it_is_made_and_what_needs_none_is_there(data: Path) -> None:
    app = open_page()
    assert [h.value for h in app.header] == [f"{n}  {t}" for n, (t, _) in enumerate(chapters().values(), start=1)]
    assert texts(app).count("This figure needs the synthetic subject") == 2
    shown = figures(app)
    assert set(shown) == {"block", "shapes", "shares", "stages"}
    assert shown["block"]["block"] is None and len(shown["shapes"]["shapes"]) == 1
    assert shown["stages"]["maps"] is None
    assert [s["channels"] for s in shown["stages"]["stages"]] == [2, 64, 128, 256, 512, 256, 128, 64, 4, 4]
    assert "19,074,724 parameters" in texts(app), "the article's network"
    until(app, lambda a: "counts" in figures(a))
    assert (data / "demo" / "subject-1-label.img").is_file() and not (data / "demo" / "subject-2-label.img").exists()


def test_with_the_subject_and_no_model_it_says_how_to_get_one(
    data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy_demo(tmp_path_factory, data)
    app = until(open_page(), lambda a: "draws" in figures(a))
    assert set(figures(app)) == {"counts", "grid", "block", "draws", "shapes", "shares", "stages"}
    assert "needs the synthetic subject" not in texts(app)
    assert "% from T1" in texts(app) and "% from both are right" in texts(app)
    assert (
        "the ready-made one is not here" in texts(app)
        and app.code[0].value == "python -m core train demo --preset quick"
    )
    drawn = figures(app)["draws"]
    assert [s["name"] for s in drawn["sizes"]] == ["64 × 64 × 64", "128 × 128 × 64, the article's"]
    assert [rule["foreground"] for rule in drawn["rules"]] == [0.0, 0.33, 0.9]
    for size, of_size in zip(([64, 64, 64], [128, 128, 64]), drawn["draws"], strict=True):
        assert [(d["sub_volume"], d["foreground"]) for d in of_size] == [(size, 0.0), (size, 0.33), (size, 0.9)]
    (round_one, *real) = figures(app)["shapes"]["shapes"]
    assert round_one["name"] == "round" and len(real) == 3


def test_with_a_model_its_maps_are_computed_and_shown(
    data: Path, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy_demo(tmp_path_factory, data)
    small_model(checkpoints, "my <b>net</b>")
    app = open_page()
    assert figures(app)["stages"]["maps"] is None and len(figures(app)["stages"]["stages"]) == 8
    until(app, lambda a: figures(a)["stages"]["maps"])
    shown = figures(app)["stages"]
    assert shown["maps"].startswith("/api/volumes/") and [c["name"] for c in shown["classes"]][1:] == [
        "CSF",
        "GM",
        "WM",
    ]
    assert [(s["name"], len(s["maps"])) for s in shown["stages"]] == [
        ("input", 2), ("encoder-0", 4), ("encoder-1", 8), ("bottleneck", 16), ("decoder-1", 8), ("decoder-0", 4),
        ("logits", 4), ("softmax", 4),
    ]  # fmt: skip
    assert "The model has not learned from this subject." in texts(app)
    assert "my <b>net</b>: unet3d" in texts(app)
    assert any("my \\<b\\>net" in c.value for c in app.caption), "a name is text"


def test_a_model_chosen_elsewhere_for_other_data_does_not_matter_here(
    data: Path, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy_demo(tmp_path_factory, data)
    model = small_model(checkpoints)
    app = AppTest.from_file(str(ROOT / "ui" / "shell.py"), default_timeout=120).run()
    app.session_state["model"] = "another-model"
    again(app.switch_page(str(ROOT / "pages" / "learn.py")))
    assert app.selectbox(key="model").value == model.parent.name


def test_a_folder_that_cannot_hold_the_subject_says_so_and_another_try_is_offered(data: Path) -> None:
    (data / "demo").mkdir()
    (data / "demo" / "holiday.jpg").write_bytes(b"x")
    app = until(open_page(), lambda a: list(a.error))
    assert "holiday.jpg" in app.error[0].value.replace("\\", "")
    assert set(figures(app)) == {"block", "shapes", "shares", "stages"}
    (data / "demo" / "holiday.jpg").unlink()
    next(b for b in app.button if b.label == "Try again").click()
    assert not again(app).error and demo_jobs.demo_subject("subject-1").state == "running"


def test_a_model_that_cannot_be_read_is_left_out_and_one_that_cannot_be_used_says_why(
    data: Path, checkpoints: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_demo(tmp_path_factory, data)
    broken = small_model(checkpoints, "broken")
    broken.write_bytes(b"nothing")
    assert "the ready-made one is not here" in texts(open_page())
    small_model(checkpoints, "whole")
    monkeypatch.setattr(learn_jobs, "features", lambda folder: jobs.Job("failed", message="no *memory* left"))
    app = open_page()
    assert any("no \\*memory\\* left" in e.value for e in app.error)
