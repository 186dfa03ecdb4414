"""Whole volumes: joined tiles against MONAI's sliding window, one pass against the network itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.compute.precision import autocast, resolve_precision
from core.config import ModelConfig, NormLayer
from core.inference.sliding_window import (
    FREE_SHARE,
    SIGMA_SHARE,
    _Room,
    gaussian_weights,
    head_box,
    join_tiles,
    predict_logits,
    tile_starts,
)
from core.models import build_model
from core.models.blocks import SegmentationNetwork
from core.models.memory import inference_bytes
from core.types import Size3
from tests.support.monai_peer import monai_or_skip

CPU = torch.device("cpu")
TILE = (8, 10, 6)


def volume(*shape: int, channels: int = 2, seed: int = 0) -> Tensor:
    return torch.randn((channels, *shape), generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Two convolutions whose zero padding makes a tile's border differ from its middle."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.LeakyReLU(), nn.Conv3d(4, 3, 3, padding=1)).eval()


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize(
    "shape", [(16, 20, 12), (13, 11, 17), (9, 31, 7), TILE, (5, 21, 6), (3, 7, 4), (1, 1, 1)], ids=str
)
def test_matches_monai(network: nn.Module, shape: Size3, overlap: float) -> None:
    peer = monai_or_skip("monai.inferers.utils").sliding_window_inference
    image = volume(*shape)
    with torch.no_grad():
        expected = peer(image[None], TILE, 2, network, overlap=overlap, mode="gaussian", sigma_scale=SIGMA_SHARE)[0]
    joined = join_tiles(image, network, TILE, overlap)
    assert joined.shape == (3, *shape)
    assert joined.dtype == torch.float32
    torch.testing.assert_close(joined, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch_size", [2, 5, 1000])
def test_the_batch_size_does_not_matter(network: nn.Module, batch_size: int) -> None:
    image = volume(13, 21, 9)
    one_by_one = join_tiles(image, network, TILE)
    sizes: list[int] = []

    def watched(tiles: Tensor) -> Tensor:
        sizes.append(len(tiles))
        return network(tiles)

    torch.testing.assert_close(join_tiles(image, watched, TILE, batch_size=batch_size), one_by_one, rtol=0, atol=1e-5)
    tiles = math.prod(len(tile_starts(n, t, 0.5)) for n, t in zip(image.shape[1:], TILE, strict=True))
    assert sum(sizes) == tiles
    assert max(sizes) == min(batch_size, tiles)


def test_a_predictor_that_looks_at_single_voxels_is_not_changed() -> None:
    image = volume(13, 4, 9)
    joined = join_tiles(image, lambda tiles: torch.cat((tiles, tiles[:, :1] ** 2), dim=1), TILE, 0.3)
    torch.testing.assert_close(joined, torch.cat((image, image[:1] ** 2)), rtol=0, atol=1e-5)


def test_two_tiles_by_hand() -> None:
    # One axis: tiles of 4 at voxels 0 and 2; the first predicts 1 everywhere, the second 5.
    answers = iter((1.0, 5.0))
    joined = join_tiles(torch.zeros(1, 6, 1, 1), lambda tiles: torch.full_like(tiles, next(answers)), (4, 1, 1), 0.5)
    inner, outer = math.exp(-(0.5**2) / (2 * 0.5**2)), math.exp(-(1.5**2) / (2 * 0.5**2))
    at_2 = (inner * 1 + outer * 5) / (inner + outer)
    assert joined.flatten().tolist() == pytest.approx([1, 1, at_2, 6 - at_2, 5, 5], abs=1e-5)


def test_half_precision_logits_are_summed_in_float32(network: nn.Module) -> None:
    image = volume(13, 11, 9)
    rounded = join_tiles(image, lambda tiles: network(tiles).bfloat16(), TILE)
    assert rounded.dtype == torch.float32
    assert (rounded - join_tiles(image, network, TILE)).abs().max() < 0.02
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


@pytest.mark.parametrize("tile", [(8, 10, 6), (1, 1, 1), (64, 3, 7), (33, 32, 31)])
def test_weights_are_positive_symmetric_and_highest_in_the_middle(tile: Size3) -> None:
    weights = gaussian_weights(tile, CPU)
    assert weights.shape == tile
    assert weights.dtype == torch.float32
    assert weights.min() >= 1e-3
    assert weights.max() <= 1
    for axis in range(3):
        torch.testing.assert_close(weights, weights.flip(axis), rtol=0, atol=0)
    middle = tuple((n - 1) // 2 for n in tile)
    assert weights[middle] == weights.max()
    if tile == (33, 32, 31):
        ratio = math.exp(-1 / (2 * (33 / 8) ** 2))
        assert (weights[17, 15, 15] / weights[16, 15, 15]).item() == pytest.approx(ratio, abs=1e-6)


def test_whole_is_the_networks_own_answer(network: nn.Module) -> None:
    image = volume(9, 11, 7)
    told: list[tuple[int, int]] = []
    found = predict_logits(
        network, image, mode="whole", tile=TILE, overlap=0.5, precision="fp32", progress=lambda *n: told.append(n)
    )
    with torch.no_grad():
        assert torch.equal(found, network(image[None])[0])
    assert not found.requires_grad
    assert told == [(1, 1)]


def test_whole_is_one_pass_over_a_small_volume_in_zeros(network: nn.Module) -> None:
    image = volume(9, 7, 5)
    found = predict_logits(network, image, mode="whole", tile=TILE, overlap=0.5, precision="fp32")
    with torch.no_grad():
        expected = network(F.pad(image, (0, 1, 1, 2))[None])[0, :, :, 1:8, :5]
    assert torch.equal(found, expected)
    tiny = volume(3, 7, 4)  # smaller than the tile along every axis: one tile, and the very same
    whole, tiles = (
        predict_logits(network, tiny, mode=mode, tile=TILE, overlap=0.5, precision="fp32")
        for mode in ("whole", "tiles")
    )
    torch.testing.assert_close(whole, tiles, rtol=0, atol=1e-5)


def test_tiles_are_the_joined_tiles(network: nn.Module) -> None:
    image = volume(13, 11, 9)
    found = predict_logits(network, image, mode="tiles", tile=TILE, overlap=0.25, precision="fp32")
    assert torch.equal(found, join_tiles(image, network, TILE, 0.25))
    assert not found.requires_grad


@pytest.mark.parametrize("batch_size", [1, 4])
def test_progress_counts_up_to_all_tiles(network: nn.Module, batch_size: int) -> None:
    told: list[tuple[int, int]] = []
    join_tiles(volume(16, 20, 6), network, TILE, 0.5, batch_size, lambda *n: told.append(n))
    assert told == [(min(n + batch_size, 9), 9) for n in range(0, 9, batch_size)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["tiles", "whole"])
def test_the_mode_of_the_network_is_left_as_it_was(mode: str, training: bool) -> None:
    network = nn.Sequential(nn.BatchNorm3d(2), nn.Conv3d(2, 3, 1)).train(training)
    image = 5 + volume(9, 11, 7)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    found = predict_logits(network, image, mode=mode, tile=TILE, overlap=0.5, precision="fp32")
    assert network.training is training
    assert all(m.training is training for m in network.modules())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(found, network.eval()(image[None])[0], rtol=0, atol=1e-4)


def test_the_mode_is_left_as_it_was_when_the_network_fails() -> None:
    network = nn.Sequential(nn.Conv3d(1, 3, 1)).train()
    with pytest.raises(RuntimeError, match="channels"):
        predict_logits(network, volume(4, 4, 4), mode="whole", tile=TILE, overlap=0.5, precision="fp32")
    assert network.training


def test_a_mode_that_there_is_not(network: nn.Module) -> None:
    with pytest.raises(ValueError, match="mode: expected tiles or whole, got 'auto'"):
        predict_logits(network, volume(4, 4, 4), mode="auto", tile=TILE, overlap=0.5, precision="fp32")


def test_bf16_computes_in_bf16_and_answers_in_float32(network: nn.Module) -> None:
    image = volume(9, 11, 7)
    for mode in ("tiles", "whole"):
        exact = predict_logits(network, image, mode=mode, tile=TILE, overlap=0.5, precision="fp32")
        rounded = predict_logits(network, image, mode=mode, tile=TILE, overlap=0.5, precision="bf16")
        assert rounded.dtype == torch.float32
        assert 0 < (rounded - exact).abs().max() < 0.05
    with autocast(CPU, "fp32"):
        assert not torch.is_autocast_enabled("cpu")


def test_resolve_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    for precision in ("fp32", "bf16"):
        assert resolve_precision(precision, CPU) == resolve_precision(precision, cuda) == precision
    for has_it, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("core.inference.sliding_window._has_bf16_instructions", lambda: has_it)  # noqa: B023
        assert resolve_precision("auto", CPU) == expected
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_it)  # noqa: B023
        assert resolve_precision("auto", cuda) == expected


def test_air_around_the_head_is_background_and_changes_nothing_inside() -> None:
    head = torch.randn(1, 12, 10, 11)
    image = F.pad(head, [9, 20, 7, 8, 15, 30])
    model = nn.Conv3d(1, 3, 1)
    assert head_box(image) == (slice(11, 31), slice(3, 21), slice(5, 24))
    for mode in ("tiles", "whole"):  # the network looks at single voxels
        found = predict_logits(model, image, mode=mode, tile=(8, 8, 8), overlap=0.5, precision="fp32")
        assert found.shape == (3, *image.shape[1:])
        inside = found[:, 15:27, 7:17, 9:20]
        torch.testing.assert_close(inside, model(head[None])[0].detach(), atol=1e-5, rtol=1e-5)
        outside = found.argmax(dim=0)
        outside[11:31, 3:21, 5:24] = 0
        assert not outside.any()


def test_an_image_of_zeros_is_predicted_all_the_same() -> None:
    model = nn.Conv3d(1, 3, 1)
    image = torch.zeros(1, 9, 8, 7)
    assert head_box(image) == (slice(0, 9), slice(0, 8), slice(0, 7))
    found = predict_logits(model, image, mode="whole", tile=(8, 8, 8), overlap=0.5, precision="fp32")
    torch.testing.assert_close(found, model(image[None])[0].detach())


# --- one pass where it fits, mirror images ----------------------------------------------------------------------------

OPTIONS: dict[str, Any] = dict(tile=(16, 16, 16), overlap=0.5, precision="fp32")


@pytest.fixture(scope="module")
def unet() -> SegmentationNetwork:
    torch.manual_seed(0)
    return build_model(ModelConfig(channels=(4, 8), norm="batch"), 2, 3).eval()


def needed(network: SegmentationNetwork, size: Size3, image: Tensor) -> int:
    """Bytes that one pass over boxes of a size takes, with the joined logits of the image."""
    one = inference_bytes(network.config, in_channels=2, classes=3, size=size, precision="fp32")
    return one + 4 * 4 * image[0].numel()


def passes(network: SegmentationNetwork, image: Tensor, **options: Any) -> tuple[Tensor, list[tuple[int, ...]]]:
    """Logits, and the shape of every batch that the network got."""
    seen: list[tuple[int, ...]] = []
    hook = network.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    try:
        return predict_logits(network, image, **{**OPTIONS, **options}), seen
    finally:
        hook.remove()


def test_one_pass_where_it_fits_and_the_largest_tiles_where_not(unet: SegmentationNetwork) -> None:
    image = volume(40, 36, 24)
    whole, seen = passes(unet, image, mode="whole", memory_bytes=needed(unet, (40, 36, 24), image))
    assert seen == [(1, 2, 40, 36, 24)]
    joined, seen = passes(unet, image, mode="whole", memory_bytes=needed(unet, (28, 28, 24), image))
    assert {shape[2:] for shape in seen} == {(28, 28, 24)} and len(seen) == 2 * 2
    assert torch.equal(joined, join_tiles(image, unet, (28, 28, 24), 0.5))
    difference = (joined - whole).abs()
    assert difference.max() > 0 and difference.mean() < 0.1 * whole.abs().mean()
    assert difference[:, :12, :8].max() < 1e-5  # only the first tile is there, and its inner border is far away


def test_tiles_are_never_smaller_than_in_training(unet: SegmentationNetwork) -> None:
    image = volume(40, 17, 12)
    joined, seen = passes(unet, image, mode="whole", memory_bytes=1)
    assert {shape[2:] for shape in seen} == {(16, 16, 16)}
    assert torch.equal(joined, predict_logits(unet, image, mode="tiles", **OPTIONS))


def test_the_largest_tile_by_hand(unet: SegmentationNetwork) -> None:
    image = volume(41, 30, 24)

    def largest(limit: int) -> Size3:
        return _Room(unet, image, "fp32", limit).largest_tile((41, 30, 24), (16, 16, 16))

    assert largest(2**50) == (41, 30, 24)
    assert largest(needed(unet, (41, 30, 24), image) - 1) == (40, 30, 24)  # a multiple of 2
    assert largest(needed(unet, (26, 26, 24), image)) == (26, 26, 24)
    assert largest(0) == (16, 16, 16)
    assert _Room(nn.Conv3d(2, 3, 1), image, "fp32", 0).largest_tile((41, 30, 24), (16, 16, 16)) == (41, 30, 24)


def test_free_memory_is_the_limit_by_default(unet: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    image = volume(40, 33, 24)
    assert passes(unet, image, mode="whole")[1] == [(1, 2, 40, 33, 24)]
    monkeypatch.setattr(
        "core.inference.sliding_window.free_bytes", lambda device: needed(unet, (28, 28, 24), image) / FREE_SHARE
    )
    assert {shape[2:] for shape in passes(unet, image, mode="whole")[1]} == {(28, 28, 24)}


@pytest.mark.parametrize("mode", ["tiles", "whole"])
@pytest.mark.parametrize("memory_bytes", [2**50, 1])
def test_the_mean_of_an_image_and_its_mirror_image(unet: SegmentationNetwork, mode: str, memory_bytes: int) -> None:
    image = volume(22, 16, 18)
    found, seen = passes(unet, image, mode=mode, memory_bytes=memory_bytes, mirror=True)
    assert {shape[0] for shape in seen} == ({2} if memory_bytes > 1 else {1})

    def both(images: Tensor) -> Tensor:
        with torch.no_grad():
            return (unet(images) + unet(images.flip(2)).flip(2)) / 2

    one_pass = mode == "whole" and memory_bytes > 1
    expected = both(image[None])[0] if one_pass else join_tiles(image, both, (16, 16, 16), 0.5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (found - predict_logits(unet, image, mode=mode, **OPTIONS)).abs().max() > 1e-3


def test_a_mirror_image_gets_the_mirrored_answer(unet: SegmentationNetwork) -> None:
    image = volume(22, 16, 18)
    for mode in ("tiles", "whole"):
        found = predict_logits(unet, image, mode=mode, mirror=True, **{**OPTIONS, "overlap": 0.25})
        other = predict_logits(unet, image.flip(1), mode=mode, mirror=True, **{**OPTIONS, "overlap": 0.25})
        torch.testing.assert_close(other.flip(1), found, rtol=0, atol=1e-4)


@pytest.mark.parametrize("norm", ["batch", "group", "instance"])
def test_bf16_in_another_order_of_memory_is_the_same(norm: NormLayer) -> None:
    torch.manual_seed(0)
    network = build_model(ModelConfig(channels=(8, 16), norm=norm), 2, 3).eval()
    image = volume(21, 18, 16)
    found = predict_logits(network, image, mode="whole", **{**OPTIONS, "precision": "bf16"})
    assert found.is_contiguous()
    assert all(p.is_contiguous() for p in network.parameters())
    with torch.no_grad():
        exact = network(image[None])[0]
        with autocast(CPU, "bf16"):
            plain = network(image[None])[0].float()
    assert (found - exact).abs().max() < 0.1
    assert (found - exact).abs().mean() < 1.5 * (plain - exact).abs().mean()


def test_small_tiles_go_through_a_gpu_together(unet: SegmentationNetwork) -> None:
    room = _Room(unet, volume(4, 4, 4), "bf16", 2**50)
    assert room.batch((16, 16, 16), 1) == 1  # a CPU gains nothing
    room.device = torch.device("cuda")
    assert room.batch((96, 96, 96), 1) == 2
    assert room.batch((96, 96, 96), 2) == room.batch((128, 128, 128), 1) == 1
    assert room.batch((48, 48, 48), 1) == 16
    room.bytes = inference_bytes(
        unet.config, in_channels=2, classes=3, size=(48, 48, 48), batch=5, precision="bf16", device="cuda"
    )
    assert room.batch((48, 48, 48), 1) == 5
