"""The Predict page without a browser: choice of model and images, states of a result, failures."""

from __future__ import annotations

import io
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core.checkpointing.training_spacing import TrainingSpacing
from core.cli import main
from tests.support.app_pages import (
    button,
    button_labels,
    choose,
    click,
    component_data,
    hide_demo_model,
    open_page,
    run_page,
    simulate_demo_subject,
    texts,
)
from tests.support.background_jobs import wait_for_job
from tests.support.balls import balls, untrained_run, write_balls
from tests.support.heads import head, write_heads
from tests.support.learn_data import link_demo_subject
from tests.support.volume_files import write_nifti
from ui.predict import batches, segmentations
from ui.shared import jobs

AFFINE = np.diag([1.0, 1.0, 1.5, 1.0])


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data root, and no ready-made model."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(data))
    hide_demo_model(monkeypatch)
    return data


@pytest.fixture
def run_id(checkpoints: Path) -> str:
    return untrained_run(checkpoints, "balls & <b>co</b>", ("M0",), dataset={"name": "Balls"})


@pytest.fixture
def two_modalities(checkpoints: Path) -> str:
    return untrained_run(checkpoints, "two", ("T1", "T2"))


def from_files(app: AppTest, *paths: Path) -> AppTest:
    choose(app, "Images", "Files here")
    return run_page(app.multiselect(key="predict_files").set_value(list(paths)))


def result_of(app: AppTest) -> str:
    """Id of the result in the URL."""
    return str(app.query_params["result"])


def wait(app: AppTest) -> AppTest:
    """Wait for the child process, and run the page again."""
    wait_for_job(lambda: segmentations.observe(result_of(app)))
    return run_page(app)


@pytest.mark.slow
def test_without_a_model_a_file_can_be_chosen(checkpoints: Path) -> None:
    app = open_page("predict")
    assert "No model has been trained yet" in texts(app) and button(app, "Segment").disabled


def test_model_shows_its_modalities_and_nothing_starts_without_images(run_id: str) -> None:
    app = open_page("predict")
    assert "M0 to bright, dark; trained on Balls" in texts(app)
    assert button(app, "Segment").disabled and "Choose a model and the images" in texts(app)
    assert app.query_params["model"] == run_id
    assert not [b for b in app.button if b.label.startswith("Try it on")], "the network is not for T1 and T2"


@pytest.mark.long
@pytest.mark.slow
def test_server_file_is_segmented_as_by_the_command(
    run_id: str, own_data: Path, tmp_path: Path, checkpoints: Path
) -> None:
    scan = write_nifti(own_data / "some" / "where.nii.gz", balls(50)[0][0], AFFINE)
    app = from_files(open_page("predict"), scan)
    click(app, "Segment")
    wait(app)
    id = result_of(app)
    out = tmp_path / "by-command.nii.gz"
    assert main(["predict", run_id, str(scan), "--out", str(out)]) == 0
    assert segmentations.output(id).read_bytes() == out.read_bytes()
    data = component_data(app, "layers")
    assert data["rows"] == ["image", "prediction"] and data["layers"].keys() == {"prediction"}
    assert [c["name"] for c in data["classes"]] == ["bright", "dark"]
    shown = "\n".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]
    report = segmentations.report(id)
    assert f"{report['volume_ml']['bright']:,.1f} ml" in shown and "where.nii.gz" in shown
    assert "Sliding window" in shown and "cpu, fp32" in shown
    assert f"predict {run_id} {scan} --out where-segmentation.nii.gz" in app.code[0].value
    again = open_page("predict", result=id)
    assert [c.value for c in again.code] == [c.value for c in app.code], "the URL opens it again"
    click(app, "Remove")
    assert "result" not in app.query_params and segmentations.read(id) is None
    assert "no longer kept" in texts(open_page("predict", result=id)) and scan.is_file()


@pytest.mark.long
@pytest.mark.slow
def test_other_voxel_size_is_warned_of_and_resampled_on_request(checkpoints: Path, own_data: Path) -> None:
    sizes = TrainingSpacing.of([(1.0, 1.0, 1.5)]).to_json()
    run = untrained_run(checkpoints, "fine", ("M0",), dataset={"name": "Balls", "spacing_mm": sizes})
    scan = write_nifti(own_data / "coarse.nii.gz", balls(50)[0][0], np.diag([3.0, 3.0, 4.5, 1.0]))
    app = from_files(open_page("predict", model=run), scan)
    assert "The voxels are 3 x 3 x 4.5 mm, those of training 1 x 1 x 1.5 mm" in texts(app)
    click(app, "Segment")
    wait(app)
    assert texts(app).count("The voxels are 3 x 3 x 4.5 mm") == 2, "beside the images and beside the result"
    run_page(app.checkbox(key="predict_resample").check())
    click(app, "Segment")
    wait(app)
    id = result_of(app)
    assert texts(app).count("The voxels are 3 x 3 x 4.5 mm") == 1
    assert segmentations.report(id)["resampled_mm"] == [1.0, 1.0, 1.5]
    assert "--resample" in app.code[0].value
    shown = "\n".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]
    assert "at voxels of 1 × 1 × 1.5 mm" in shown


def test_image_of_the_voxel_size_of_training_has_no_warning(checkpoints: Path, own_data: Path) -> None:
    sizes = TrainingSpacing.of([(1.0, 1.0, 1.5)]).to_json()
    run = untrained_run(checkpoints, "fine", ("M0",), dataset={"name": "Balls", "spacing_mm": sizes})
    scan = write_nifti(own_data / "scan.nii.gz", balls(50)[0][0], AFFINE)
    app = from_files(open_page("predict", model=run), scan)
    assert not app.warning and not app.checkbox


@pytest.mark.slow
def test_model_in_the_url_is_found_by_name_beside_a_longer_one(checkpoints: Path) -> None:
    base, longer = (untrained_run(checkpoints, name, ("M0",)) for name in ("base", "base2"))
    assert open_page("predict", model="base").session_state["model"] == base
    assert open_page("predict", model="base2").session_state["model"] == longer
    assert open_page("predict", model=longer[:-1]).session_state["model"] == longer


@pytest.mark.long
@pytest.mark.slow
def test_unusable_image_is_reported_in_one_line(run_id: str, own_data: Path) -> None:
    scan = own_data / "broken.nii"
    write_nifti(scan, np.full((20, 24, 18), np.nan, np.float32), AFFINE)
    (own_data / "text.nii").write_text("nothing")
    app = from_files(open_page("predict"), scan)
    click(app, "Segment")
    wait(app)
    (error,) = app.error
    assert "expected finite intensities" in error.value and "Traceback" not in error.value
    assert {"Try again", "Close"} <= set(button_labels(app))
    write_nifti(scan, balls(51)[0][0], AFFINE)
    click(app, "Try again")
    assert not wait(app).error
    from_files(app, own_data / "text.nii")
    assert "text.nii" in texts(app) and "the file is cut off" in texts(app) and button(app, "Segment").disabled
    assert "Accepted: NIfTI (.nii, .nii.gz) and NIfTI or Analyze pairs" in texts(app)
    from_files(app, own_data / "text.nii", scan)
    assert button(app, "Segment").disabled, "one of the chosen files is unfit"


def test_segmentation_can_be_cancelled(run_id: str, own_data: Path) -> None:
    scan = write_nifti(own_data / "scan.nii", balls(52)[0][0], AFFINE)
    app = from_files(open_page("predict"), scan)
    click(app, "Segment")
    id = result_of(app)
    assert segmentations.observe(id).state == "running"
    click(app, "Cancel")
    assert not app.exception and "result" not in app.query_params
    assert not jobs.is_running(segmentations._job_folder(id)) and segmentations.read(id) is None


def test_interrupted_segmentation_is_reported(run_id: str, own_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = write_nifti(own_data / "scan.nii", balls(53)[0][0], AFFINE)
    app = from_files(open_page("predict"), scan)
    monkeypatch.setattr(jobs, "start", lambda folder, arguments: None)  # as after a crash of the server
    click(app, "Segment")
    assert "It was interrupted" in app.error[0].value and button(app, "Try again")


@pytest.fixture
def no_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "start", lambda folder, arguments: None)


@pytest.mark.slow
@pytest.mark.usefixtures("no_child_processes")
def test_ambiguous_images_are_assigned_by_the_user(checkpoints: Path, own_data: Path, two_modalities: str) -> None:
    a, b = (write_nifti(own_data / name, balls(54)[0][0], AFFINE) for name in ("a.nii", "s_T2.nii"))
    four = write_nifti(own_data / "all.nii", np.stack([balls(54)[0][0]] * 3, axis=-1), AFFINE)
    app = from_files(open_page("predict"), a, b)
    assert [s.label for s in app.selectbox][-2:] == ["Which image is T1?", "T2"]
    assert app.selectbox[-1].value == "s_T2.nii" and app.selectbox[-2].value is None
    assert button(app, "Segment").disabled
    app.selectbox[-2].set_value("s_T2.nii").run()
    assert "One image is chosen for two modalities" in texts(app) and button(app, "Segment").disabled
    app.selectbox[-2].set_value("a.nii").run()
    assert not button(app, "Segment").disabled
    from_files(app, four)
    assert app.selectbox[-1].options == [f"all.nii, channel {n}" for n in (1, 2, 3)]
    assert app.selectbox[-1].value is None and button(app, "Segment").disabled
    app.selectbox[-2].set_value("all.nii, channel 3").run()
    app.selectbox[-1].set_value("all.nii, channel 1").run()
    click(app, "Segment")
    request = segmentations.read(result_of(app))
    assert request is not None and request.channels == (3, 1) and "--channels 3,1" in request.command


@pytest.mark.slow
@pytest.mark.usefixtures("no_child_processes")
def test_a_modality_may_be_missing_where_the_model_learned_it(checkpoints: Path, own_data: Path) -> None:
    untrained_run(checkpoints, "lacking", ("T1", "T2"), config={"modality_dropout": 0.3, "modality_indicator": True})
    scan = write_nifti(own_data / "s_T2.nii", balls(54)[0][0], AFFINE)
    app = from_files(open_page("predict"), scan)
    assert [s.value for s in app.selectbox][-2:] == ["There is none", "s_T2.nii"]
    click(app, "Segment")
    request = segmentations.read(result_of(app))
    assert request is not None
    assert (request.modalities, request.without, request.paths) == (("T2",), ("T1",), [scan])
    assert request.options == ["--without", "T1"] and f"{scan} --without T1 --out" in request.command
    app = from_files(open_page("predict"), scan)
    app.selectbox[-1].set_value("There is none").run()
    assert button(app, "Segment").disabled and "Choose at least one image." in [
        warning.value for warning in app.warning
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("no_child_processes")
def test_subjects_without_a_modality_are_cases_where_the_model_learned_it(checkpoints: Path, own_data: Path) -> None:
    untrained_run(checkpoints, "lacking", ("T1", "T2"), config={"modality_dropout": 0.3})
    for name in ("subject-1-T2", "subject-2-T1", "subject-2-T2"):
        write_nifti(own_data / "set" / f"{name}.nii.gz", balls(54)[0][0], AFFINE)
    app = choose(open_page("predict"), "Images", "Data set")
    app.selectbox(key="predict_data").set_value("set").run()
    app.multiselect(key="predict_subject").set_value(["subject-1", "subject-2"]).run()
    click(app, "Segment 2 cases")
    started = {name: segmentations.read(id) for name, id in batches.read(result_of(app)).items()}
    assert {name: (r.modalities, r.without) for name, r in started.items() if r is not None} == {
        "subject-1": (("T2",), ("T1",)),
        "subject-2": (("T1", "T2"), ()),
    }


@pytest.mark.slow
@pytest.mark.usefixtures("no_child_processes")
def test_files_of_subjects_without_a_modality_are_cases_where_the_model_learned_it(
    checkpoints: Path, own_data: Path
) -> None:
    untrained_run(checkpoints, "lacking", ("T1", "T2"), config={"modality_dropout": 0.3})
    names = ["sub-1_T1w.nii", "sub-1_T2w.nii", "sub-2_T2w.nii"]
    app = from_files(open_page("predict"), *(write_nifti(own_data / name, balls(56)[0][0], AFFINE) for name in names))
    assert "2 cases: sub-1, sub-2" in texts(app) and "sub-2 without T1." in texts(app)
    assert "Left out" not in texts(app)
    click(app, "Segment 2 cases")
    started = {name: segmentations.read(id) for name, id in batches.read(result_of(app)).items()}
    assert {name: (r.modalities, r.without) for name, r in started.items() if r is not None} == {
        "sub-1": (("T1", "T2"), ()),
        "sub-2": (("T2",), ("T1",)),
    }


def test_images_of_a_data_set_subject_are_assigned_automatically(run_id: str, own_data: Path) -> None:
    write_balls(own_data / "balls")
    app = open_page("predict")
    choose(app, "Images", "Data set")
    app.selectbox(key="predict_data").set_value("balls").run()
    app.multiselect(key="predict_subject").set_value(["ball_3"]).run()
    click(app, "Segment")
    request = segmentations.read(result_of(app))
    assert request is not None and [path.name for path in request.paths] == ["ball_3.nii.gz"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_child_processes")
def test_result_is_marked_as_an_earlier_one_once_another_image_is_chosen(run_id: str, own_data: Path) -> None:
    first, second = (write_nifti(own_data / f"{name}.nii", balls(55)[0][0], AFFINE) for name in "ab")
    app = click(from_files(open_page("predict"), first), "Segment")
    assert "An earlier result" not in texts(app)
    assert "An earlier result" in texts(from_files(app, second))
    assert "An earlier result" not in texts(from_files(app, first))


@pytest.mark.long
@pytest.mark.slow
def test_several_subjects_are_segmented_with_one_click(run_id: str, own_data: Path) -> None:
    write_balls(own_data / "balls")
    app = choose(open_page("predict"), "Images", "Data set")
    app.selectbox(key="predict_data").set_value("balls").run()
    app.multiselect(key="predict_subject").set_value(["ball_1", "ball_2"]).run()
    click(app, "Segment 2 cases")
    cases = batches.read(result_of(app))
    assert list(cases) == ["ball_1", "ball_2"] and "Cancel all" in button_labels(app)
    for case in cases.values():
        wait_for_job(partial(segmentations.observe, case))
    run_page(app)
    assert not app.error and app.selectbox(key=f"predict_case-{result_of(app)}").value == "ball_1"
    table = app.dataframe[0].value
    assert list(table["state"]) == ["done", "done"] and (table["bright (ml)"] >= 0).all()
    with zipfile.ZipFile(io.BytesIO(batches.archive(result_of(app)))) as archive:
        assert archive.namelist() == ["ball_1-segmentation.nii.gz", "ball_2-segmentation.nii.gz"]
        assert archive.read(archive.namelist()[0]) == segmentations.output(cases["ball_1"]).read_bytes()
    click(app, "Remove all")
    assert "result" not in app.query_params and segmentations.read(cases["ball_2"]) is None


@pytest.mark.slow
@pytest.mark.usefixtures("no_child_processes")
def test_files_of_several_subjects_become_cases_by_their_names(own_data: Path, two_modalities: str) -> None:
    names = ["sub-1_T1w.nii", "sub-1_T2w.nii", "sub-2_T1w.nii", "sub-2_T2w.nii", "sub-3_T1w.nii"]
    files = [write_nifti(own_data / name, balls(56)[0][0], AFFINE) for name in names]
    app = from_files(open_page("predict"), *files)
    assert "2 cases: sub-1, sub-2" in texts(app)
    assert "Left out: sub-3_T1w.nii (sub-3 needs one T2)" in texts(app)
    assert not button(app, "Segment 2 cases").disabled
    write_nifti(files[1], balls(56)[0][0][:-1], AFFINE)
    run_page(app)
    assert "does not fit the first image" in texts(app) and button(app, "Segment").disabled


@pytest.mark.slow
@pytest.mark.usefixtures("no_child_processes")
def test_other_names_of_modalities_are_assigned_once_for_all_subjects(own_data: Path, two_modalities: str) -> None:
    write_heads(own_data / "heads", 3, modality={"0": "first", "1": "second"}, numberOfTraining=3)
    for case in (own_data / "heads" / "imagesTr").iterdir():
        image = head(1)[0]
        write_nifti(case, np.stack([image, image], axis=-1), np.eye(4))
    app = choose(open_page("predict"), "Images", "Data set")
    app.selectbox(key="predict_data").set_value("heads").run()
    app.multiselect(key="predict_subject").set_value(["case_1", "case_2"]).run()
    assert button(app, "Segment").disabled
    app.selectbox[-2].set_value("second").run()
    app.selectbox[-1].set_value("first").run()
    click(app, "Segment 2 cases")
    requests = [segmentations.read(case) for case in batches.read(result_of(app)).values()]
    assert [r.channels for r in requests if r is not None] == [(2, 1), (2, 1)]


@pytest.mark.slow
def test_demo_subject_is_made_and_segmented_after_one_click(
    checkpoints: Path, own_data: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = {"dataset": {"name": "demo", "synthetic": True}, "split": {"test": ["subject-1"]}}
    untrained_run(checkpoints, "demo", ("T1", "T2"), **description)
    made = simulate_demo_subject(monkeypatch)
    segmented: list[list[str]] = []
    monkeypatch.setattr(
        "ui.predict.jobs.start", lambda folder, checkpoint, images, *_: segmented.append([p.name for p in images])
    )
    app = click(open_page("predict"), "Try it on the synthetic subject-1")
    assert made == ["subject-1"] and "result" not in app.query_params
    link_demo_subject(tmp_path_factory, own_data)
    run_page(app)
    assert "result" in app.query_params and segmented == [["subject-1-T1.nii.gz", "subject-1-T2.nii.gz"]]
    assert "subject-1-T1.nii.gz, subject-1-T2.nii.gz (synthetic)" in texts(app)
