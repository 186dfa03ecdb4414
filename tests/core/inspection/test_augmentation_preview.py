"""The preview of augmentation: what it shows is what training crops and augments."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.augmentation.augmenter import Augmenter
from core.config import AugmentConfig, TrainConfig
from core.datasets import open_dataset
from core.datasets.prepare import prepare_subject
from core.errors import ConfigError, UserError
from core.imaging.normalise import Normaliser
from core.inspection.augmentation_preview import PICTURE_SIDE, answer, describe_changes
from core.paths import project_root
from core.sampling.patches import PatchLocation
from tests.support.balls import write_balls
from tests.support.heads import write_heads

SIZE = (16, 16, 12)
OFF = {"lateral": "ignore", "flip": 0.0, "affine": 0.0, "elastic": 0.0, "intensity": 0.0, "noise": 0.0}
PLAIN = {**OFF, "sub_volume": SIZE, "foreground": 1.0}


@pytest.fixture(scope="module")
def balls_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_balls(tmp_path_factory.mktemp("preview") / "balls", 2, channels=2)


def question(folder: Path, subject: str = "ball_1", **values: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {
        key: values.pop(key) for key in ("seed", "versions", "plane", "spacing_mm") if key in values
    }
    config = TrainConfig().with_values({**PLAIN, **values})
    return {
        "data": str(folder), "subject": subject, "config": config.to_json(), "spacing_mm": None, "seed": 3,
        "versions": 3, "plane": "axial", **asked,
    }  # fmt: skip


def pixels(picture: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))


def test_plain_version_is_the_crop_of_training_and_the_rest_equals_it_without_augmentation(balls_folder: Path) -> None:
    found = answer(question(balls_folder))
    assert found["size"] == list(SIZE) and len(found["versions"]) == 4 and found["modalities"] == ["M0", "M1"]
    assert all(v == found["versions"][0] for v in found["versions"]) and found["versions"][0]["changes"] == []
    dataset = open_dataset(balls_folder)
    subject = prepare_subject(dataset, "ball_1", ("M0", "M1"), (), Normaliser(("z_score",) * 2), None)
    i, j, k = found["start"]
    crop = subject.image[0, i : i + 16, j : j + 16, k + SIZE[2] // 2].astype(np.float16).astype(float)
    shown = pixels(found["versions"][0]["pictures"][0])[..., 0]
    step = PICTURE_SIDE // 16 if shown.shape[0] == PICTURE_SIDE else shown.shape[0] / 16
    rows = (np.arange(16) * step + step / 2).astype(int)
    grey = shown[np.ix_(rows, rows)][::-1, ::-1].T.astype(float)  # i, j again: anterior is up, the right on the left
    assert np.corrcoef(grey.ravel(), crop.ravel())[0, 1] > 0.98
    inside = subject.label[i : i + 16, j : j + 16, k + SIZE[2] // 2] > 0
    labelled = pixels(found["versions"][0]["labelled"][0]).astype(int)
    coloured = (np.ptp(labelled, axis=2) > 20)[np.ix_(rows, rows)][::-1, ::-1].T
    assert inside.any() and np.array_equal(coloured, inside)


def test_place_stays_while_options_change_and_another_seed_is_another_place(balls_folder: Path) -> None:
    plain, changed = answer(question(balls_folder)), answer(question(balls_folder, intensity=1.0, noise=0.5))
    assert changed["start"] == plain["start"] and changed["versions"][0] == plain["versions"][0]
    assert changed == answer(question(balls_folder, intensity=1.0, noise=0.5)), "the same question, the same answer"
    assert all(v["pictures"] != plain["versions"][0]["pictures"] for v in changed["versions"][1:])
    assert len({json.dumps(v) for v in changed["versions"]}) == 4
    places = {tuple(answer(question(balls_folder, seed=seed))["start"]) for seed in range(6)}
    assert len(places) > 2


def test_mirrored_version_is_the_plain_one_mirrored(balls_folder: Path) -> None:
    found = answer(question(balls_folder, flip=1.0))
    plain = pixels(found["versions"][0]["labelled"][1])
    for version in found["versions"][1:]:
        assert version["changes"] == ["mirrored left-right"]
        assert np.array_equal(pixels(version["labelled"][1]), plain[:, ::-1])
    other = answer(question(balls_folder, plane="coronal"))["versions"][0]["pictures"][0]
    assert pixels(other).shape[:2] == (PICTURE_SIDE, round(PICTURE_SIDE * 16 / 18)), "16 mm x 18 mm"


def test_sub_volume_has_the_voxel_size_of_training_and_its_true_proportions(balls_folder: Path) -> None:
    found = answer(question(balls_folder, spacing_mm=[2.0, 1.0, 1.0], sub_volume=(8, 16, 8)))
    assert found["spacing_mm"] == [2.0, 1.0, 1.0]
    assert pixels(found["versions"][0]["pictures"][0]).shape[:2] == (PICTURE_SIDE, PICTURE_SIDE), "16 x 16 mm"


def test_changes_are_named_with_their_amounts() -> None:
    def changes(modalities: int = 2, **values: float) -> list[str]:
        config = AugmentConfig(**{**OFF, **values})  # type: ignore[arg-type]
        params = Augmenter(config, SIZE).draw([PatchLocation(0, (0, 0, 0))], modalities, generator())
        return describe_changes(params, 0, ("T1", "T2")[:modalities])

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(1)

    assert changes() == [] and changes(flip=1.0) == ["mirrored left-right"]
    (rotated,) = changes(affine=1.0, scaling=0.0)
    assert rotated.startswith("rotated by ") and 0 < int(rotated[11:-1]) <= 27
    (scaled,) = changes(affine=1.0, rotation_deg=0.0)
    assert scaled.startswith("size ") and scaled.endswith(" %") and scaled.count("×") == 2
    assert changes(elastic=1.0) == ["deformed elastically"]
    every = changes(intensity=1.0)
    assert every == ["brightness", "contrast", "gamma", "bias field", "blur or low resolution"]
    assert changes(modality_dropout=0.9)[0] in ("without T1", "without T2")


def test_what_one_subject_cannot_tell_is_said(tmp_path: Path) -> None:
    folder = write_heads(tmp_path / "heads", 1)
    found = answer(question(folder, "case_1", sub_volume=(8, 8, 8)))
    assert found["remarks"] == [
        "intensities are normalised by this subject alone; training measures all of its subjects"
    ]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"subject": "subject-99"}, "subject-99"),
        ({"versions": 0}, "expected 1 to 8 versions"),
        ({"plane": "oblique"}, "oblique"),
    ],
)
def test_question_that_cannot_be_answered_is_an_error(balls_folder: Path, changes: dict[str, Any], error: str) -> None:
    with pytest.raises((ConfigError, UserError), match=error):
        answer({**question(balls_folder), **changes})


@pytest.mark.long
@pytest.mark.slow
def test_child_answers_a_line_with_a_line(balls_folder: Path) -> None:
    asked = [question(balls_folder), {**question(balls_folder), "subject": "subject-99"}, {"data": 1}]
    done = subprocess.run(
        [sys.executable, "-m", "core.inspection.augmentation_preview"],
        cwd=project_root(), input="".join(f"{json.dumps(q)}\n" for q in asked), capture_output=True, text=True,
        timeout=120, check=True,
    )  # fmt: skip
    good, unknown, broken = map(json.loads, done.stdout.splitlines())
    assert good["answer"]["size"] == list(SIZE) and "subject-99" in unknown["error"]
    assert broken["error"].startswith("the sub-volumes cannot be made: KeyError")
