"""Whole-volume inference: sliding-window tiles against MONAI, one pass against the network itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.choices import NormLayer
from core.compute.precision import autocast
from core.config import ModelConfig
from core.inference.memory_limit import FREE_FRACTION
from core.inference.overflow import NonFiniteLogitsError
from core.inference.sliding_window import (
    SIGMA_SCALE,
    InferenceOptions,
    foreground_box,
    gaussian_importance_map,
    predict_logits,
    sliding_window_inference,
)
from core.inference.tile_grid import tile_starts
from core.models.blocks import SegmentationNetwork
from core.models.build import build_model
from core.types import Size3
from tests.core.inference.test_memory_limit import pass_bytes
from tests.support.peer_packages import monai_or_skip

CPU = torch.device("cpu")
TILE = (8, 10, 6)
UNET_TILE = (16, 16, 16)


def volume(*shape: int, channels: int = 2, seed: int = 0) -> Tensor:
    return torch.randn((channels, *shape), generator=torch.Generator().manual_seed(seed))


def options(mode: str, tile: Size3 = TILE, **values: Any) -> InferenceOptions:
    return InferenceOptions(mode, tile, **values)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Two convolutions whose zero padding makes a tile's border differ from its centre."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.LeakyReLU(), nn.Conv3d(4, 3, 3, padding=1)).eval()


@pytest.fixture(scope="module")
def unet() -> SegmentationNetwork:
    torch.manual_seed(0)
    return build_model(ModelConfig(channels=(4, 8), norm="batch"), 2, 3).eval()


# --- tiles ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize(
    "shape", [(16, 20, 12), (13, 11, 17), (9, 31, 7), TILE, (5, 21, 6), (3, 7, 4), (1, 1, 1)], ids=str
)
def test_sliding_window_matches_monai(network: nn.Module, shape: Size3, overlap: float) -> None:
    peer = monai_or_skip("monai.inferers.utils").sliding_window_inference
    image = volume(*shape)
    with torch.no_grad():
        expected = peer(image[None], TILE, 2, network, overlap=overlap, mode="gaussian", sigma_scale=SIGMA_SCALE)[0]
    logits = sliding_window_inference(image, network, TILE, overlap)
    assert logits.shape == (3, *shape)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [2, 5, 1000])
def test_batch_size_does_not_change_the_logits(network: nn.Module, batch_size: int) -> None:
    image = volume(13, 21, 9)
    batch_sizes: list[int] = []

    def recording(tiles: Tensor) -> Tensor:
        batch_sizes.append(len(tiles))
        return network(tiles)

    logits = sliding_window_inference(image, recording, TILE, batch_size=batch_size)
    torch.testing.assert_close(logits, sliding_window_inference(image, network, TILE), rtol=0, atol=1e-5)
    tiles = math.prod(len(tile_starts(n, t, 0.5)) for n, t in zip(image.shape[1:], TILE, strict=True))
    assert sum(batch_sizes) == tiles
    assert max(batch_sizes) == min(batch_size, tiles)


@pytest.mark.slow
def test_voxelwise_predictor_is_reproduced_exactly() -> None:
    image = volume(13, 4, 9)
    logits = sliding_window_inference(image, lambda tiles: torch.cat((tiles, tiles[:, :1] ** 2), dim=1), TILE, 0.3)
    torch.testing.assert_close(logits, torch.cat((image, image[:1] ** 2)), rtol=0, atol=1e-5)


def test_blending_of_two_tiles_by_hand() -> None:
    # One axis: tiles of 4 at voxels 0 and 2; the first predicts 1 everywhere, the second 5.
    constants = iter((1.0, 5.0))
    logits = sliding_window_inference(
        torch.zeros(1, 6, 1, 1), lambda tiles: torch.full_like(tiles, next(constants)), (4, 1, 1), 0.5
    )
    inner, outer = math.exp(-(0.5**2) / (2 * 0.5**2)), math.exp(-(1.5**2) / (2 * 0.5**2))
    at_2 = (inner * 1 + outer * 5) / (inner + outer)
    assert logits.flatten().tolist() == pytest.approx([1, 1, at_2, 6 - at_2, 5, 5], abs=1e-5)


def test_half_precision_logits_are_summed_in_float32(network: nn.Module) -> None:
    image = volume(13, 11, 9)
    rounded = sliding_window_inference(image, lambda tiles: network(tiles).bfloat16(), TILE)
    assert rounded.dtype == torch.float32
    assert (rounded - sliding_window_inference(image, network, TILE)).abs().max() < 0.02
    assert not torch.equal(rounded, rounded.bfloat16().float())


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "starts"),
    [
        (10, 4, 0.5, [0, 2, 4, 6]),
        (11, 4, 0.5, [0, 2, 4, 6, 7]),
        (10, 4, 0.0, [0, 4, 6]),
        (12, 4, 0.0, [0, 4, 8]),
        (10, 4, 0.25, [0, 3, 6]),
        (5, 4, 0.5, [0, 1]),
        (4, 4, 0.5, [0]),
        (3, 4, 0.5, [0]),
        (1, 4, 0.0, [0]),
        (5, 3, 0.9, [0, 1, 2]),
        (4, 1, 0.9, [0, 1, 2, 3]),
    ],
)
def test_tile_starts_by_hand(length: int, tile: int, overlap: float, starts: list[int]) -> None:
    assert tile_starts(length, tile, overlap) == starts


def test_tiles_cover_every_voxel_and_stay_inside() -> None:
    for length in range(1, 40):
        for tile in (1, 2, 3, 7, 16, 50):
            for overlap in (0.0, 0.3, 0.5, 0.9):
                starts = tile_starts(length, tile, overlap)
                assert starts == sorted(set(starts))
                covered = {v for start in starts for v in range(start, start + tile)}
                assert covered >= set(range(length))
                assert tile > length or max(covered) == length - 1


@pytest.mark.slow
@pytest.mark.parametrize("tile", [(8, 10, 6), (1, 1, 1), (64, 3, 7), (33, 32, 31)])
def test_importance_map_is_positive_symmetric_and_highest_in_the_centre(tile: Size3) -> None:
    weights = gaussian_importance_map(tile, CPU)
    assert weights.shape == tile
    assert weights.dtype == torch.float32
    assert weights.min() >= 1e-3
    assert weights.max() <= 1
    for axis in range(3):
        torch.testing.assert_close(weights, weights.flip(axis), rtol=0, atol=0)
    centre = tuple((n - 1) // 2 for n in tile)
    assert weights[centre] == weights.max()
    if tile == (33, 32, 31):
        ratio = math.exp(-1 / (2 * (33 / 8) ** 2))
        assert (weights[17, 15, 15] / weights[16, 15, 15]).item() == pytest.approx(ratio, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_progress_counts_tiles(network: nn.Module, batch_size: int) -> None:
    calls: list[tuple[int, int]] = []
    sliding_window_inference(volume(16, 20, 6), network, TILE, 0.5, batch_size, lambda *n: calls.append(n))
    assert calls == [(min(n + batch_size, 9), 9) for n in range(0, 9, batch_size)]


# --- whole volumes ----------------------------------------------------------------------------------------------------


def test_whole_mode_is_one_forward_pass(network: nn.Module) -> None:
    image = volume(9, 11, 7)
    calls: list[tuple[int, int]] = []
    logits = predict_logits(network, image, options("whole"), progress=lambda *n: calls.append(n))
    with torch.no_grad():
        assert torch.equal(logits, network(image[None])[0])
    assert not logits.requires_grad
    assert calls == [(1, 1)]


def test_whole_mode_pads_a_small_volume_with_zeros(network: nn.Module) -> None:
    image = volume(9, 7, 5)
    logits = predict_logits(network, image, options("whole"))
    with torch.no_grad():
        expected = network(F.pad(image, (0, 1, 1, 2))[None])[0, :, :, 1:8, :5]
    assert torch.equal(logits, expected)
    smaller_than_tile = volume(3, 7, 4)
    whole, tiles = (predict_logits(network, smaller_than_tile, options(mode)) for mode in ("whole", "tiles"))
    torch.testing.assert_close(whole, tiles, rtol=0, atol=1e-5)


def test_tiles_mode_is_the_sliding_window(network: nn.Module) -> None:
    image = volume(13, 11, 9)
    logits = predict_logits(network, image, options("tiles", overlap=0.25))
    assert torch.equal(logits, sliding_window_inference(image, network, TILE, 0.25))
    assert not logits.requires_grad


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_training_mode_and_buffers_are_restored(mode: str, training: bool) -> None:
    network = nn.Sequential(nn.BatchNorm3d(2), nn.Conv3d(2, 3, 1)).train(training)
    image = 5 + volume(9, 11, 7)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    logits = predict_logits(network, image, options(mode))
    assert network.training is training
    assert all(m.training is training for m in network.modules())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(logits, network.eval()(image[None])[0], rtol=0, atol=1e-4)


def test_training_mode_is_restored_after_an_error() -> None:
    network = nn.Sequential(nn.Conv3d(1, 3, 1)).train()
    with pytest.raises(RuntimeError, match="channels"):
        predict_logits(network, volume(4, 4, 4), options("whole"))
    assert network.training


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="tiles or whole, got 'auto'"):
        options("auto")


@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_what_overflows_in_fp16_is_computed_in_fp32(mode: str) -> None:
    """NaN would become background without a word."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 3, 1)).eval()
    with torch.no_grad():
        network.get_parameter("0.weight").mul_(1e6)
        network.get_parameter("2.weight").mul_(1e-6)
    image = torch.randn(1, 12, 10, 11)
    expected = predict_logits(network, image, options(mode, precision="fp32"))
    assert expected.argmax(dim=0).unique().numel() > 1
    for precision in ("fp16", "fp32"):
        logits = predict_logits(network, image, options(mode, precision=precision))
        assert torch.equal(logits, expected)
    with torch.no_grad():
        network.get_parameter("2.weight").fill_(torch.nan)
    with pytest.raises(NonFiniteLogitsError, match="not finite, in fp32 too"):
        predict_logits(network, image, options(mode, precision="bf16"))
    assert not network.training


@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_bf16_inference_returns_float32(network: nn.Module, mode: str) -> None:
    image = volume(9, 11, 7)
    exact = predict_logits(network, image, options(mode))
    rounded = predict_logits(network, image, options(mode, precision="bf16"))
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 0.05


@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_outside_the_foreground_box_is_background(mode: str) -> None:
    head = torch.randn(1, 12, 10, 11)
    image = F.pad(head, [9, 20, 7, 8, 15, 30])
    voxelwise = nn.Conv3d(1, 3, 1)
    assert foreground_box(image) == (slice(11, 31), slice(3, 21), slice(5, 24))
    logits = predict_logits(voxelwise, image, options(mode, (8, 8, 8)))
    assert logits.shape == (3, *image.shape[1:])
    inside = logits[:, 15:27, 7:17, 9:20]
    torch.testing.assert_close(inside, voxelwise(head[None])[0].detach(), atol=1e-5, rtol=1e-5)
    outside = logits.argmax(dim=0)
    outside[11:31, 3:21, 5:24] = 0
    assert not outside.any()


def test_foreground_of_an_all_zero_image_is_the_whole_volume() -> None:
    model = nn.Conv3d(1, 3, 1)
    image = torch.zeros(1, 9, 8, 7)
    assert foreground_box(image) == (slice(0, 9), slice(0, 8), slice(0, 7))
    logits = predict_logits(model, image, options("whole", (8, 8, 8)))
    torch.testing.assert_close(logits, model(image[None])[0].detach())


# --- memory limit and mirroring ---------------------------------------------------------------------------------------


def predict_recording(
    network: SegmentationNetwork, image: Tensor, mode: str, mirror: bool = False, memory_bytes: int | None = None
) -> tuple[Tensor, list[tuple[int, ...]]]:
    """Logits, and the shape (batch, channel, i, j, k) of every forward pass."""
    shapes: list[tuple[int, ...]] = []
    hook = network.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    try:
        chosen = options(mode, UNET_TILE, mirror=mirror)
        return predict_logits(network, image, chosen, memory_bytes=memory_bytes), shapes
    finally:
        hook.remove()


@pytest.mark.slow
def test_whole_mode_falls_back_to_the_largest_tiles_that_fit(unet: SegmentationNetwork) -> None:
    image = volume(40, 36, 24)
    whole, shapes = predict_recording(unet, image, "whole", memory_bytes=pass_bytes(unet, (40, 36, 24), image))
    assert shapes == [(1, 2, 40, 36, 24)]
    tiled, shapes = predict_recording(unet, image, "whole", memory_bytes=pass_bytes(unet, (28, 28, 24), image))
    assert {shape[2:] for shape in shapes} == {(28, 28, 24)} and len(shapes) == 2 * 2
    assert torch.equal(tiled, sliding_window_inference(image, unet, (28, 28, 24), 0.5))
    difference = (tiled - whole).abs()
    assert difference.max() > 0 and difference.mean() < 0.1 * whole.abs().mean()
    assert difference[:, :12, :8].max() < 1e-5  # covered only by the first tile, far from its inner border


@pytest.mark.slow
def test_tiles_are_never_smaller_than_the_training_sub_volume(unet: SegmentationNetwork) -> None:
    image = volume(40, 17, 12)
    tiled, shapes = predict_recording(unet, image, "whole", memory_bytes=1)
    assert {shape[2:] for shape in shapes} == {(16, 16, 16)}
    assert torch.equal(tiled, predict_logits(unet, image, options("tiles", UNET_TILE)))


@pytest.mark.slow
def test_free_memory_is_the_default_limit(unet: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    image = volume(40, 33, 24)
    assert predict_recording(unet, image, "whole")[1] == [(1, 2, 40, 33, 24)]
    monkeypatch.setattr(
        "core.inference.memory_limit.free_bytes", lambda device: pass_bytes(unet, (28, 28, 24), image) / FREE_FRACTION
    )
    assert {shape[2:] for shape in predict_recording(unet, image, "whole")[1]} == {(28, 28, 24)}


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["tiles", "whole"])
@pytest.mark.parametrize("memory_bytes", [2**50, 1])
def test_mirroring_averages_the_logits_of_both_images(unet: SegmentationNetwork, mode: str, memory_bytes: int) -> None:
    image = volume(22, 16, 18)
    logits, shapes = predict_recording(unet, image, mode, mirror=True, memory_bytes=memory_bytes)
    assert {shape[0] for shape in shapes} == ({2} if memory_bytes > 1 else {1})

    def both(images: Tensor) -> Tensor:
        with torch.no_grad():
            return (unet(images) + unet(images.flip(2)).flip(2)) / 2

    one_pass = mode == "whole" and memory_bytes > 1
    expected = both(image[None])[0] if one_pass else sliding_window_inference(image, both, UNET_TILE, 0.5)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert (logits - predict_logits(unet, image, options(mode, UNET_TILE))).abs().max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_mirrored_prediction_is_equivariant_to_mirroring(unet: SegmentationNetwork, mode: str) -> None:
    image = volume(22, 16, 18)
    mirrored = options(mode, UNET_TILE, overlap=0.25, mirror=True)
    logits, flipped = predict_logits(unet, image, mirrored), predict_logits(unet, image.flip(1), mirrored)
    torch.testing.assert_close(flipped.flip(1), logits, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["tiles", "whole"])
@pytest.mark.parametrize("memory_bytes", [2**50, 1])
def test_mirroring_exchanges_left_and_right_classes(unet: SegmentationNetwork, mode: str, memory_bytes: int) -> None:
    image = volume(22, 16, 18)
    mirrored = options(mode, UNET_TILE, mirror=True, swapped=((1, 2),))
    logits = predict_logits(unet, image, mirrored, memory_bytes=memory_bytes)

    def both(images: Tensor) -> Tensor:
        with torch.no_grad():
            return (unet(images) + unet(images.flip(2)).flip(2)[:, [0, 2, 1]]) / 2

    one_pass = mode == "whole" and memory_bytes > 1
    expected = both(image[None])[0] if one_pass else sliding_window_inference(image, both, UNET_TILE, 0.5)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    flipped = predict_logits(unet, image.flip(1), mirrored, memory_bytes=memory_bytes)
    torch.testing.assert_close(flipped.flip(1)[[0, 2, 1]], logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_channels_last_inference_in_bf16_is_as_accurate(norm: NormLayer) -> None:
    torch.manual_seed(0)
    network = build_model(ModelConfig(channels=(8, 16), norm=norm), 2, 3).eval()
    image = volume(21, 18, 16)
    logits = predict_logits(network, image, options("whole", UNET_TILE, precision="bf16"))
    assert logits.is_contiguous()
    assert all(p.is_contiguous() for p in network.parameters())
    with torch.no_grad():
        exact = network(image[None])[0]
        with autocast(CPU, "bf16"):
            plain = network(image[None])[0].float()
    assert (logits - exact).abs().max() < 0.1
    assert (logits - exact).abs().mean() < 1.5 * (plain - exact).abs().mean()
