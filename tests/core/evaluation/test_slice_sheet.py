"""Contact sheets of a case: what is on them, where, in which colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.colours import rgb
from core.datasets import LoadedSubject
from core.errors import ConfigError
from core.evaluation.compared_subject import ComparedSubject
from core.evaluation.error_map import ERROR_KINDS
from core.evaluation.slice_sheet import PAGE, SheetCaption, SheetOptions, _Panels, encode_sheet, slice_sheet
from core.imaging.geometry import Geometry
from core.labels import IGNORE_INDEX, LabelSpace

LABELS = LabelSpace.from_raw({0: "background", 1: "one", 2: "two"})
CAPTION = SheetCaption("case 7", "net, epoch 3", "balls", "Dice 0.5", "T1")


def compared(oriented: bool = True, with_truth: bool = True) -> ComparedSubject:
    """A box of class 1 on the patient's right, of which the prediction takes the lower half for class 2, and more."""
    shape, affine = (20, 24, 10), np.diag([1.0, 1.0, 2.0, 1.0])
    image = np.zeros((1, *shape), np.float32)
    image[0, 2:18, 2:22, 1:9] = np.random.default_rng(0).uniform(50, 100, (16, 20, 8))
    truth = np.zeros(shape, np.uint8)
    truth[12:18, 4:20, 2:8] = 1
    prediction = truth.copy()
    prediction[12:18, 4:12, 2:8] = 2
    prediction[2:4, 4:8, 2:8] = 1
    geometry = Geometry(shape, affine, oriented)
    loaded = LoadedSubject("case 7", image, truth, geometry, geometry, Path("image.nii"))
    return ComparedSubject(loaded, truth if with_truth else None, prediction, LABELS)


def share(picture: np.ndarray, colour: str) -> float:
    """Share of the pixels nearly of a colour."""
    return float((np.abs(picture.astype(int) - rgb(colour)).max(axis=-1) < 60).mean())


def test_panels_show_reference_prediction_and_errors_with_the_patients_right_on_the_left() -> None:
    panels = _Panels(compared(), SheetOptions(slices=3))
    assert panels.chosen == [2, 4, 7] and panels.titles == ["reference", "prediction", "errors"]
    placed = panels.placed(900, 600)
    assert placed.width / placed.height == pytest.approx(20 / 24, abs=0.1), "voxels of 1 x 1 mm"
    reference, prediction, errors = (np.asarray(p) for p in panels.strip(4, placed))
    half = placed.width // 2
    saturation = reference.max(axis=-1).astype(int) - reference.min(axis=-1)
    assert saturation[:, :half].mean() > 10 > saturation[:, half + 4 :].mean(), "R is on the left"
    back = slice(placed.height // 2 + 8, None)
    assert share(errors[back, :half], ERROR_KINDS[2].colour) > 0.1, "the posterior half is of the wrong class"
    assert share(errors[: placed.height // 2 - 8, :half], ERROR_KINDS[2].colour) == 0
    assert share(errors[:, half:], ERROR_KINDS[0].colour) > 0.02
    assert not np.array_equal(reference, prediction)


def test_unknown_orientation_mirrors_nothing_and_has_question_marks() -> None:
    panels = _Panels(compared(oriented=False), SheetOptions(slices=1))
    reference = np.asarray(panels.strip(4, panels.placed(600, 400))[0])
    saturation = reference.max(axis=-1).astype(int) - reference.min(axis=-1)
    half = reference.shape[1] // 2
    assert panels.letters == "????" and saturation[:, half:].mean() > 10 > saturation[:, : half - 4].mean()


@pytest.mark.slow
def test_a_page_is_a_png_or_a_pdf_with_and_without_a_reference() -> None:
    sheet = slice_sheet(compared(with_truth=False), CAPTION, SheetOptions(plane="sagittal", slices=2))
    assert sheet.size == PAGE
    content = encode_sheet(sheet, ".pdf", "case 7")
    assert content.startswith(b"%PDF") and b"/Type /Page" in content
    assert encode_sheet(sheet.resize((200, 282)), ".png", "").startswith(b"\x89PNG")


def test_ignored_voxels_are_no_errors_and_do_not_choose_slices() -> None:
    case = compared()
    assert case.truth is not None
    truth = case.truth.copy()
    truth[:, :, 9] = IGNORE_INDEX
    panels = _Panels(replace(case, truth=truth), SheetOptions(slices=60))
    assert panels.chosen == list(range(2, 8)) and not panels.errors[:, :, 9].any()
    with pytest.raises(ConfigError, match="1 to 60"):
        SheetOptions(slices=0)
