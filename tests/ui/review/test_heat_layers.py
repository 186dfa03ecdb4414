"""Heat layers of a kept prediction: their ranges, and maps that mean nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.checkpointing.metadata import MEMBERS, CheckpointMetadata
from core.errors import VolumeError
from core.inference.uncertainty import MUTUAL_INFORMATION_SHOWN_BIT
from core.runs.kept_maps import KeptMaps
from core.runs.kept_stage_maps import KeptStage, KeptStageMap
from core.runs.predictions import Prediction
from tests.support.checkpoint_files import checkpoint_metadata
from ui.review import heat_layers
from ui.review.heat_layers import heat_of, stage_layers
from ui.shared.jobs import Job
from ui.viewer.heat import HeatFile

METADATA = checkpoint_metadata()


def layers(
    folder: Path, metadata: CheckpointMetadata = METADATA, stale: str = "", **settings: object
) -> dict[str, HeatFile]:
    file = folder / "case.nii.gz"
    file.touch()
    prediction = Prediction("case", file, None, 1, 1, stale, 1.0, settings=settings)
    return {layer.name: layer for layer in heat_of(folder / "model", folder, metadata, prediction)}


def test_mutual_information_has_a_colour_range_of_its_own_that_is_the_same_for_all_passes(tmp_path: Path) -> None:
    two, four = layers(tmp_path, mirror=True), layers(tmp_path, members=[{}] * 4)
    scales = [shown["mutual information"].scale for shown in (two, four)]
    assert [scale.bright for scale in scales] == [MUTUAL_INFORMATION_SHOWN_BIT] * 2 == [0.25, 0.25]
    assert scales[0].high == 1 and scales[0].high <= scales[1].high, "what is stored reaches to the largest value"
    uncertainty = two["uncertainty"].scale
    assert uncertainty.bright == uncertainty.high > 1
    assert "brightest colour from 0.25 bit on" in two["mutual information"].help


def test_one_pass_has_no_mutual_information(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where mirroring was asked for and the image, whose sides are not known, was not mirrored."""
    assert "mutual information" not in layers(tmp_path, mirror=False)
    offered = layers(tmp_path, mirror=True)
    monkeypatch.setattr("ui.shared.maps_job.advance", lambda *_, logits: Job("done"))
    monkeypatch.setattr(heat_layers, "read_kept_maps", lambda *_: KeptMaps(1))
    prepare = offered["mutual information"].prepare
    assert prepare is not None and offered["uncertainty"].prepare is not None
    with pytest.raises(VolumeError, match="expected several passes to compare, got one"):
        prepare()
    offered["uncertainty"].prepare()
    assert "mutual information" not in layers(tmp_path, mirror=True), "once the number of passes is known"


def test_logits_are_signed_made_when_asked_for_and_none_of_an_ensemble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def advance(*_: object, logits: bool) -> Job:
        asked.append(logits)
        return Job("done")

    monkeypatch.setattr("ui.shared.maps_job.advance", advance)
    monkeypatch.setattr(heat_layers, "read_kept_maps", lambda *_: KeptMaps(1))
    offered = layers(tmp_path)
    assert [name for name in offered if "logit" in name] == ["logit of background", "logit of CSF", "logit of GM"]
    logit, scale = offered["logit of CSF"], offered["logit of CSF"].scale
    assert (scale.low, scale.high, scale.bright, scale.unit, scale.signed) == (-20, 20, 10, "logit", True)
    assert scale.low + (scale.high - scale.low) * 125 / scale.levels == 0, "0 is one of the steps"
    assert logit.help.endswith(heat_layers.ON_DEMAND), "the other maps are kept"
    assert not offered["uncertainty"].help.endswith(heat_layers.ON_DEMAND)
    for layer in (logit, offered["probability of CSF"]):
        assert layer.prepare is not None
        layer.prepare()
    assert asked == [True, False]
    monkeypatch.setattr(heat_layers, "read_kept_maps", lambda *_: KeptMaps(1, changed_voxels=7, logits=True))
    assert "7 voxels had another class" in layers(tmp_path)["logit of CSF"].help
    ensemble = replace(METADATA, inference={MEMBERS: [{"name": "one"}, {"name": "two"}]})
    assert not any("logit" in name for name in layers(tmp_path, ensemble))


def test_logits_of_an_outdated_segmentation_are_offered_only_where_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kept in (KeptMaps(1), KeptMaps(1, logits=True)):
        monkeypatch.setattr(heat_layers, "read_kept_maps", lambda *_, kept=kept: kept)
        offered = layers(tmp_path, stale="with an earlier checkpoint")
        assert "uncertainty" in offered and ("logit of GM" in offered) == kept.logits


def test_feature_maps_are_one_group_with_the_range_of_each_and_the_voxels_of_the_stage(tmp_path: Path) -> None:
    maps = (KeptStageMap("mean", None, 0, 4, 3), KeptStageMap("channel-5", 5, -0.05, 0.05, 0.02))
    prediction = Prediction("case", tmp_path / "case.nii.gz", None, 1, 1, "", 1.0)
    mean, signed = stage_layers(prediction, KeptStage("encoder-1", 64, (2, 2, 3), True, maps))
    assert [one.name for one in (mean, signed)] == ["encoder-1 mean", "encoder-1 channel 5"]
    assert {one.group for one in (mean, signed)} == {"feature"} and signed.choice == "encoder-1, channel 5"
    assert signed.file == tmp_path / "maps" / "case" / "features" / "encoder-1" / "channel-5.nii.gz"
    assert (mean.scale.low, mean.scale.high, mean.scale.bright, mean.scale.signed) == (0, 4, 3, False)
    scale = signed.scale
    assert (scale.low, scale.high, scale.levels, scale.signed) == (-0.05, 0.05, 250, True)
    assert mean.scale.digits == 2 and scale.digits == 4, "steps of 0.016 and 0.0004"
    assert "mean of the absolute activations of all 64 channels of encoder-1" in mean.help
    assert "voxels of 2 × 2 × 3 mm, not smoothed" in signed.help and "from -0.05 to 0.05" in signed.help
    assert mean.prepare is None, "they are there, and fetched when they are shown"
