"""Own DICOM files on the Review page: the choice of a series, and of a segmentation, in a folder that holds several."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core.cli import main
from core.datasets.file_case import image_refs
from tests.support.app_pages import component_data, open_page, run_page, texts
from tests.support.dicom_labels import write_case, write_seg
from tests.support.foreign_volumes import oblique_affine, phantom

pytestmark = pytest.mark.slow

SHAPE, AFFINE = (6, 7, 5), oblique_affine()
IMAGES = "files_in_folder-image-study"


@pytest.fixture
def study(empty_app: Path) -> Path:
    """A folder with two series on one grid and two segmentations of the first; and a folder with one alone."""
    folder = empty_app / "study"
    for number, name in enumerate(("T1 axial", "FLAIR"), 3):
        series = write_case(
            folder / name, phantom(SHAPE), AFFINE, f"1.{number}", SeriesDescription=name, SeriesNumber=number
        )
        for file in [*series.iterdir()]:
            file.rename(folder / f"{number}-{file.name}")
        series.rmdir()
    mask = np.zeros(SHAPE, bool)
    mask[1:4, 2:5, 1:3] = True
    write_seg(folder / "seg-a.dcm", {"tumour": mask}, AFFINE, "1.3")
    write_seg(folder / "seg-b.dcm", {"tumour": np.roll(mask, 1, axis=0)}, AFFINE, "1.3")
    write_seg(empty_app / "drawn" / "one.dcm", {"tumour": mask}, AFFINE, "1.3")
    return folder


def first_of(study: Path, number: int) -> str:
    return min(p.name for p in study.glob(f"{number}-*"))


def test_one_entry_is_offered_for_each_series_and_segmentation(study: Path) -> None:
    app = open_page("review", open="files", image="study", reference="study")
    offered = app.multiselect(key=IMAGES)
    assert offered.label.replace("\\", "") == "Series in study/ (DICOM)"
    assert offered.options == ["MR 3 T1 axial · 5 slices", "MR 4 FLAIR · 5 slices"]
    assert "Choose an image" in texts(app) and not app.error
    run_page(offered.set_value([first_of(study, 4), first_of(study, 3)]))
    labels = app.selectbox(key="files_in_folder-reference-study-one")
    assert [o.split(" · ")[-1] for o in labels.options] == ["seg-a.dcm", "seg-b.dcm", "5 slices", "5 slices"]
    assert labels.options[0] == "SEG · tumour · seg-a.dcm"
    run_page(labels.set_value("seg-b.dcm"))
    shown = component_data(app, "layers")
    assert shown["layers"].keys() == {"truth"} and [c["name"] for c in shown["classes"]] == ["tumour"]
    images = f"study/{first_of(study, 4)}~study/{first_of(study, 3)}"
    assert app.query_params["image"] == images and app.query_params["reference"] == "study/seg-b.dcm"
    assert not app.error


def test_the_address_of_a_choice_shows_the_same(study: Path) -> None:
    query = {"image": f"study/{first_of(study, 3)}", "reference": "study/seg-a.dcm", "segmentation": "drawn"}
    app = open_page("review", None, open="files", **query)
    shown = component_data(app, "layers")
    assert not app.error and not app.warning
    assert shown["layers"].keys() == {"truth", "prediction"}
    assert {key: app.query_params[key] for key in query} == query
    command = app.code[0].value
    assert f"/study/{first_of(study, 3)}" in command and "/study/seg-a.dcm" in command
    run_page(app.multiselect(key=IMAGES).set_value([]))
    assert "Choose an image" in texts(app) and app.query_params["image"] == "study"
    gone = _open(reference="study/gone.dcm")
    assert not gone.exception and gone.selectbox(key="files_reference").value == "study"


def _open(**query: str) -> AppTest:
    return open_page("review", None, open="files", image="study", **query)


def test_the_command_takes_a_file_of_the_series_that_is_meant(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["review", "files", str(study / first_of(study, 3)), str(study / first_of(study, 4))]
    arguments += [f"--reference={study / 'seg-a.dcm'}", f"--segmentation={study / 'seg-b.dcm'}", "--json"]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    (tumour,) = report["classes"]
    assert report["score"]["dice"][tumour["name"]] == pytest.approx(2 / 3)
    assert list(image_refs([study / first_of(study, 4), study / first_of(study, 3)])) == ["FLAIR", "T1 axial"]
    assert main(["review", "files", str(study), f"--reference={study / 'seg-a.dcm'}"]) == 1
    message = capsys.readouterr().err
    assert "expected one image, got 2 images: 5 slices 'T1 axial'" in message and "name a file of the image" in message
