"""The Predict page without a browser: nothing yet, what is asked for, at work, done, failed, gone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core.cli import main
from core.paths import demo_folder, project_root
from tests.support.balls import balls, untrained_run, write_balls
from tests.support.volume_files import write_nifti
from ui.predict import segmentations
from ui.shared import jobs

ROOT = project_root()
AFFINE = np.diag([1.0, 1.0, 1.5, 1.0])


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root, and no model but those that a test makes."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(data))
    for module in ("ui.shared.cache", "core.runs.catalog"):
        monkeypatch.setattr(f"{module}.demo_model_path", lambda: tmp_path / "no" / "model.safetensors")
    return data


@pytest.fixture
def run_id(checkpoints: Path) -> str:
    return untrained_run(checkpoints, "balls & <b>co</b>", ("M0",), dataset={"name": "Balls"})


@pytest.fixture
def two_modalities(checkpoints: Path) -> str:
    return untrained_run(checkpoints, "two", ("T1", "T2"))


def open_page(**query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "ui" / "shell.py"), default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.run().switch_page(str(ROOT / "pages" / "predict.py")).run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def texts(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.error, *app.warning, *app.info, *app.title]
    return "\n".join(str(p.value) for p in parts).replace("\\", "")


def control(app: AppTest, label: str) -> Any:
    groups: list[Any] = list(app.get("button_group"))
    return next(group for group in groups if group.label == label)


def button(app: AppTest, label: str) -> Any:
    return next(b for b in app.button if b.label == label)


def from_files(app: AppTest, *paths: Path) -> AppTest:
    control(app, "Images").set_value("Files here").run()
    app.multiselect(key="predict_files").set_value(list(paths)).run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def result_of(app: AppTest) -> str:
    """The name of the result in the address."""
    return str(app.query_params["result"])


def wait(app: AppTest) -> AppTest:
    """Until the child process has ended, and the page drawn again."""
    id = result_of(app)
    end = time.monotonic() + 120
    while segmentations.observe(id).state == "running" and time.monotonic() < end:
        time.sleep(0.1)
    app.run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def test_without_a_model_it_asks_for_a_file(checkpoints: Path) -> None:
    app = open_page()
    assert "No model was trained yet" in texts(app) and button(app, "Segment").disabled


def test_a_model_says_what_it_needs_and_nothing_starts_without_images(run_id: str) -> None:
    app = open_page()
    assert "M0 to bright, dark; trained on Balls" in texts(app)
    assert button(app, "Segment").disabled and "Choose a model and the images" in texts(app)
    assert app.query_params["model"] == run_id
    assert not [b for b in app.button if b.label.startswith("Try it on")], "the demo is no help to a network of balls"


def test_an_image_here_is_segmented_as_the_command_does(
    run_id: str, own_data: Path, tmp_path: Path, checkpoints: Path
) -> None:
    scan = write_nifti(own_data / "some" / "where.nii.gz", balls(50)[0][0], AFFINE)
    app = from_files(open_page(), scan)
    button(app, "Segment").click().run()
    wait(app)
    id = result_of(app)
    out = tmp_path / "by-command.nii.gz"
    assert main(["predict", run_id, str(scan), "--out", str(out)]) == 0
    assert segmentations.output(id).read_bytes() == out.read_bytes()
    data = next(
        d
        for e in app.get("bidi_component")
        if "layers" in (d := json.loads(e.proto.json or "{}"))  # type: ignore[attr-defined]
    )
    assert data["rows"] == ["image", "prediction"] and data["layers"].keys() == {"prediction"}
    assert [c["name"] for c in data["classes"]] == ["bright", "dark"]
    shown = "\n".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]
    report = segmentations.report(id)
    assert f"{report['volume_ml']['bright']:,.1f} ml" in shown and "where.nii.gz" in shown
    assert "joined sub-volumes" in shown and "cpu, fp32" in shown
    assert f"predict {run_id} {scan} --out where-segmentation.nii.gz" in app.code[0].value
    again = open_page(result=id)
    assert [c.value for c in again.code] == [c.value for c in app.code], "the address opens it again"
    button(app, "Remove").click().run()
    assert "result" not in app.query_params and segmentations.read(id) is None
    assert "no longer here" in texts(open_page(result=id)) and scan.is_file()


def test_what_is_wrong_with_an_image_is_said_in_one_line(run_id: str, own_data: Path) -> None:
    scan = own_data / "broken.nii"
    write_nifti(scan, np.full((20, 24, 18), np.nan, np.float32), AFFINE)
    (own_data / "text.nii").write_text("nothing")
    app = from_files(open_page(), scan)
    button(app, "Segment").click().run()
    wait(app)
    (error,) = app.error
    assert "expected finite intensities" in error.value and "Traceback" not in error.value
    assert {"Try again", "Close"} <= {b.label for b in app.button}
    write_nifti(scan, balls(51)[0][0], AFFINE)
    button(app, "Try again").click().run()
    assert not wait(app).error
    from_files(app, own_data / "text.nii")
    assert "text.nii" in texts(app) and "the file is cut off" in texts(app) and button(app, "Segment").disabled


def test_a_segmentation_can_be_cancelled(run_id: str, own_data: Path) -> None:
    scan = write_nifti(own_data / "scan.nii", balls(52)[0][0], AFFINE)
    app = from_files(open_page(), scan)
    button(app, "Segment").click().run()
    id = result_of(app)
    assert segmentations.observe(id).state == "running"
    button(app, "Cancel").click().run()
    assert not app.exception and "result" not in app.query_params
    assert not jobs.is_running(segmentations._job(segmentations._root() / id)) and segmentations.read(id) is None


def test_work_that_was_broken_off_says_so(run_id: str, own_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = write_nifti(own_data / "scan.nii", balls(53)[0][0], AFFINE)
    app = from_files(open_page(), scan)
    monkeypatch.setattr(jobs, "_start", lambda folder, arguments: None)  # a server that died before the child began
    button(app, "Segment").click().run()
    assert "It was broken off" in app.error[0].value and button(app, "Try again")


def test_several_images_are_never_guessed(checkpoints: Path, own_data: Path, two_modalities: str) -> None:
    a, b = (write_nifti(own_data / name, balls(54)[0][0], AFFINE) for name in ("a.nii", "s_T2.nii"))
    four = write_nifti(own_data / "all.nii", np.stack([balls(54)[0][0]] * 3, axis=-1), AFFINE)
    app = from_files(open_page(), a, b)
    assert [s.label for s in app.selectbox][-2:] == ["Which image is T1?", "T2"]
    assert app.selectbox[-1].value == "s_T2.nii" and app.selectbox[-2].value is None
    assert button(app, "Segment").disabled
    app.selectbox[-2].set_value("s_T2.nii").run()
    assert "One image stands for two modalities" in texts(app) and button(app, "Segment").disabled
    app.selectbox[-2].set_value("a.nii").run()
    assert not button(app, "Segment").disabled
    from_files(app, four)
    assert app.selectbox[-1].options == [f"all.nii, channel {n}" for n in (1, 2, 3)]
    assert app.selectbox[-1].value is None and button(app, "Segment").disabled
    app.selectbox[-2].set_value("all.nii, channel 3").run()
    app.selectbox[-1].set_value("all.nii, channel 1").run()
    button(app, "Segment").click().run()
    wait(app)
    assert "--channels 3,1" in app.code[0].value


def test_a_subject_of_a_data_set_needs_no_question(run_id: str, own_data: Path) -> None:
    write_balls(own_data / "balls")
    app = open_page()
    control(app, "Images").set_value("Data set").run()
    app.selectbox(key="predict_data").set_value("balls").run()
    app.selectbox(key="predict_subject").set_value("ball_3").run()
    button(app, "Segment").click().run()
    wait(app)
    assert not app.error and "ball_3.nii.gz" in texts(app)


@pytest.mark.slow
def test_the_demo_subject_is_made_and_segmented_with_one_click(checkpoints: Path, own_data: Path) -> None:
    untrained_run(
        checkpoints, "demo", ("T1", "T2"), dataset={"name": "demo", "synthetic": True}, split={"test": ["subject-3"]},
        inference={"mode": "tiles", "tile": [96, 96, 96]},
    )  # fmt: skip
    app = open_page()
    button(app, "Try it on the synthetic subject-3").click().run()
    end = time.monotonic() + 120
    while "result" not in app.query_params and time.monotonic() < end:
        time.sleep(0.5)
        app.run()
    assert len(list(demo_folder().glob("subject-3-*"))) == 6
    wait(app)
    assert not app.error and "subject-3-T1.hdr, subject-3-T2.hdr" in texts(app)
