"""Reasons against training on the Train page, the choice to go on, and options of reading chosen on the Data page."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from core import runs
from core.datasets import DataOptions
from core.datasets.doctor import check
from core.strict_json import dumps
from tests.support.app_pages import button, click, open_page, texts
from tests.support.heads import list_cases, listed_cases, write_heads
from tests.support.volume_files import make_nnunet, voxels, write_nifti
from ui.data import doctor_job
from ui.shared import jobs


@pytest.fixture
def unlabelled(empty_app: Path) -> Path:
    """A data set with an entry without a label map."""
    folder = write_heads(empty_app / "heads")
    *cases, last = listed_cases(folder)
    return list_cases(folder, [*cases, {"image": last["image"]}])


def errors(app: AppTest) -> str:
    return "\n".join(e.value for e in app.error)


def write_report(folder: Path) -> None:
    """Write the report that the Data page would make."""
    options = DataOptions()
    place = doctor_job.report_folder(folder, options)
    place.mkdir(parents=True)
    (place / jobs.REPORT).write_text(dumps(check(folder, options=options).to_json()))


@pytest.mark.slow
@pytest.mark.usefixtures("unlabelled")
def test_unfit_data_is_trained_on_only_on_request(checkpoints: Path) -> None:
    app = open_page("train", data="heads")
    assert "Not ready for training: 1 error" in errors(app) and "expected a label map, found none" in errors(app)
    assert button(app, "Start training").disabled
    click(app, "Train anyway")
    assert not app.error and "It starts anyway, as you chose" in texts(app) + app.warning[0].value
    assert not button(app, "Start training").disabled and "--force true" in app.code[0].value
    click(app, "Start training")
    (run,) = runs.list_runs(checkpoints)
    assert run.config.data.force


@pytest.mark.slow
def test_report_of_the_doctor_is_obeyed(unlabelled: Path) -> None:
    import numpy as np

    write_nifti(unlabelled / "imagesTr" / "case_1.nii.gz", np.full((24, 24, 24), 3.0), np.eye(4))
    assert "The voxels are not checked yet" in texts(open_page("train", data="heads"))
    write_report(unlabelled)
    app = open_page("train", data="heads")
    assert "2 errors" in errors(app) and "value 3 in every voxel" in errors(app)
    assert "not checked yet" not in texts(app)


@pytest.mark.long
@pytest.mark.slow
def test_class_without_a_training_subject_is_warned_of(empty_app: Path) -> None:
    import numpy as np

    folder = write_heads(empty_app / "heads", labels={"0": "background", "1": "blob", "2": "rare"})
    label = np.zeros((24, 24, 24), np.uint8)
    label[4:8, 4:8, 4:8] = 2
    write_nifti(folder / "labelsTr" / "case_4.nii.gz", label, np.eye(4))
    write_report(folder)
    warned = []
    for fold in range(5):
        app = open_page("train", data="heads")
        field = next(w for w in app.number_input if ".fold." in str(w.key))
        field.set_value(fold).run()
        warned.append("No training subject holds the class rare" in "\n".join(w.value for w in app.warning))
        assert not button(app, "Start training").disabled
    assert warned.count(True) == 1


def test_few_subjects_can_be_trained_on(empty_app: Path) -> None:
    write_heads(empty_app / "heads", 3)
    app = open_page("train", data="heads")
    assert not app.error and not button(app, "Start training").disabled
    shown = "\n".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]
    assert "2 for training, 1 for validation; 3 folds instead of 5" in shown


@pytest.mark.slow
def test_options_chosen_on_the_data_page_hold_for_training(empty_app: Path) -> None:
    write_heads(empty_app / "heads")
    app = open_page("train", {"data_option.nan_is_zero.heads": True}, data="heads")
    assert "--nan-is-zero true" in app.code[0].value
    app = open_page("train", {"data_option.nan_is_zero.other": True}, data="heads")
    assert "--nan-is-zero" not in app.code[0].value


@pytest.mark.slow
def test_errors_of_files_that_training_does_not_read_do_not_disable_the_start(empty_app: Path) -> None:
    folder = make_nnunet(empty_app / "two", subjects=4)
    write_nifti(folder / "imagesTr" / "case_002_0001.nii.gz", voxels((3, 4, 5)))  # another grid
    write_nifti(folder / "imagesTs" / "new_0000.nii.gz", voxels())
    (folder / "imagesTs" / "new_0001.nii.gz").write_bytes(b"nothing")
    write_report(folder)
    app = open_page("train", data="two")
    assert "1 error" in errors(app) and "002" in errors(app) and button(app, "Start training").disabled
    app = open_page("train", data="two", set="modalities~M0")
    assert "--modalities M0" in app.code[0].value and not errors(app)
    assert "not checked yet" not in texts(app), "the report is on all modalities"
    assert not button(app, "Start training").disabled
    write_nifti(folder / "imagesTr" / "case_003_0000.nii.gz", voxels((3, 4, 5)))
    write_report(folder)
    app = open_page("train", data="two", set="modalities~M0")
    assert "003" in errors(app) and "002" not in errors(app)
