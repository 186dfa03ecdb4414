"""Feature maps of a stage over a whole volume: values of a direct pass, tiles, resolution, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.checkpointing.checkpoint import Checkpoint, save
from core.errors import ConfigError, DeviceError
from core.inference import stage_pass
from core.inference.predictor import InferenceOverrides, Predictor
from core.inference.sliding_window import nearest_tile_inference
from core.inference.stage_maps import STRONGEST, StageRequest
from core.inference.stage_pass import compute_stage_maps
from core.inference.subject_image import SubjectImage
from core.models.build import build_model
from core.models.unet3d import UNet3D
from tests.support.balls import SHAPE, SPACING_MM, balls, tiny
from tests.support.checkpoint_files import checkpoint_metadata

TILE = (16, 16, 16)


def saved_predictor(
    folder: Path,
    overrides: InferenceOverrides | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    **values: object,
) -> Predictor:
    """An untrained network of two levels, 8 and 16 channels, whose batch norm has statistics of its own."""
    config = tiny(path="somewhere", sub_volume=TILE, **values)
    torch.manual_seed(3)
    network = build_model(config.model, 1, 3)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_mean"):
            tensor.uniform_(-0.5, 0.5)
    metadata = replace(checkpoint_metadata(), config=config.to_json(), modalities=("M0",), spacing_mm=spacing_mm)
    path = folder / "network.safetensors"
    save(path, Checkpoint(metadata, dict(network.state_dict())))
    return Predictor(path, overrides or InferenceOverrides(mode="tiles", precision="fp32"))


def unet(predictor: Predictor) -> UNet3D:
    assert isinstance(predictor.model, UNet3D)
    return predictor.model


def direct(predictor: Predictor, prepared: Tensor) -> dict[str, np.ndarray]:
    """Outputs of the stages (channel, i, j, k) of one pass over a prepared image."""
    outputs: dict[str, np.ndarray] = {}
    model = unet(predictor)
    x = prepared[None]
    with torch.no_grad():
        fine = model.encoder[0](x)
        deep = model.bottleneck(fine)
        up = model.decoder[0](deep, fine)
    for name, output in (("encoder-0", fine), ("bottleneck", deep), ("decoder-0", up)):
        outputs[name] = output[0].numpy()
    return outputs


@pytest.mark.parametrize("stage", ["encoder-0", "bottleneck", "decoder-0"])
@pytest.mark.parametrize("mirror", [False, True])
def test_values_are_those_of_a_direct_pass_in_a_volume_of_one_tile(tmp_path: Path, stage: str, mirror: bool) -> None:
    """Also of a mirroring network: the mirrored image is not looked at."""
    predictor = saved_predictor(tmp_path, InferenceOverrides(mode="tiles", precision="fp32", mirror=mirror))
    image = SubjectImage(balls(5, shape=TILE)[0], SPACING_MM)
    expected = direct(predictor, predictor.prepared(image))[stage]
    factor = TILE[0] // expected.shape[1]
    on_grid = expected.repeat(factor, 1).repeat(factor, 2).repeat(factor, 3)
    everything = tuple(range(len(expected)))
    maps = compute_stage_maps(predictor, image, StageRequest(stage, everything, strongest=False))
    assert (maps.stage, maps.channel_count, tuple(maps.channels)) == (stage, len(expected), everything)
    assert maps.voxel_mm == tuple(factor * mm for mm in SPACING_MM)
    for channel, values in maps.channels.items():
        assert values.dtype == np.float32 and values.shape == TILE
        np.testing.assert_array_equal(values, on_grid[channel])
        assert not np.array_equal(values, values[::-1])
    np.testing.assert_allclose(maps.mean, np.abs(on_grid).mean(axis=0), rtol=1e-5, atol=1e-6)


def test_tiles_agree_with_the_whole_volume_within_the_field_of_view(tmp_path: Path) -> None:
    """With batch norm a voxel depends on its neighbourhood alone. Tiles begin at even voxels, as the grid of the
    bottleneck does, and a voxel lies at least 4 from an inner border of the tile that it is taken from: farther than
    the first stage sees, less than the second one does."""
    tiles = saved_predictor(tmp_path, norm="batch")
    whole = Predictor(tiles.path, InferenceOverrides(mode="whole", precision="fp32"))
    image = SubjectImage(balls(6, shape=(28, 24, 20))[0], SPACING_MM)
    steps: list[tuple[int, int]] = []
    for stage, tolerance in (("encoder-0", 1e-5), ("bottleneck", 0.2)):
        request = StageRequest(stage, (0, 3, 5), strongest=False)
        by_tiles = compute_stage_maps(tiles, image, request, lambda done, of: steps.append((done, of)))
        at_once = compute_stage_maps(whole, image, request)
        for channel, expected in at_once.channels.items():
            away = np.abs(by_tiles.channels[channel] - expected)
            scale = np.abs(expected).max()
            assert scale > 0.1 and away.mean() < tolerance * scale / 4, (stage, channel)
            assert (away.max() < tolerance * scale) or stage == "bottleneck"
    assert steps[-1][0] == steps[-1][1] > 4


def test_each_voxel_has_the_value_of_the_tile_whose_centre_is_nearest() -> None:
    image = torch.zeros(1, 8, 4, 4)
    numbers = iter(range(100))

    def numbered(images: Tensor) -> Tensor:
        return torch.stack([torch.full((1, 4, 4, 4), float(next(numbers))) for _ in images])

    joined = nearest_tile_inference(image, numbered, (4, 4, 4), 0.5)  # tiles begin at 0, 2, 4: centres 1.5, 3.5, 5.5
    assert joined.shape == (1, 8, 4, 4)
    assert joined[0, :, 0, 0].tolist() == [0, 0, 0, 1, 1, 2, 2, 2], "and of equally near ones the first"
    assert bool((joined == joined[:, :, :1, :1]).all())


def test_strongest_channels_are_those_that_vary_most_in_the_middle(tmp_path: Path) -> None:
    predictor = saved_predictor(tmp_path)
    image = SubjectImage(balls(7, shape=TILE)[0], SPACING_MM)
    deviation = direct(predictor, predictor.prepared(image))["bottleneck"].reshape(16, -1).std(axis=1)
    expected = sorted(np.argsort(-deviation)[:STRONGEST].tolist())
    assert list(compute_stage_maps(predictor, image, StageRequest("bottleneck")).channels) == expected
    weakest = int(deviation.argmin())
    both = compute_stage_maps(predictor, image, StageRequest("bottleneck", (weakest,)))
    assert list(both.channels) == sorted([*expected, weakest])


def test_outside_of_the_foreground_there_is_nothing_and_inside_the_grid_is_that_of_the_image(tmp_path: Path) -> None:
    predictor = saved_predictor(tmp_path)
    image = np.zeros((1, 40, 30, 26), np.float32)
    image[0, 8:24, 9:25, 4:20] = balls(8, shape=TILE)[0][0]
    maps = compute_stage_maps(predictor, SubjectImage(image, SPACING_MM), StageRequest("encoder-0", (0, 1)))
    margin = 4  # of the foreground
    inside = np.zeros(image.shape[1:], bool)
    inside[8 - margin : 24 + margin, 9 - margin : 25 + margin, : 20 + margin] = True
    assert maps.mean.shape == (40, 30, 26) and not maps.mean[~inside].any()
    assert (maps.mean[inside] != 0).mean() > 0.9


def test_a_network_with_voxels_of_its_own_gives_maps_on_the_grid_of_the_image(tmp_path: Path) -> None:
    predictor = saved_predictor(tmp_path, spacing_mm=(2.0, 2.0, 3.0))
    image, _ = balls(9, shape=(2 * TILE[0], 2 * TILE[1], 2 * TILE[2]))
    maps = compute_stage_maps(predictor, SubjectImage(image, SPACING_MM), StageRequest("bottleneck", (2,)))
    assert predictor.target_mm == (2.0, 2.0, 3.0) and maps.voxel_mm == (4.0, 4.0, 6.0)
    values = maps.channels[2]
    assert values.shape == image.shape[1:]
    blocks = values.reshape(8, 4, 8, 4, 8, 4)
    np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1, :, :1], blocks.shape))
    expected = direct(predictor, predictor.prepared(SubjectImage(image, SPACING_MM)))["bottleneck"][2]
    np.testing.assert_allclose(blocks[:, 0, :, 0, :, 0], expected, rtol=1e-4, atol=1e-5)


def test_networks_that_halve_only_two_axes_and_pad_inside(tmp_path: Path) -> None:
    predictor = saved_predictor(tmp_path, model="unet2d", norm="batch")
    image = SubjectImage(balls(10, shape=(17, 15, 12))[0], SPACING_MM)  # not even: the network pads
    maps = compute_stage_maps(predictor, image, StageRequest("bottleneck", (0,), strongest=False))
    assert maps.voxel_mm == (2.0, 2.0, 1.5) and maps.mean.shape == (17, 15, 12)
    assert len(np.unique(maps.channels[0], axis=2)[0, 0]) > 6, "slices keep their own values"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (StageRequest("encoder-7"), "stage: expected one of encoder-0, bottleneck, decoder-0, got encoder-7"),
        (StageRequest("logits"), "got logits; logits have maps of their own"),
        (StageRequest("bottleneck", (16,)), "channel: bottleneck has 16 channels, 0 to 15, got 16"),
        (StageRequest("bottleneck", (-1,)), "0 to 15, got -1"),
    ],
)
def test_what_the_network_does_not_have_is_refused(tmp_path: Path, request_: StageRequest, message: str) -> None:
    predictor = saved_predictor(tmp_path)
    with pytest.raises(ConfigError, match=message):
        compute_stage_maps(predictor, SubjectImage(balls(5)[0], SPACING_MM), request_)
    with pytest.raises(ConfigError, match="at most 32 channels at a time, got 40"):
        StageRequest("bottleneck", tuple(range(40)))


@pytest.mark.parametrize("stage", ["encoder-0", "decoder-0"])
def test_activations_that_overflow_are_computed_in_fp32_as_the_segmentation_is(tmp_path: Path, stage: str) -> None:
    """Also the choice of the channels that vary most."""
    fp32 = saved_predictor(tmp_path, norm="batch")
    fp16 = Predictor(fp32.path, InferenceOverrides(mode="tiles", precision="fp16"))
    image = SubjectImage(balls(5)[0], SPACING_MM)
    for predictor in (fp32, fp16):
        with torch.no_grad():
            for block in (unet(predictor).encoder[0], unet(predictor).decoder[0]):
                norms = [module for module in block.modules() if isinstance(module, torch.nn.BatchNorm3d)]
                norms[-1].weight.mul_(1e6)
    np.testing.assert_array_equal(fp16.segment(image), fp32.segment(image))
    expected, maps = (compute_stage_maps(one, image, StageRequest(stage)) for one in (fp32, fp16))
    assert expected.mean.max() > 65_504 and tuple(maps.channels) == tuple(expected.channels)
    np.testing.assert_array_equal(maps.mean, expected.mean)
    for channel, values in expected.channels.items():
        np.testing.assert_array_equal(maps.channels[channel], values)


def test_memory_and_activations_that_are_not_finite_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = saved_predictor(tmp_path)
    image = SubjectImage(balls(5)[0], SPACING_MM)
    with torch.no_grad():
        next(unet(predictor).encoder[0].parameters()).fill_(torch.inf)
    with pytest.raises(DeviceError, match="expected finite activations, got NaN or infinity in fp32"):
        compute_stage_maps(predictor, image, StageRequest("encoder-0"))
    monkeypatch.setattr(stage_pass, "free_bytes", lambda device: 1000)
    with pytest.raises(DeviceError, match="not enough memory: 9 feature maps take about"):
        compute_stage_maps(predictor, image, StageRequest("bottleneck"))
    assert image.shape == SHAPE
