"""Heat layers of a kept prediction: their ranges, and maps that mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import VolumeError
from core.inference.uncertainty import MUTUAL_INFORMATION_SHOWN_BIT
from core.runs.kept_maps import KeptMaps
from core.runs.predictions import Prediction
from tests.support.checkpoint_files import checkpoint_metadata
from ui.review import heat_layers
from ui.review.heat_layers import heat_of
from ui.shared.jobs import Job
from ui.viewer.heat import HeatFile

METADATA = checkpoint_metadata()


def layers(folder: Path, **settings: object) -> dict[str, HeatFile]:
    file = folder / "case.nii.gz"
    file.touch()
    prediction = Prediction("case", file, None, 1, 1, "", 1.0, settings=settings)
    return {layer.name: layer for layer in heat_of(folder / "model", folder, METADATA, prediction)}


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
    monkeypatch.setattr("ui.shared.maps_job.advance", lambda *_: Job("done"))
    monkeypatch.setattr(heat_layers, "read_kept_maps", lambda *_: KeptMaps(1))
    prepare = offered["mutual information"].prepare
    assert prepare is not None and offered["uncertainty"].prepare is not None
    with pytest.raises(VolumeError, match="expected several passes to compare, got one"):
        prepare()
    offered["uncertainty"].prepare()
    assert "mutual information" not in layers(tmp_path, mirror=True), "once the number of passes is known"
