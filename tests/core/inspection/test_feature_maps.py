"""What a network computes inside: shapes, ranges and pictures, and labels that are those of a prediction."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from core.checkpointing.checkpoint import Checkpoint, load, save
from core.config import ModelConfig, TrainConfig
from core.datasets import load_subject, open_dataset
from core.errors import ConfigError, VolumeError
from core.inference.predictor import Choices, Predictor
from core.inspection.feature_maps import MANIFEST, features, write_features
from core.models import build_model
from core.models.unet3d import UNet3D
from tests.support.balls import SPACING_MM, balls

if TYPE_CHECKING:
    from tests.core.conftest import BallRun

TILE = (16, 16, 16)  # of the shared run, whose network has the channels 8 and 16


@pytest.fixture
def segmenter(ball_run: BallRun) -> Predictor:
    return Predictor(ball_run.checkpoint, Choices(mode="tiles", precision="fp32"))


def test_the_stages_of_a_u_net(segmenter: Predictor) -> None:
    image, _ = balls(90)
    found = features(segmenter, image, SPACING_MM)
    assert [(s.name, s.level, len(s.values), s.size) for s in found.stages] == [
        ("input", 0, 1, TILE), ("encoder-0", 0, 8, TILE), ("bottleneck", 1, 16, (8, 8, 8)), ("decoder-0", 0, 8, TILE),
        ("logits", 0, 3, TILE), ("softmax", 0, 3, TILE),
    ]  # fmt: skip
    for stage in found.stages:
        assert stage.values.shape[1:] == stage.size[:2] and stage.values.dtype == np.float32
        assert np.isfinite(stage.values).all() and stage.values.std() > 0
    probabilities = found.stage("softmax").values
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-6)
    raised = np.exp(found.stage("logits").values)
    np.testing.assert_allclose(probabilities, raised / raised.sum(axis=0), atol=1e-5)
    assert found.stage("logits").names == ("background", "bright", "dark") and found.stage("input").names == ("M0",)


def test_the_largest_pre_activation_is_the_label_of_a_prediction(segmenter: Predictor) -> None:
    image, label = balls(91, shape=TILE)
    found = features(segmenter, image, SPACING_MM)
    assert (found.start, found.slice) == ((0, 0, 0), 8)
    predicted = segmenter.segment(image, SPACING_MM)  # one tile: the same sub-volume
    np.testing.assert_array_equal(found.stage("logits").values.argmax(axis=0), predicted[:, :, found.slice])
    np.testing.assert_array_equal(found.stage("softmax").values.argmax(axis=0), predicted[:, :, found.slice])
    assert (predicted == label).mean() > 0.9


def test_the_stages_are_the_networks_own(segmenter: Predictor) -> None:
    """Against the layers called one by one."""
    image, _ = balls(92, shape=TILE)
    found = features(segmenter, image, SPACING_MM)
    network = segmenter.model
    assert isinstance(network, UNet3D)
    head = image[image != 0]
    x = torch.from_numpy(((image - head.mean()) / head.std())[None])
    with torch.no_grad():
        fine = network.encoder[0](x)
        deep = network.bottleneck(fine)
        up = network.decoder[0](deep, fine)
        logits = network.classifier(up)
    for name, values, at in (
        ("encoder-0", fine, 8),
        ("bottleneck", deep, 4),
        ("decoder-0", up, 8),
        ("logits", logits, 8),
    ):
        np.testing.assert_allclose(found.stage(name).values, values[0, ..., at].numpy(), rtol=1e-4, atol=1e-4)


def test_the_sub_volume_lies_around_the_middle_of_the_head(segmenter: Predictor) -> None:
    image = np.zeros((1, 60, 50, 40), np.float32)
    image[0, 20:40, 10:30, 22:38] = balls(93, shape=(20, 20, 16))[0][0]
    found = features(segmenter, image, SPACING_MM)
    assert found.start == (22, 12, 22) and found.size == TILE and found.slice == 30 and found.shape == (60, 50, 40)
    assert features(segmenter, image[:, 30:], SPACING_MM).start[0] == 0  # moved inside where it would stick out
    small = features(segmenter, image[:, 20:40, 10:30, 22:32], SPACING_MM)
    assert small.start == (2, 2, -3) and small.slice == 5  # zeros around what is smaller
    assert (small.stage("input").values != 0).any()


def test_sizes_are_rounded_up_to_what_the_levels_halve(segmenter: Predictor) -> None:
    image, _ = balls(94)
    assert features(segmenter, image, SPACING_MM, (9, 12, 1)).size == (10, 12, 4)
    with pytest.raises(ConfigError, match="1 to 512 voxels a side, got 8x0x8"):
        features(segmenter, image, SPACING_MM, (8, 0, 8))


def test_another_voxel_size_is_that_of_training(ball_run: BallRun, tmp_path: Path) -> None:
    checkpoint = load(ball_run.checkpoint)
    checkpoint.description = replace(checkpoint.description, spacing_mm=SPACING_MM)
    save(tmp_path / "spaced.safetensors", checkpoint)
    image, _ = balls(95)
    found = features(Predictor(tmp_path / "spaced.safetensors"), image, (2.0, 2.0, 3.0))
    assert found.shape == (40, 48, 36) and found.spacing_mm == SPACING_MM


def test_a_v_net_and_its_wide_decoder(ball_run: BallRun, tmp_path: Path) -> None:
    description = load(ball_run.checkpoint).description
    model = ModelConfig("vnet", (4, 8, 16), (), "instance", "prelu", "stride", "after")
    config = TrainConfig.from_json(description.config).with_values(
        {"model": "vnet", "channels": (4, 8, 16), "norm": "instance", "precision": "fp32"}
    )
    torch.manual_seed(0)
    weights = build_model(model, 1, 3).state_dict()
    save(tmp_path / "v.safetensors", Checkpoint(replace(description, config=config.to_json()), weights))
    found = features(Predictor(tmp_path / "v.safetensors"), balls(96)[0], SPACING_MM)
    assert [(s.name, len(s.values), s.size[0]) for s in found.stages] == [
        ("input", 1, 16), ("encoder-0", 4, 16), ("encoder-1", 8, 8), ("bottleneck", 16, 4), ("decoder-1", 16, 8),
        ("decoder-0", 8, 16), ("logits", 3, 16), ("softmax", 3, 16),
    ]  # fmt: skip


@pytest.mark.parametrize("subject", ["ball_0", "ball_1"])
def test_pictures_numbers_and_manifest(ball_run: BallRun, segmenter: Predictor, tmp_path: Path, subject: str) -> None:
    loaded = load_subject(open_dataset(ball_run.data), subject)
    done: list[tuple[int, int]] = []
    out = tmp_path / "new" / "folder"
    write_features(out, segmenter, loaded, progress=lambda n, of: done.append((n, of)))
    assert done == [(n, 7) for n in range(1, 8)]
    manifest = json.loads((out / MANIFEST).read_text("utf-8"))
    found = features(segmenter, loaded.image, loaded.geometry.spacing_mm)
    assert manifest["sub_volume"] == {"start": list(found.start), "size": list(TILE)} and manifest["oriented"] is True
    assert [c["name"] for c in manifest["classes"]] == ["background", "bright", "dark"]
    for entry, stage in zip(manifest["stages"], found.stages, strict=True):
        assert (entry["name"], entry["channels"], entry["size"]) == (stage.name, len(stage.values), list(stage.size))
        assert len(entry["maps"]) == min(16, len(stage.values))
        for m in entry["maps"]:
            grey = np.asarray(Image.open(out / m["file"]))
            assert grey.dtype == np.uint8 and grey.shape == (stage.size[1], stage.size[0])
            values = m["min"] + grey / 255.0 * (m["max"] - m["min"])
            expected = stage.values[m["channel"]].T[::-1, ::-1]  # nose up, the patient's right on the left
            np.testing.assert_allclose(values, expected, atol=(m["max"] - m["min"]) / 500)
    scales = {(m["min"], m["max"]) for s in manifest["stages"] if s["name"] == "logits" for m in s["maps"]}
    assert len(scales) == 1, "classes are compared on one scale"
    numbers = np.fromfile(out / manifest["logits"], "<f4").reshape(3, 16, 16)
    np.testing.assert_array_equal(numbers, found.stage("logits").values.transpose(0, 2, 1)[:, ::-1, ::-1])


def test_of_many_channels_those_that_vary_most(ball_run: BallRun, tmp_path: Path) -> None:
    description = load(ball_run.checkpoint).description
    config = TrainConfig.from_json(description.config).with_values({"channels": (20, 40)})
    torch.manual_seed(0)
    weights = build_model(config.model, 1, 3).state_dict()
    save(tmp_path / "wide.safetensors", Checkpoint(replace(description, config=config.to_json()), weights))
    segmenter = Predictor(tmp_path / "wide.safetensors")
    loaded = load_subject(open_dataset(ball_run.data), "ball_0")
    manifest = write_features(tmp_path / "out", segmenter, loaded)
    stage = features(segmenter, loaded.image, loaded.geometry.spacing_mm).stage("bottleneck")
    spread = stage.values.reshape(40, -1).std(axis=1)
    shown = [m["channel"] for m in manifest["stages"][2]["maps"]]
    assert len(shown) == 16 and shown == sorted(shown)
    assert spread[shown].min() >= np.delete(spread, shown).max()


def test_a_flat_map_is_black_and_a_folder_that_is_a_file_is_refused(segmenter: Predictor, tmp_path: Path) -> None:
    loaded = load_subject(open_dataset(segmenter_data(segmenter)), "ball_0")
    flat = replace(loaded, image=np.zeros_like(loaded.image))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manifest = write_features(tmp_path / "flat", segmenter, flat)
    first = manifest["stages"][0]["maps"][0]
    assert first["min"] == first["max"] == 0 and np.asarray(Image.open(tmp_path / "flat" / first["file"])).max() == 0
    (tmp_path / "file").write_text("x")
    with pytest.raises(VolumeError, match="cannot be written"):
        write_features(tmp_path / "file", segmenter, loaded)


def segmenter_data(segmenter: Predictor) -> Path:
    return Path(segmenter.description.dataset["path"])
