"""The subject of the preview is the one that training prepares, bit for bit, with every option of reading and
preparing; what cannot be seen in the pictures is said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.config import TrainConfig
from core.datasets import open_dataset
from core.datasets.ct_modalities import examined_subjects
from core.datasets.layouts.recipe import Repair
from core.datasets.parallel_preparation import Resources
from core.datasets.saved_recipes import add_repairs
from core.errors import DatasetError
from core.imaging.normalise import to_float16
from core.inspection.augmentation_preview import (
    INDICATOR,
    ONE_SUBJECT,
    SIDES_OF_ONE,
    Source,
    answer,
    prepare_for_preview,
)
from core.sampling.patches import PatchSampler
from core.training.plan import TrainingPlan, make_plan
from core.training.run_data import RunData, RunInputs, SubjectMemory, prepare_subjects
from core.training.run_normalisation import choose_normaliser
from core.types import TrainingSubject
from tests.support.balls import balls, write_balls
from tests.support.kidneys import write_kidneys
from tests.support.volume_files import write_nifti

SIZE = (12, 12, 12)
MARGIN = 6  # voxels of 0 on one side of i
OFF = {"flip": 0.0, "affine": 0.0, "elastic": 0.0, "intensity": 0.0, "noise": 0.0}
LACKING, WITH_NAN, MISLABELLED = "case_4", "case_5", "case_6"  # special subjects, left out of a run by default
SPECIAL = (LACKING, WITH_NAN, MISLABELLED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two modalities, margins of 0, a label to ignore, and voxels of different sizes; of the special subjects one has
    no T2, one NaN, and one a label value that is no class."""
    folder = tmp_path_factory.mktemp("preview") / "cases"
    for number in range(1, 7):
        image, label = balls(number, channels=2)
        image[:, :MARGIN] = 0
        label[:MARGIN] = 0
        label[-2:] = 3
        name, affine = f"case_{number}", np.diag([1.0, 1.0, 2.0 if number == 2 else 1.5, 1.0])
        if name == WITH_NAN:
            image[:, -1, -1, -1] = np.nan
        if name == MISLABELLED:
            label[-2:, 0, 0] = 7
        for channel in range(1 if name == LACKING else 2):
            write_nifti(folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz", image[channel], affine)
        write_nifti(folder / "labelsTr" / f"{name}.nii.gz", label, affine)
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "bright": 1, "dark": 2, "ignore": 3},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    return folder


def config_of(folder: Path, subject: str, **values: Any) -> TrainConfig:
    """A run without the special subjects, but for the one that is looked at."""
    others = tuple(id for id in SPECIAL if id != subject)
    given = {"path": str(folder), "folds": 2, "sub_volume": SIZE, "foreground": 1.0, **OFF}
    return TrainConfig().with_values({**given, "test_subjects": others, **values})


def prepared_by_training(
    config: TrainConfig, runs: Path
) -> tuple[RunData, TrainingPlan, Mapping[str, TrainingSubject]]:
    """Training and validation subjects as a run has them."""
    inputs = RunInputs(config, runs / "run", lambda event: None, lambda: False, False)
    data = RunData.open(inputs, None)
    plan = make_plan(
        config,
        shapes=list(data.shapes.values()),
        spacings_mm=list(data.spacings_mm.values()),
        modalities=len(data.modalities),
        classes=len(data.output_names),
    )
    normaliser = choose_normaliser(inputs, data, None)
    assert normaliser is not None
    plan = plan.with_normaliser(normaliser)
    prepared = prepare_subjects(inputs, data, plan, SubjectMemory(None, Resources()), judged=False)
    assert prepared is not None
    return data, plan, prepared.subjects


def question(config: TrainConfig, subject: str, **others: Any) -> dict[str, Any]:
    return {
        "data": config.data.path, "subject": subject, "config": config.to_json(), "spacing_mm": None, "seed": 3,
        "versions": 1, "plane": "axial", **others,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "values"),
    [
        ("case_1", {}),
        ("case_1", {"crop": True}),
        ("case_1", {"crop": True, "spacing_mm": (2.0, 1.0, 1.0)}),
        ("case_2", {"resample": "median"}),
        ("case_1", {"normalisation": "max_min"}),
        ("case_1", {"normalisation": "brats"}),
        ("case_1", {"modalities": ("T2",)}),
        ("case_1", {"modalities": ("T2", "T1")}),
        ("case_1", {"classes": ("dark",)}),
        ("case_1", {"ignore": "dark"}),
        ("case_1", {"ignore": "none"}),
        ("case_1", {"layout": "nnunet"}),
        (LACKING, {"missing_modalities": "zero"}),
        (LACKING, {"missing_modalities": "zero", "modality_indicator": True}),
        (WITH_NAN, {"nan_is_zero": True, "crop": True}),
    ],
)
def test_subject_and_place_are_those_of_training(
    folder: Path, tmp_path: Path, subject: str, values: dict[str, Any]
) -> None:
    config = config_of(folder, subject, **values)
    data, plan, subjects = prepared_by_training(config, tmp_path)
    spacing_mm = plan.spacing_mm
    assert (spacing_mm is not None) == bool({"spacing_mm", "resample"} & set(values)), "resampled"
    trained, shown = subjects[subject], prepare_for_preview(Source(str(folder), subject), config, spacing_mm)
    assert shown.modalities == data.modalities and shown.labels == data.labels
    assert shown.subject.spacing_mm == trained.spacing_mm
    np.testing.assert_array_equal(to_float16(shown.subject.image), trained.image)
    np.testing.assert_array_equal(shown.subject.label, trained.label)
    found = answer(question(config, subject, spacing_mm=spacing_mm))
    sampler = PatchSampler([trained], SIZE, config.sampling, len(data.labels))
    (location,) = sampler.draw(1, torch.Generator().manual_seed(3))
    assert (tuple(found["start"]), tuple(found["shape"])) == (location.start, trained.label.shape)


def test_subject_is_read_by_the_recipe_of_its_data_set(folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, MISLABELLED)
    with pytest.raises(DatasetError, match="7"):
        prepare_for_preview(Source(str(folder), MISLABELLED), config, None)
    add_repairs(folder, [Repair("nearest_label", MISLABELLED)])
    _, _, subjects = prepared_by_training(config, tmp_path)
    shown = prepare_for_preview(Source(str(folder), MISLABELLED, stamp="with a recipe"), config, None)
    np.testing.assert_array_equal(shown.subject.label, subjects[MISLABELLED].label)


def test_cropping_moves_the_place_and_is_said(folder: Path) -> None:
    plain, cropped = (answer(question(config_of(folder, "case_1", crop=crop), "case_1")) for crop in (False, True))
    assert cropped["shape"][0] == plain["shape"][0] - MARGIN and cropped["shape"][1:] == plain["shape"][1:]
    assert cropped["start"] != plain["start"]
    assert plain["remarks"] == []
    assert cropped["remarks"] == [
        "the margins of 0 are left out: 14x24x18 of 20x24x18 voxels remain, and voxels are counted in what remains"
    ]


def test_image_without_margins_is_said_to_stay_as_it_is(tmp_path: Path) -> None:
    config = TrainConfig().with_values(
        {"path": str(write_balls(tmp_path / "balls", 1)), "sub_volume": SIZE, "crop": True}
    )
    found = answer(question(config, "ball_0"))
    assert found["remarks"] == ["cropping leaves the image as it is: it has no margins of 0"]
    assert found["shape"] == [20, 24, 18]


def test_missing_modality_is_named_and_is_no_change_of_a_version(folder: Path) -> None:
    values = {"missing_modalities": "zero", "modality_indicator": True, "modality_dropout": 0.9}
    lacking = answer(question(config_of(folder, LACKING, **values), LACKING, versions=4))
    assert lacking["remarks"] == ["there is no image of T2: it is 0 in every voxel", INDICATOR]
    assert [v["indicator"] for v in lacking["versions"]] == [[1, 0]] * 5, "the only image is never left out"
    assert all(v["changes"] == [] for v in lacking["versions"])
    both = answer(question(config_of(folder, "case_1", **values), "case_1", versions=4))
    assert both["versions"][0]["indicator"] == [1, 1] and both["remarks"] == [INDICATOR]
    for version in both["versions"][1:]:
        left_out = [f"without {m}" for m, told in zip(("T1", "T2"), version["indicator"], strict=True) if not told]
        assert version["changes"] == left_out
    assert any(version["changes"] for version in both["versions"][1:])
    without = answer(question(config_of(folder, "case_1"), "case_1"))
    assert [v["indicator"] for v in without["versions"]] == [None, None]


def test_ignored_label_is_named(folder: Path) -> None:
    found = answer(question(config_of(folder, "case_1"), "case_1"))
    assert found["ignored"] == "ignore" and [c["name"] for c in found["classes"]] == ["bright", "dark"]
    assert answer(question(config_of(folder, "case_1", ignore="none"), "case_1"))["ignored"] == ""


@pytest.fixture(scope="module")
def hounsfield(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three subjects; the first two are in Hounsfield units, and only the first has the second modality."""
    folder = tmp_path_factory.mktemp("preview") / "scans"
    for number in range(1, 4):
        image, label = balls(number)
        scan = image[0].round()
        scan[:, :2] = -1024 if number < 3 else 0
        for channel in range(2 if number == 1 else 1):
            write_nifti(folder / "imagesTr" / f"case_{number}_{channel:04d}.nii.gz", scan.astype(np.int16))
        write_nifti(folder / "labelsTr" / f"case_{number}.nii.gz", label)
    labels = {"background": 0, "bright": 1, "dark": 2}
    content = {"channel_names": {"0": "scan", "1": "late"}, "labels": labels, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**content, "numTraining": 3}), "utf-8")
    return folder


def test_modality_is_computed_tomography_where_the_training_subjects_are(hounsfield: Path) -> None:
    config = TrainConfig().with_values({"path": str(hounsfield), "modalities": ("scan",)})
    dataset = open_dataset(hounsfield)

    def remarks(*training: str) -> tuple[str, ...]:
        examined = examined_subjects(dataset, training, ("scan",))
        assert examined == training
        return prepare_for_preview(Source(str(hounsfield), "case_1", examined), config, None).remarks

    assert ONE_SUBJECT in remarks("case_1", "case_2")
    assert remarks("case_1", "case_2", "case_3") == (), "the third is no CT: all are normalised by themselves"


def test_missing_scan_in_hounsfield_units_is_refused_as_by_training(hounsfield: Path) -> None:
    config = TrainConfig().with_values({"path": str(hounsfield), "missing_modalities": "zero"})
    with pytest.raises(DatasetError, match="case_2: expected an image of late for the normalisation ct"):
        prepare_for_preview(Source(str(hounsfield), "case_2", ("case_1", "case_2")), config, None)


def test_sides_that_positions_decide_are_said_to_be_of_one_subject(tmp_path: Path) -> None:
    def remarks(name: str, names: tuple[str, ...], unoriented: tuple[str, ...] = ()) -> tuple[str, ...]:
        folder = write_kidneys(tmp_path / name, names)
        config = TrainConfig().with_values({"path": str(folder)})
        return prepare_for_preview(Source(str(folder), "case_0", unoriented=unoriented), config, None).remarks

    names = ("background", "left kidney", "right kidney")
    assert remarks("named", names) == ("swapped when an image is mirrored: left kidney / right kidney",)
    reason, of_one = remarks("heart", ("background", "left atrium", "right atrium"))
    assert "left atrium / right atrium do not lie as mirror images" in reason and of_one == SIDES_OF_ONE
    (reason,) = remarks("named", names, unoriented=("case_3",))
    assert "case_3 states no orientation" in reason, "a subject of the run, though not this one"
