"""Own files on the Review page, without a run: choice, refusals, names, scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from tests.support.app_pages import component_data, open_page, run_page, texts
from tests.support.background_jobs import poll
from tests.support.file_cases import SPACING, Files, write_case
from tests.support.volume_files import write_nifti

pytestmark = pytest.mark.slow
NAMES = "segmentation~1~label 10~segmentation~2~label 150"


@pytest.fixture
def files(empty_app: Path) -> Files:
    return write_case(empty_app / "own")


def open_files(**changes: str) -> AppTest:
    query = {"image": "own/scan.nii.gz", "reference": "own/drawn.nii.gz", "segmentation": "own/found.nii.gz"}
    return open_page("review", None, open="files", **{**query, **changes})


def errors(app: AppTest) -> str:
    return "\n".join(str(error.value) for error in app.error).replace("\\", "")


def test_files_of_the_address_are_shown_and_scored(files: Files) -> None:
    app = open_files(names=NAMES)
    shown = component_data(app, "layers")
    assert shown["rows"] == ["truth", "prediction", "errors"] and shown["layers"].keys() == {"truth", "prediction"}
    assert [c["name"] for c in shown["classes"]] == ["label 10", "label 150"] and not app.error
    assert "--segmentation-name=1=label 10" in app.code[0].value
    findings = poll(lambda: component_data(run_page(app), "layers")["findings"], interval_s=0.5)
    assert findings.startswith("api/volumes/")
    table = "\n".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]
    dice = (
        2
        * np.sum((files.truth == 10) & (files.prediction == 1))
        / np.sum((files.truth == 10) + (files.prediction == 1.0).astype(int))
    )
    assert f"{dice:.3f}" in table and "1.000" in table and not app.warning
    assert app.query_params["names"] == NAMES and app.query_params["open"] == "files"


@pytest.mark.long
def test_values_without_a_common_name_are_warned_of(files: Files) -> None:
    app = open_files()
    poll(lambda: component_data(run_page(app), "layers")["findings"], interval_s=0.5)
    warnings = texts(app)
    assert "label 10 of the reference lies where the segmentation has label 1: Dice" in warnings
    table = "\n".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]
    assert table.count("missed") == 4


@pytest.mark.long
def test_segmentation_of_another_grid_is_refused_and_the_reference_stays(files: Files) -> None:
    mirrored = SPACING @ np.diag([-1, 1, 1, 1])
    write_nifti(files.segmentation, files.prediction, mirrored)
    app = open_files()
    assert "The segmentation cannot be shown" in errors(app) and "mirrors it left-right" in errors(app)
    shown = component_data(app, "layers")
    assert shown["layers"].keys() == {"truth"} and shown["rows"] == ["image", "truth"]
    assert "Errors and scores need a segmentation" in texts(app)
    write_nifti(files.segmentation, (files.prediction * 0.4).astype(np.float32), SPACING)
    again = errors(open_files())
    assert "expected whole numbers as labels" in again
    write_nifti(files.image, np.zeros(files.truth.shape, np.float32), SPACING)
    assert "expected an image, got 0 in every voxel" in errors(open_files())


@pytest.mark.long
def test_files_are_chosen_on_the_page_and_are_in_the_address(files: Files) -> None:
    app = open_page("review", open="files")
    assert "Choose an image and one or two segmentations" in texts(app)
    run_page(app.multiselect(key="files_images").set_value(["own/scan.nii.gz"]))
    run_page(app.selectbox(key="files_segmentation").set_value("own/found.nii.gz"))
    shown = component_data(app, "layers")
    assert shown["layers"].keys() == {"prediction"} and shown["rows"] == ["image", "prediction"]
    assert app.query_params["image"] == "own/scan.nii.gz" and app.query_params["segmentation"] == "own/found.nii.gz"
    copied = open_page("review", None, **{key: str(value) for key, value in _query(app).items()})
    assert component_data(copied, "layers")["layers"] == shown["layers"]
    gone = open_files(reference="own/gone.nii.gz")
    assert any("There is no file called own/gone.nii.gz" in str(w.value).replace("\\", "") for w in gone.warning)


def _query(app: AppTest) -> dict[str, str]:
    return {key: str(app.query_params[key]) for key in ("open", "image", "segmentation")}
