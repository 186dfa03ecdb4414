"""Label spaces the whole way: from a folder and its description through training, checkpoint, prediction file and
scores to the scenes of Review and of the quiz. One kind of label space each."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.checkpointing.metadata import CheckpointMetadata, read_metadata
from core.cli import main
from core.datasets import DataOptions, open_dataset
from core.labels import IGNORE_INDEX, LabelSpace
from core.runs.models import find_model
from core.runs.predictions import read_predictions
from tests.support.balls import SHAPE
from tests.support.described_balls import write_described_balls
from tests.support.volume_files import load, write_nifti
from ui.quiz.game import Case
from ui.quiz.quiz_subject import quiz_subject
from ui.viewer import volumes
from ui.viewer.scenes import Scene, subject_scene

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("checkpoints")]

TRAINING = [
    "--preset", "quick", "--channels", "8,16", "--sub-volume", "16x16x16", "--samples-train", "24", "--epochs", "10",
    "--samples-val", "0", "--whole-every", "10", "--learning-rate", "0.01", "--device", "cpu", "--threads", "1",
    "--force",
]  # fmt: skip
FIRST = "p0"


@dataclass(frozen=True)
class Trained:
    """A run, its data, and what the commands said.

    Attributes
    ----------
    data : Path.
    subject : str. The validated one.
    checkpoint : Path.
    metadata : CheckpointMetadata.
    prediction : ndarray. Raw values of the file that ``predict`` wrote for the validated subject.
    report : mapping. Of ``evaluate --json``, without a layout.
    """

    data: Path
    subject: str
    checkpoint: Path
    metadata: CheckpointMetadata
    prediction: np.ndarray
    report: Mapping[str, Any]

    @property
    def labels(self) -> LabelSpace:
        return self.metadata.label_space

    @property
    def dice(self) -> dict[str, float]:
        """Of the validated subject."""
        (subject,) = self.report["subjects"]
        return dict(subject["dice"])

    @property
    def options(self) -> DataOptions:
        return DataOptions.of_own_data(self.metadata.train_config.data)

    def scene(self) -> Scene:
        """That of Review, with the kept segmentation."""
        kept = read_predictions(self.checkpoint.parent.parent, self.checkpoint, self.data)[self.subject].file
        return subject_scene(self.data, self.subject, self.labels, kept, self.options)

    def quiz(self) -> tuple[np.ndarray, np.ndarray]:
        """Reference and prediction of the quiz, as class indices."""
        kept = read_predictions(self.checkpoint.parent.parent, self.checkpoint, self.data)[self.subject]
        dataset = open_dataset(self.data, options=self.options)
        subject = quiz_subject(dataset, Case(self.subject, kept.file, kept.epoch, kept.step), self.labels)
        _, truth, prediction, ignored = (np.array(a) for a in subject._mapped.arrays)
        truth[ignored] = IGNORE_INDEX
        return truth, prediction


def ask(*arguments: object) -> str:
    """What a command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([str(a) for a in arguments]) == 0
    return out.getvalue()


def train(root: Path, data: Path, layout: str, images: list[Path] | None = None, subject: str = FIRST) -> Trained:
    """Train on all subjects but one, then segment its images and score it."""
    run = ask("train", data, "--layout", layout, "--val-subjects", subject, *TRAINING).split()[0]
    checkpoint = find_model(root, run)
    case = data / "scans" / FIRST
    files = images or [case / f"{FIRST}_T1.nii.gz", case / f"{FIRST}_T2.nii.gz"]
    out = root / "segmentation.nii.gz"
    ask("predict", run, *files, "--out", out)
    report = json.loads(ask("evaluate", run, data, "--keep", "--json"))
    return Trained(data, subject, checkpoint, read_metadata(checkpoint), np.asarray(load(out).dataobj), report)


def layer(scene: Scene, name: str) -> np.ndarray:
    """Class indices of a layer."""
    path = volumes._published[scene.layers[name].removeprefix(volumes.PREFIX)]
    return np.frombuffer(gzip.decompress(path.read_bytes()), "u1").reshape(SHAPE[::-1]).transpose(2, 1, 0)


def check_way(trained: Trained, names: tuple[str, ...], raw: tuple[int, ...], expected: np.ndarray) -> Scene:
    """What holds for every kind: names and values of the checkpoint, the values of the file, and both scenes.

    Parameters
    ----------
    expected : ndarray. Reference of the validated subject, as class indices of the network.
    """
    labels = trained.labels
    assert labels.names == names and tuple(c.raw for c in labels.classes) == raw
    assert set(np.unique(trained.prediction)) <= set(raw) and set(raw[1:]) <= set(np.unique(trained.prediction))
    scene = trained.scene()
    assert [c["name"] for c in scene.classes] == list(names[1:])
    assert np.array_equal(layer(scene, "truth"), expected)
    kept = layer(scene, "prediction")
    assert np.array_equal(np.asarray(raw)[kept], trained.prediction), "evaluate kept what predict wrote"
    truth, prediction = trained.quiz()
    known = expected != IGNORE_INDEX
    assert np.array_equal(truth, expected) and np.array_equal(prediction[known], kept[known])
    for index, name in enumerate(names[1:], 1):
        mine, theirs = (expected == index) & known, (kept == index) & known
        dice = 2 * (mine & theirs).sum() / (mine.sum() + theirs.sum())
        assert trained.dice[name] == pytest.approx(dice, abs=1e-6) and dice > 0.6
    return scene


def reference(data: Path) -> np.ndarray:
    """Values of the validated subject's label map in its file."""
    return np.asarray(load(data / "scans" / FIRST / f"{FIRST}_mask.nii.gz").dataobj)


def index_of(values: np.ndarray, table: Mapping[int, int]) -> np.ndarray:
    """Class indices of values."""
    index = np.zeros(values.shape, np.uint8)
    for value, target in table.items():
        index[values == value] = target
    return index


def test_mapped_renamed_and_coloured(checkpoints: Path, tmp_path: Path) -> None:
    """Values that are no indices, in another order than in the file."""
    data, layout = write_described_balls(
        tmp_path,
        raw=(0, 700, 42),
        classes={"background": 0, "dark ball": 42, "bright ball": 700},
        colours={"dark ball": "#123456", "bright ball": "#abcdef"},
    )
    trained = train(checkpoints, data, str(layout))
    expected = index_of(reference(data), {42: 1, 700: 2})
    scene = check_way(trained, ("background", "dark ball", "bright ball"), (0, 42, 700), expected)
    assert [c["colour"] for c in scene.classes] == ["#123456", "#abcdef"]
    assert [c.colour for c in trained.labels.foreground] == ["#123456", "#abcdef"]


def test_merged(checkpoints: Path, tmp_path: Path) -> None:
    """Two values that are one class, and a value for which nothing but the background remains."""
    data, layout = write_described_balls(tmp_path, raw=(5, 1, 2), classes={"background": [0, 5], "ball": [1, 2]})
    trained = train(checkpoints, data, str(layout))
    values = reference(data)
    check_way(trained, ("background", "ball"), (0, 1), index_of(values, {1: 1, 2: 1}))


def test_ignored(checkpoints: Path, tmp_path: Path) -> None:
    """A class that is left out of training and scores; the prediction has no such value."""
    data, layout = write_described_balls(
        tmp_path, raw=(0, 1, 9), classes={"background": 0, "bright": 1, "unsure": 9}, ignore="unsure"
    )
    trained = train(checkpoints, data, str(layout))
    expected = index_of(reference(data), {1: 1, 9: IGNORE_INDEX})
    scene = check_way(trained, ("background", "bright"), (0, 1), expected)
    assert trained.labels.ignore is not None and trained.labels.ignore.raw == 9
    assert scene.ignore is not None and scene.ignore["name"] == "unsure"
    assert 9 not in trained.prediction


def test_regions(checkpoints: Path, tmp_path: Path) -> None:
    """Unions that overlap: sigmoid outputs, painted in a stated order, scored beside the classes."""
    data, layout = write_described_balls(
        tmp_path,
        raw=(0, 4, 2),
        classes={"background": 0, "dark": 2, "bright": 4},
        regions={"both": ["dark", "bright"], "bright alone": ["bright"]},
        regions_class_order=["dark", "bright"],
    )
    trained = train(checkpoints, data, str(layout))
    assert trained.metadata.output_names == ("both", "bright alone"), "the network's channels"
    check_way(trained, ("background", "dark", "bright"), (0, 2, 4), index_of(reference(data), {2: 1, 4: 2}))
    truth, prediction = reference(data) > 0, trained.prediction > 0
    both = 2 * (truth & prediction).sum() / (truth.sum() + prediction.sum())
    assert trained.dice["both"] == pytest.approx(both, abs=1e-6)
    assert trained.report["classes"] == ["dark", "bright", "both", "bright alone"]


def test_four_tissues_of_mrbrains_ten_classes(checkpoints: Path, tmp_path: Path) -> None:
    """A preset of a known set: chosen for training by name, and found again without it by everything that follows."""
    source, _ = write_described_balls(tmp_path / "source")
    data = tmp_path / "mrbrains"
    for number in range(6):
        case, scans = data / "training" / f"p{number}", source / "scans" / f"p{number}"
        (data / "training").mkdir(parents=True, exist_ok=True)
        case = data / "training" / str(number)
        t1, t2, mask = (load(scans / f"p{number}_{kind}.nii.gz") for kind in ("T1", "T2", "mask"))
        values = np.asarray(mask.dataobj)
        half = np.arange(SHAPE[2]) % 2
        fine = np.where(values == 1, 1 + half, np.where(values == 2, 3 + half, 0))  # GM of 1 and 2, WM of 3 and 4
        fine[0, :, :], fine[-1, :, :] = 5 + half, 7 + half  # CSF of 5 and 6; 7 and 8 are left out
        for name, image in (("reg_T1", t1), ("reg_IR", t2), ("FLAIR", t1)):
            array = np.asarray(image.dataobj).copy()
            array[[0, -1]] += 120
            write_nifti(case / "pre" / f"{name}.nii.gz", array, image.affine)
        write_nifti(case / "segm.nii.gz", fine.astype(np.uint8), mask.affine)
    images = [data / "training" / "0" / "pre" / f"{name}.nii.gz" for name in ("reg_T1", "reg_IR", "FLAIR")]
    trained = train(checkpoints, data, "mrbrains2018/tissues", images, "0")
    values = np.asarray(load(data / "training" / "0" / "segm.nii.gz").dataobj)
    table = {5: 1, 6: 1, 1: 2, 2: 2, 3: 3, 4: 3, 7: IGNORE_INDEX, 8: IGNORE_INDEX}
    raw = tuple(c.raw for c in trained.labels.classes)
    check_way(trained, ("background", "CSF", "GM", "WM"), raw, index_of(values, table))
    ten = subject_scene(data, "0", trained.labels)
    assert "truth" not in ten.layers, "of the ten classes of the folder none is shown as if it were background"
