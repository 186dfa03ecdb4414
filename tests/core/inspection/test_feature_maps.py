"""Feature maps: shapes and values of the stages, position of the sub-volume, pictures and manifest."""

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
from core.errors import ConfigError, DeviceError, VolumeError
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.subject_image import SubjectImage
from core.inspection.feature_maps import MANIFEST, compute_feature_maps, write_feature_maps
from core.models.build import build_model
from core.models.unet3d import UNet3D
from tests.support.balls import SPACING_MM, balls

if TYPE_CHECKING:
    from tests.core.conftest import BallRun

TILE = (16, 16, 16)  # of the shared run; channels 8 and 16


@pytest.fixture
def predictor(ball_run: BallRun) -> Predictor:
    return Predictor(ball_run.checkpoint, InferenceOverrides(mode="tiles", precision="fp32"))


def test_stages_of_the_unet(predictor: Predictor) -> None:
    image, _ = balls(90)
    maps = compute_feature_maps(predictor, image, SPACING_MM)
    assert [(s.name, s.level, len(s.values), s.size) for s in maps.stages] == [
        ("input", 0, 1, TILE), ("encoder-0", 0, 8, TILE), ("bottleneck", 1, 16, (8, 8, 8)), ("decoder-0", 0, 8, TILE),
        ("logits", 0, 3, TILE), ("softmax", 0, 3, TILE),
    ]  # fmt: skip
    for stage in maps.stages:
        assert stage.values.shape[1:] == stage.size[:2] and stage.values.dtype == np.float32
        assert np.isfinite(stage.values).all() and stage.values.std() > 0
    probabilities = maps.stage("softmax").values
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-6)
    raised = np.exp(maps.stage("logits").values)
    np.testing.assert_allclose(probabilities, raised / raised.sum(axis=0), atol=1e-5)
    assert maps.stage("logits").names == ("background", "bright", "dark") and maps.stage("input").names == ("M0",)


def test_argmax_of_the_logits_equals_the_prediction(predictor: Predictor) -> None:
    image, label = balls(91, shape=TILE)
    maps = compute_feature_maps(predictor, image, SPACING_MM)
    assert (maps.start, maps.slice) == ((0, 0, 0), 8)
    predicted = predictor.segment(SubjectImage(image, SPACING_MM))  # one tile equals the sub-volume
    np.testing.assert_array_equal(maps.stage("logits").values.argmax(axis=0), predicted[:, :, maps.slice])
    np.testing.assert_array_equal(maps.stage("softmax").values.argmax(axis=0), predicted[:, :, maps.slice])
    assert (predicted == label).mean() > 0.9


def test_stages_equal_the_layers_called_one_by_one(predictor: Predictor) -> None:
    image, _ = balls(92, shape=TILE)
    maps = compute_feature_maps(predictor, image, SPACING_MM)
    network = predictor.model
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
        np.testing.assert_allclose(maps.stage(name).values, values[0, ..., at].numpy(), rtol=1e-4, atol=1e-4)


def test_activations_that_overflow_are_computed_in_fp32(ball_run: BallRun) -> None:
    """NaN and infinity would be written as pictures and logits."""
    image, _ = balls(90)
    maps = []
    for precision in ("fp32", "fp16"):
        predictor = Predictor(ball_run.checkpoint, InferenceOverrides(mode="tiles", precision=precision))
        norms = [module for module in predictor.model.modules() if isinstance(module, torch.nn.InstanceNorm3d)]
        with torch.no_grad():
            norms[-1].weight.mul_(1e6)
            predictor.model.get_parameter("classifier.weight").mul_(1e-6)
        maps.append(compute_feature_maps(predictor, image, SPACING_MM))
    assert np.abs(maps[0].stage("decoder-0").values).max() > 65_504
    for expected, stage in zip(maps[0].stages, maps[1].stages, strict=True):
        np.testing.assert_array_equal(stage.values, expected.values)
    with torch.no_grad():
        predictor.model.get_parameter("classifier.weight").fill_(torch.nan)
    with pytest.raises(DeviceError, match="expected finite activations, got NaN or infinity in fp32"):
        compute_feature_maps(predictor, image, SPACING_MM)


def test_sub_volume_is_centred_on_the_head(predictor: Predictor) -> None:
    image = np.zeros((1, 60, 50, 40), np.float32)
    image[0, 20:40, 10:30, 22:38] = balls(93, shape=(20, 20, 16))[0][0]
    maps = compute_feature_maps(predictor, image, SPACING_MM)
    assert maps.start == (22, 12, 22) and maps.size == TILE and maps.slice == 30 and maps.shape == (60, 50, 40)
    assert compute_feature_maps(predictor, image[:, 30:], SPACING_MM).start[0] == 0  # shifted inside the volume
    small = compute_feature_maps(predictor, image[:, 20:40, 10:30, 22:32], SPACING_MM)
    assert small.start == (2, 2, -3) and small.slice == 5  # padded
    assert (small.stage("input").values != 0).any()


def test_size_is_rounded_up_to_the_total_stride(predictor: Predictor) -> None:
    image, _ = balls(94)
    assert compute_feature_maps(predictor, image, SPACING_MM, (9, 12, 1)).size == (10, 12, 4)
    with pytest.raises(ConfigError, match="1 to 512 voxels a side, got 8x0x8"):
        compute_feature_maps(predictor, image, SPACING_MM, (8, 0, 8))


def test_image_is_resampled_to_the_spacing_of_training(ball_run: BallRun, tmp_path: Path) -> None:
    checkpoint = load(ball_run.checkpoint)
    checkpoint.metadata = replace(checkpoint.metadata, spacing_mm=SPACING_MM)
    save(tmp_path / "spaced.safetensors", checkpoint)
    image, _ = balls(95)
    maps = compute_feature_maps(Predictor(tmp_path / "spaced.safetensors"), image, (2.0, 2.0, 3.0))
    assert maps.shape == (40, 48, 36) and maps.spacing_mm == SPACING_MM


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "channels", "stages"),
    [
        (
            "highresnet3d",
            (2, 3, 4),
            [("encoder-0", 16), ("encoder-0-2", 16), ("encoder-0-3", 16), ("bottleneck", 16), ("logits", 16)],
        ),
        ("unet2d", (2, 3), [("encoder-0", 16), ("bottleneck", 16), ("decoder-0", 16), ("logits", 16)]),
    ],
)
def test_stages_of_the_same_level_have_names_of_their_own(
    ball_run: BallRun, tmp_path: Path, model: str, channels: tuple[int, ...], stages: list[tuple[str, int]]
) -> None:
    metadata = load(ball_run.checkpoint).metadata
    config = TrainConfig.from_json(metadata.config).with_values({"model": model, "channels": channels})
    network = build_model(config.model, 1, 3)
    path = tmp_path / "other.safetensors"
    save(path, Checkpoint(replace(metadata, config=config.to_json()), dict(network.state_dict())))
    maps = compute_feature_maps(Predictor(path), balls(96)[0], SPACING_MM)
    assert [(s.name, s.size[2]) for s in maps.stages[1:-1]] == stages
    if model == "unet2d":
        seen = maps.stage("bottleneck")
        assert seen.size == (8, 8, 16), "k keeps its slices"


@pytest.mark.slow
def test_stages_of_the_vnet(ball_run: BallRun, tmp_path: Path) -> None:
    metadata = load(ball_run.checkpoint).metadata
    model = ModelConfig("vnet", (4, 8, 16), (), "instance", "prelu", "stride", "after")
    config = TrainConfig.from_json(metadata.config).with_values(
        {"model": "vnet", "channels": (4, 8, 16), "norm": "instance", "precision": "fp32"}
    )
    torch.manual_seed(0)
    weights = build_model(model, 1, 3).state_dict()
    save(tmp_path / "v.safetensors", Checkpoint(replace(metadata, config=config.to_json()), weights))
    maps = compute_feature_maps(Predictor(tmp_path / "v.safetensors"), balls(96)[0], SPACING_MM)
    assert [(s.name, len(s.values), s.size[0]) for s in maps.stages] == [
        ("input", 1, 16), ("encoder-0", 4, 16), ("encoder-1", 8, 8), ("bottleneck", 16, 4), ("decoder-1", 16, 8),
        ("decoder-0", 8, 16), ("logits", 3, 16), ("softmax", 3, 16),
    ]  # fmt: skip


@pytest.mark.parametrize("subject", ["ball_0", "ball_1"])
def test_pictures_logits_and_manifest_agree_with_the_stages(
    ball_run: BallRun, predictor: Predictor, tmp_path: Path, subject: str
) -> None:
    loaded = load_subject(open_dataset(ball_run.data), subject)
    done: list[tuple[int, int]] = []
    out = tmp_path / "new" / "folder"
    write_feature_maps(out, predictor, loaded, progress=lambda n, of: done.append((n, of)))
    assert done == [(n, 7) for n in range(1, 8)]
    manifest = json.loads((out / MANIFEST).read_text("utf-8"))
    maps = compute_feature_maps(predictor, loaded.image, loaded.geometry.spacing_mm)
    assert manifest["sub_volume"] == {"start": list(maps.start), "size": list(TILE)} and manifest["oriented"] is True
    assert [c["name"] for c in manifest["classes"]] == ["background", "bright", "dark"]
    for entry, stage in zip(manifest["stages"], maps.stages, strict=True):
        assert (entry["name"], entry["channels"], entry["size"]) == (stage.name, len(stage.values), list(stage.size))
        assert len(entry["maps"]) == min(16, len(stage.values))
        for m in entry["maps"]:
            grey = np.asarray(Image.open(out / m["file"]))
            assert grey.dtype == np.uint8 and grey.shape == (stage.size[1], stage.size[0])
            values = m["min"] + grey / 255.0 * (m["max"] - m["min"])
            expected = stage.values[m["channel"]].T[::-1, ::-1]  # anterior up, the patient's right on the left
            np.testing.assert_allclose(values, expected, atol=(m["max"] - m["min"]) / 500)
    scales = {(m["min"], m["max"]) for s in manifest["stages"] if s["name"] == "logits" for m in s["maps"]}
    assert len(scales) == 1, "one range for all classes"
    numbers = np.fromfile(out / manifest["logits"], "<f4").reshape(3, 16, 16)
    np.testing.assert_array_equal(numbers, maps.stage("logits").values.transpose(0, 2, 1)[:, ::-1, ::-1])


@pytest.mark.slow
def test_channels_with_the_largest_deviation_are_written(ball_run: BallRun, tmp_path: Path) -> None:
    metadata = load(ball_run.checkpoint).metadata
    config = TrainConfig.from_json(metadata.config).with_values({"channels": (20, 40)})
    torch.manual_seed(0)
    weights = build_model(config.model, 1, 3).state_dict()
    save(tmp_path / "wide.safetensors", Checkpoint(replace(metadata, config=config.to_json()), weights))
    predictor = Predictor(tmp_path / "wide.safetensors")
    loaded = load_subject(open_dataset(ball_run.data), "ball_0")
    manifest = write_feature_maps(tmp_path / "out", predictor, loaded)
    stage = compute_feature_maps(predictor, loaded.image, loaded.geometry.spacing_mm).stage("bottleneck")
    spread = stage.values.reshape(40, -1).std(axis=1)
    shown = [m["channel"] for m in manifest["stages"][2]["maps"]]
    assert len(shown) == 16 and shown == sorted(shown)
    assert spread[shown].min() >= np.delete(spread, shown).max()


def test_constant_map_is_black_and_unwritable_folder_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    loaded = load_subject(open_dataset(data_folder(predictor)), "ball_0")
    flat = replace(loaded, image=np.zeros_like(loaded.image))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manifest = write_feature_maps(tmp_path / "flat", predictor, flat)
    first = manifest["stages"][0]["maps"][0]
    assert first["min"] == first["max"] == 0 and np.asarray(Image.open(tmp_path / "flat" / first["file"])).max() == 0
    (tmp_path / "file").write_text("x")
    with pytest.raises(VolumeError, match="cannot be written"):
        write_feature_maps(tmp_path / "file", predictor, loaded)


def data_folder(predictor: Predictor) -> Path:
    return Path(predictor.metadata.dataset["path"])
