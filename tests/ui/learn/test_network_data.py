"""Data of a network for the Learn page: stages of an architecture, and feature maps for the browser."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.config import ModelConfig, TrainConfig
from core.datasets import load_subject, open_dataset
from core.inference.predictor import Predictor
from core.inspection.feature_maps import compute_feature_maps, write_feature_maps
from core.inspection.network_inspector import answer
from tests.support.balls import SPACING_MM, balls, write_balls
from tests.support.learn_data import BALL_LABELS, ISEG_LABELS, ball_model
from ui.learn import network_data
from ui.viewer import volumes


@pytest.mark.parametrize("model", ["unet3d", "vnet"])
def test_stages_of_the_architecture_equal_those_of_the_network(tmp_path: Path, model: str) -> None:
    predictor = Predictor(ball_model(tmp_path / "m.safetensors", model))
    feature_maps = compute_feature_maps(predictor, balls(1)[0], SPACING_MM)
    config = TrainConfig(model=ModelConfig(model, (4, 6, 8), norm="instance")).to_json()["model"]
    question = {"question": "network", "model": config, "in_channels": 1, "classes": 3, "size": [16, 16, 16]}
    stages = network_data.network_stages(answer(question), ("M0",), BALL_LABELS.names, (16, 16, 16))
    assert [(s["name"], s["kind"], s["level"], s["channels"], tuple(s["size"])) for s in stages] == [
        (s.name, s.kind, s.level, len(s.values), s.size) for s in feature_maps.stages
    ]


def read_bundle(url: str) -> dict[str, Any]:
    """The file that the browser loads."""
    bundle: dict[str, Any] = json.loads(
        gzip.decompress(volumes._published[url.removeprefix(volumes.PREFIX)].read_bytes())
    )
    return bundle


@pytest.mark.parametrize("subject", ["ball_0", "ball_1"])  # stored as RAS and as LAS
def test_published_maps_hold_pictures_logits_and_the_truth_of_the_slice(
    checkpoints: Path, tmp_path: Path, subject: str
) -> None:
    data, out = write_balls(tmp_path / "data", subjects=2), tmp_path / "maps"
    predictor = Predictor(ball_model(tmp_path / "m.safetensors"))
    loaded = load_subject(open_dataset(data), subject)
    manifest = write_feature_maps(out, predictor, loaded)
    url = network_data.publish_feature_maps(out, data, subject, predictor.labels)
    bundle = read_bundle(url)
    named = [m["file"] for stage in manifest["stages"] for m in stage["maps"]]
    assert set(bundle["files"]) == set(named)
    assert base64.b64decode(bundle["files"][named[0]]) == (out / named[0]).read_bytes()
    i, j, _ = manifest["sub_volume"]["start"]
    assert loaded.label is not None
    expected = loaded.label[i : i + 16, j : j + 16, manifest["slice"]].T[::-1, ::-1]
    assert expected.any()
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(bundle["truth"]), np.uint8).reshape(16, 16), expected)
    logits = np.frombuffer(base64.b64decode(bundle["logits"]), "<f4").reshape(3, 16, 16)
    values = compute_feature_maps(predictor, loaded.image, loaded.geometry.spacing_mm).stage("logits").values
    np.testing.assert_array_equal(logits, values.transpose(0, 2, 1)[:, ::-1, ::-1])
    assert network_data.publish_feature_maps(out, data, subject, predictor.labels) == url
    assert read_bundle(network_data.publish_feature_maps(out, data, subject, ISEG_LABELS))["truth"] is None, (
        "other classes"
    )
