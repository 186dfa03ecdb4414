"""Feature maps of a stage that are kept beside predictions: values and ranges, added to, bounded, removed with them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from core.checkpointing.checkpoint import load, save
from core.datasets import load_subject, open_dataset
from core.errors import RunError
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.stage_maps import STRONGEST, StageMaps, StageRequest
from core.inference.stage_pass import compute_stage_maps
from core.inference.subject_image import SubjectImage
from core.runs import kept_maps
from core.runs.kept_maps import LEVELS, read_kept_maps
from core.runs.kept_stage_maps import KeptStage, add_stage_maps, read_kept_stage, stage_map_file, suffices, with_kept
from core.runs.map_maker import make_stage_maps
from core.runs.predictions import Prediction
from tests.support.balls import SHAPE, SPACING_MM
from tests.support.map_cases import Case
from tests.support.volume_files import load as load_image

if TYPE_CHECKING:
    from tests.core.conftest import BallRun


def kept(prediction: Prediction, stage: str = "bottleneck") -> KeptStage | None:
    return read_kept_stage(prediction.file, prediction.made_at, stage)


@pytest.mark.slow
def test_command_keeps_maps_whose_values_are_those_of_the_network_up_to_a_step(
    ball_run: BallRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a subject that is stored as LAS; the maps lie in the geometry of its image."""
    case = Case(tmp_path, ball_run, "--mirror", "--mode", "tiles", "--overlap", "0.25")
    capsys.readouterr()
    assert case.command("maps", "--stage", "bottleneck", "--json", "--progress") == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1] == "progress 100/100"
    report = json.loads(printed.out)["subjects"]["ball_1"]
    assert (report["stage"], report["channels"]) == ("bottleneck", 16)
    assert report["voxel_mm"] == [2 * mm for mm in SPACING_MM]
    assert len(report["maps"]) == STRONGEST + 1 and "mean" in report["maps"]
    image = SubjectImage.of(load_subject(open_dataset(case.data), "ball_1"))
    predictor = Predictor(case.checkpoint, InferenceOverrides(overlap=0.25, mode="tiles"))
    expected = compute_stage_maps(predictor, image, StageRequest("bottleneck"))
    values = {"mean": expected.mean, **{f"channel-{n}": one for n, one in expected.channels.items()}}
    assert report["maps"].keys() == values.keys()
    stored_image = load_image(case.data / "imagesTr" / "ball_1.nii.gz")
    for key, described in report["maps"].items():
        low, high, levels = described["low"], described["high"], described["levels"]
        one = load_image(Path(described["file"]))
        assert one.get_data_dtype() == np.uint8 and one.shape == SHAPE
        np.testing.assert_array_equal(one.affine, stored_image.affine)
        canonical = np.asarray(one.dataobj)[::-1]
        step = (high - low) / levels
        np.testing.assert_allclose(low + step * canonical, values[key], atol=0.501 * step)
        assert high == pytest.approx(np.abs(values[key]).max()) and low in (0, -high)
        assert len(np.unique(canonical)) > 20, "else the test says nothing"
    assert report["maps"]["mean"]["low"] == 0 and levels == LEVELS
    assert case.command("maps", "--stage", "bottleneck") == 0
    assert "kept feature maps of 0 subjects" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.slow
def test_a_channel_is_added_to_the_others_and_other_maps_stay(ball_run: BallRun, tmp_path: Path) -> None:
    case = Case(tmp_path, ball_run, "--maps")
    assert kept(case.prediction) is None
    assert case.command("maps", "--stage", "bottleneck", "--channel", "5", "--channel", "2") == 0
    first = kept(case.prediction)
    assert first is not None and (first.channels, first.strongest) == ((2, 5), False)
    assert case.command("maps", "--stage", "bottleneck") == 0
    second = kept(case.prediction)
    assert second is not None and second.strongest and {2, 5} < set(second.channels)
    assert STRONGEST <= len(second.channels) <= STRONGEST + 2
    assert case.command("maps", "--stage", "encoder-0", "--channel", "1") == 0
    assert read_kept_maps(case.prediction.file, case.prediction.made_at) == kept_maps.KeptMaps(1)
    assert case.command("maps", "--logits") == 0
    assert kept(case.prediction) == second and kept(case.prediction, "encoder-0") is not None
    case.evaluate("ball_1")
    assert kept(case.prediction) is None and not list(tmp_path.rglob("channel-*")), "an earlier prediction's"


@pytest.mark.long
@pytest.mark.slow
def test_oldest_folder_of_maps_is_removed_beyond_the_limit(
    ball_run: BallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, ball_run, "--maps")
    assert case.command("maps", "--stage", "encoder-0", "--channel", "0") == 0
    prediction = case.prediction
    record = stage_map_file(prediction.file, "encoder-0", "mean").with_name("maps.json")
    os.utime(record, (1, 1))  # older than the other maps of the case
    sizes = [file.stat().st_size for file in prediction.file.with_name("maps").rglob("*") if file.is_file()]
    monkeypatch.setattr(kept_maps, "MAX_BYTES", sum(sizes))
    assert case.command("maps", "--stage", "bottleneck", "--channel", "0") == 0
    assert kept(prediction, "encoder-0") is None and not record.parent.exists()
    assert kept(prediction) is not None
    assert read_kept_maps(prediction.file, prediction.made_at) is not None, "the newer ones stay"


@pytest.mark.long
@pytest.mark.slow
def test_maps_of_an_outdated_or_replaced_prediction_are_refused(ball_run: BallRun, tmp_path: Path) -> None:
    case = Case(tmp_path, ball_run)
    prediction, dataset = case.prediction, open_dataset(case.data)
    case.evaluate("ball_1")
    with pytest.raises(RunError, match="was replaced while its maps were made"):
        make_stage_maps(case.checkpoint, dataset, prediction, StageRequest("bottleneck", (0,), strongest=False))
    checkpoint = load(case.checkpoint)
    checkpoint.metadata.progress["epoch"] = 99
    save(case.checkpoint, checkpoint)
    with pytest.raises(RunError, match="got one made with an earlier checkpoint of this run; segment the case again"):
        make_stage_maps(case.checkpoint, dataset, case.prediction, StageRequest("bottleneck"))


def test_ranges_are_those_of_the_values(ball_run: BallRun, tmp_path: Path) -> None:
    loaded = load_subject(open_dataset(ball_run.data), "ball_0")
    label_map = tmp_path / "ball_0.nii.gz"
    label_map.with_name("ball_0.json").write_text(json.dumps({"made_at": 2.5}))
    signed = np.zeros(SHAPE, np.float32)
    signed[0, 0, :3] = (-8, 2, 4)
    mean = np.full(SHAPE, 1, np.float32)
    mean[0, 0, 0] = 30
    maps = StageMaps("encoder-0", 8, (1, 1, 1.5), mean, {3: signed, 6: np.zeros(SHAPE, np.float32)})
    found = add_stage_maps(label_map, 2.5, loaded, maps, strongest=False)
    assert found == read_kept_stage(label_map, 2.5, "encoder-0")
    assert read_kept_stage(label_map, 3.5, "encoder-0") is None, "of another prediction"
    assert [(one.key, one.low, one.high) for one in found.maps] == [
        ("mean", 0, 30), ("channel-3", -8, 8), ("channel-6", 0, 1),
    ]  # fmt: skip
    assert found.maps[0].bright == 1, "one voxel does not darken all others"
    stored = np.asarray(load_image(stage_map_file(label_map, "encoder-0", "channel-3")).dataobj)
    assert sorted(np.unique(stored)) == [0, 125, 156, 188], "-8, 0, 2 and 4 in steps of 0.064"


def test_what_is_kept_suffices_or_is_made_again_with_it() -> None:
    few = KeptStage("encoder-0", 64, (1, 1, 1), False, ())
    assert suffices(few, StageRequest("encoder-0", (), strongest=False))
    assert not suffices(few, StageRequest("encoder-0")) and not suffices(None, StageRequest("encoder-0"))
    assert with_kept(StageRequest("encoder-0"), None) == StageRequest("encoder-0")
