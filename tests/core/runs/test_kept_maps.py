"""Maps that are kept beside predictions: written with them or made later, bounded, removed with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.checkpointing.checkpoint import load, save
from core.checkpointing.metadata import read_metadata
from core.cli import main
from core.datasets import load_subject, open_dataset
from core.errors import RunError
from core.imaging.volume import write_label
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.subject_image import SubjectImage
from core.runs import kept_maps
from core.runs.kept_maps import LEVELS, kinds_of, map_file, passes_of, read_kept_maps, stored_values
from core.runs.map_maker import make_maps
from core.runs.predictions import Prediction
from tests.support.balls import SHAPE
from tests.support.map_cases import Case
from tests.support.volume_files import load as load_image

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


def kept(prediction: Prediction) -> kept_maps.KeptMaps | None:
    return read_kept_maps(prediction.file, prediction.made_at)


def test_values_are_stored_as_the_nearest_step() -> None:
    values = np.array([0, 0.1, 0.5, 0.999, 1, 1.2, -0.1], np.float32)
    assert stored_values(values, 1.0).tolist() == [0, 25, 125, 250, 250, 250, 0]
    assert stored_values(2 * values, 2.0).tolist() == stored_values(values, 1.0).tolist()
    signed = np.array([-20, -25, -0.07, 0, 0.09, 10, 19.99, 30], np.float32)  # in steps of 0.16
    assert stored_values(signed, 20, -20).tolist() == [0, 0, 125, 125, 126, 188, 250, 250]


@pytest.mark.slow
def test_maps_are_kept_with_the_prediction_in_the_geometry_of_its_image(ball_run: BallRun, tmp_path: Path) -> None:
    case = Case(tmp_path, ball_run, "--maps")
    assert kept(case.prediction) == kept_maps.KeptMaps(1)
    stored = load_image(case.data / "imagesTr" / "ball_1.nii.gz")
    label_map = np.asarray(load_image(case.prediction.file).dataobj)
    dark, bright = case.stored("probability-2").astype(int), case.stored("probability-1").astype(int)
    for file in map_file(case.prediction.file, kinds_of(read_metadata(case.checkpoint), 1)[0]).parent.glob("*.nii.gz"):
        one = load_image(file)
        assert one.get_data_dtype() == np.uint8 and one.shape == SHAPE
        np.testing.assert_array_equal(one.affine, stored.affine)
    shares = np.stack([LEVELS - dark - bright, bright, dark])
    clear = np.sort(shares, axis=0)[-1] - np.sort(shares, axis=0)[-2] > 3  # beyond rounding
    assert clear.mean() > 0.8 and {1, 2} <= set(np.unique(label_map[clear]))
    np.testing.assert_array_equal(shares.argmax(axis=0)[clear], label_map[clear])
    image = SubjectImage.of(load_subject(open_dataset(case.data), "ball_1"))
    found = Predictor(case.checkpoint, InferenceOverrides(maps=True)).segment_in_detail(image).maps
    assert found is not None
    expected = stored_values(found.uncertainty, np.log2(3))[::-1]
    np.testing.assert_array_equal(case.stored("uncertainty"), expected)
    assert not np.array_equal(expected, expected[::-1])
    assert not map_file(case.prediction.file, kinds_of(read_metadata(case.checkpoint), 2)[1]).exists()
    case.evaluate("ball_1")
    assert kept(case.prediction) is None and not list(tmp_path.rglob("uncertainty.nii.gz")), "an earlier prediction's"


@pytest.mark.slow
def test_maps_are_made_later_with_the_options_of_the_prediction(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(tmp_path, ball_run, "--mirror", "--overlap", "0.25", "--mode", "tiles")
    record = case.prediction.file.with_name("ball_1.json")
    before = record.read_bytes(), case.prediction.file.read_bytes()
    assert kept(case.prediction) is None and passes_of(read_metadata(case.checkpoint), case.prediction.settings) == 2
    capsys.readouterr()
    assert case.command("maps", "--json", "--progress") == 0
    printed = capsys.readouterr()
    made = json.loads(printed.out)["subjects"]["ball_1"]
    assert printed.err.splitlines()[-1] == "progress 100/100"
    assert (made["passes"], made["changed_voxels"]) == (2, 0)
    assert made["maps"].keys() == {"uncertainty", "mutual-information", "probability-1", "probability-2"}
    assert (record.read_bytes(), case.prediction.file.read_bytes()) == before
    overrides = InferenceOverrides(mirror=True, overlap=0.25, mode="tiles", maps=True, logits=True)
    predictor = Predictor(case.checkpoint, overrides)
    found = predictor.segment_in_detail(SubjectImage.of(load_subject(open_dataset(case.data), "ball_1"))).maps
    assert found is not None and found.mutual_information is not None and found.logits is not None
    np.testing.assert_array_equal(case.stored("mutual-information")[::-1], stored_values(found.mutual_information, 1))
    assert case.command("maps") == 0 and "kept maps of 0 subjects" in capsys.readouterr().out
    assert kept(case.prediction) == kept_maps.KeptMaps(2), "logits are made where they are asked for"
    assert case.command("maps", "--logits") == 0 and "kept maps of 1 subject" in capsys.readouterr().out
    assert kept(case.prediction) == kept_maps.KeptMaps(2, logits=True)
    for n, of_class in enumerate(found.logits):
        stored = case.stored(f"logit-{n}")
        np.testing.assert_array_equal(stored[::-1], stored_values(of_class, 20, -20))
        assert len(np.unique(stored)) > 10, "else the test says nothing"
    np.testing.assert_array_equal(case.stored("mutual-information")[::-1], stored_values(found.mutual_information, 1))
    assert case.command("maps", "--logits") == 0 and "kept maps of 0 subjects" in capsys.readouterr().out
    written = map_file(case.prediction.file, kinds_of(read_metadata(case.checkpoint), 2)[0]).with_name("maps.json")
    earlier = {name: value for name, value in json.loads(written.read_text()).items() if name != "logits"}
    written.write_text(json.dumps(earlier))
    assert kept(case.prediction) == kept_maps.KeptMaps(2), "of an earlier version, which knew no logits"


@pytest.mark.slow
def test_maps_that_would_not_belong_to_the_prediction_are_refused(ball_run: BallRun, tmp_path: Path) -> None:
    case = Case(tmp_path, ball_run)
    prediction, dataset = case.prediction, open_dataset(case.data)
    file = prediction.file
    labels = np.asarray(load_image(file).dataobj)[::-1]  # canonical
    loaded = load_subject(dataset, "ball_1")
    write_label(file, np.roll(labels, 2, axis=0), loaded.stored, loaded.first_image)
    with pytest.raises(RunError, match=r"gives [0-9]+ voxels another class"):
        make_maps(case.checkpoint, dataset, prediction)
    case.evaluate("ball_1")
    with pytest.raises(RunError, match="was replaced while its maps were made"):
        make_maps(case.checkpoint, dataset, prediction)
    assert kept(case.prediction) is None
    checkpoint = load(case.checkpoint)
    checkpoint.metadata.progress["epoch"] = 99
    save(case.checkpoint, checkpoint)
    with pytest.raises(RunError, match="got one made with an earlier checkpoint of this run; segment the case again"):
        make_maps(case.checkpoint, dataset, case.prediction)


@pytest.mark.slow
def test_oldest_maps_are_removed_beyond_the_limit(
    ball_run: BallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, ball_run, "--maps")
    monkeypatch.setattr(kept_maps, "MAX_BYTES", 1)
    case.evaluate("ball_0", "--maps")
    found = case.predictions
    assert kept(found["ball_0"]) is not None and kept(found["ball_1"]) is None
    assert found["ball_1"].file.is_file(), "the prediction stays"
    assert not list(tmp_path.rglob("maps/ball_1"))


def test_maps_without_keeping_segmentations_are_a_clear_error(
    ball_run: BallRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(ball_run.checkpoint), str(ball_run.data), "--maps"]) == 1
    assert "--maps: expected --keep beside it" in capsys.readouterr().err
