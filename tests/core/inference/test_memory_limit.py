"""Tile size and batch size under a memory limit, by hand; what follows where the memory does not suffice."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.config import ModelConfig
from core.errors import DeviceError
from core.inference.memory_limit import InferenceMemory, inference_bytes, tile_batch_size
from core.inference.sliding_window import InferenceOptions, predict_logits, sliding_window_inference
from core.models.blocks import SegmentationNetwork
from core.models.build import build_model
from core.types import Size3

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TILE = (16, 16, 16)


def pass_bytes(network: SegmentationNetwork, size: Size3, image: Tensor) -> int:
    """Estimated bytes of one forward pass, with the logits and weights of the image."""
    return inference_bytes(network, size, precision="fp32") + 4 * 4 * image[0].numel()


@pytest.fixture(scope="module")
def unet() -> SegmentationNetwork:
    return build_model(ModelConfig(channels=(4, 8), norm="batch"), 2, 3).eval()


def test_largest_tile_by_hand(unet: SegmentationNetwork) -> None:
    size, minimum = (41, 30, 24), (16, 16, 16)
    image = torch.zeros(2, *size)

    def largest(limit: int) -> Size3:
        return InferenceMemory(unet, image, "fp32", limit).largest_tile(size, minimum)

    assert largest(2**50) == size
    assert largest(pass_bytes(unet, size, image) - 1) == (40, 30, 24)  # a multiple of 2
    assert largest(pass_bytes(unet, (26, 26, 24), image)) == (26, 26, 24)
    assert largest(0) == minimum


def test_network_without_an_estimate_has_no_limit() -> None:
    memory = InferenceMemory(nn.Conv3d(2, 3, 1), torch.zeros(2, 41, 30, 24), "fp32", 0)
    assert memory.largest_tile((41, 30, 24), (16, 16, 16)) == (41, 30, 24)


def test_small_tiles_are_batched_on_a_gpu(unet: SegmentationNetwork) -> None:
    assert tile_batch_size((16, 16, 16), CPU) == 1
    memory = InferenceMemory(unet, torch.zeros(2, 4, 4, 4), "bf16", 2**50)
    memory.device = CUDA
    assert memory.batch_size((96, 96, 96), 1) == 2
    assert memory.batch_size((96, 96, 96), 2) == memory.batch_size((128, 128, 128), 1) == 1
    assert memory.batch_size((48, 48, 48), 1) == 16
    memory.available_bytes = inference_bytes(unet, (48, 48, 48), 5, "bf16", "cuda")
    assert memory.batch_size((48, 48, 48), 1) == 5


def test_passes_after_an_error_of_memory_are_smaller(unet: SegmentationNetwork) -> None:
    """Fewer tiles in a pass, then images and mirrored images apart, then smaller tiles, down to a minimum."""
    size, tile = (80, 64, 64), (64, 64, 64)
    memory = InferenceMemory(unet, torch.zeros(2, 4, 4, 4), "bf16", 2**50)
    memory.device = CUDA
    full = torch.OutOfMemoryError("CUDA out of memory")
    assert not memory.lower_after(ValueError("out of memory"), memory.passes(size, tile, 2, whole=False), tile)
    batches = []
    while memory.lower_after(full, passes := memory.passes(size, tile, 2, whole=False), tile):
        assert passes.tile == tile and not passes.whole
        batches.append(passes.images)
    assert batches == sorted(set(batches), reverse=True) and batches[0] == 6 and batches[-1] == 2
    memory = InferenceMemory(unet, torch.zeros(2, 4, 4, 4), "fp32", 2**50)
    tiles = []
    while memory.lower_after(full, passes := memory.passes(size, tile, 1, whole=True), tile):
        assert passes.whole is (passes.tile == size)
        tiles.append(passes.tile)
    assert tiles == sorted(set(tiles), reverse=True) and tiles[0] == size and passes.tile == tile
    assert not InferenceMemory(nn.Conv3d(2, 3, 1), torch.zeros(2, 4, 4, 4), "fp32").lower_after(full, passes, tile)


def test_forward_pass_of_a_small_network_by_hand() -> None:
    # Two levels of 1 channel, fp32 on CUDA (no padded copies), 8 voxels a side: 512 values at full resolution.
    config = ModelConfig(channels=(1, 1), convolutions=(1,), downsampling="stride", widening="after", norm="batch")
    full, half, kernel = 512 * 4, 64 * 4, 2 * 27 * 4
    estimate = inference_bytes(build_model(config, 1, 1).eval(), (8, 8, 8), precision="fp32", device="cuda")
    # During the decoder's convolution: image, skip, output of the level below, both concatenated, and copies of the
    # convolution's input, kernel and output.
    assert estimate == full + full + half + 2 * full + (2 * full + kernel + full)


@pytest.mark.slow
def test_estimate_grows_with_batch_and_precision_and_leaves_the_network_as_it_is() -> None:
    network = build_model(ModelConfig(channels=(8, 16), norm="group"), 2, 3).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    one = inference_bytes(network, (32, 32, 32))
    assert one < inference_bytes(network, (32, 32, 32), 2) < 2.2 * one
    assert one < inference_bytes(network, (32, 32, 32), precision="fp32")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.slow
def test_huge_volume_is_limited_by_a_few_traces(unet: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[Size3] = []

    def counted(network: SegmentationNetwork, size: Size3, *args: object) -> int:
        traced.append(size)
        return inference_bytes(network, size, *args)  # type: ignore[arg-type]

    monkeypatch.setattr("core.inference.memory_limit.inference_bytes", counted)
    image = torch.zeros(2, 4, 4, 4)
    tile = InferenceMemory(unet, image, "fp32", pass_bytes(unet, (96, 96, 96), image)).largest_tile(
        (512, 512, 512), (16, 16, 16)
    )
    assert tile == (96, 96, 96) and len(traced) < 12


# --- memory that does not suffice -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mirror", [False, True])
def test_a_pass_for_which_the_memory_does_not_suffice_is_followed_by_smaller_ones(
    unet: SegmentationNetwork, mirror: bool
) -> None:
    """Other programs take memory, and estimates may be too low."""
    image, most = torch.rand(2, 30, 20, 17) + 0.1, 20 * 20 * 18
    shapes: list[tuple[int, ...]] = []

    def limited(module: nn.Module, inputs: tuple[Tensor]) -> None:
        shapes.append(tuple(inputs[0].shape))
        if inputs[0][:, 0].numel() > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    hook = unet.register_forward_pre_hook(limited)
    try:
        logits = predict_logits(unet, image, InferenceOptions("whole", TILE, mirror=mirror))
        failed = [shape for shape in shapes if shape[0] * math.prod(shape[2:]) > most]
        assert shapes[0] == (1 + mirror, 2, 30, 20, 17) and failed
        tile = shapes[-1][2:]
        assert tile != (30, 20, 17) and {shape[2:] for shape in shapes[len(failed) :]} == {tile}
        most = 16**3 - 1
        with pytest.raises(torch.OutOfMemoryError):
            predict_logits(unet, image, InferenceOptions("whole", TILE, mirror=mirror))
        assert shapes[-1] == (1, 2, *TILE), "the smallest pass"
    finally:
        hook.remove()

    def alone(images: Tensor) -> Tensor:
        return (unet(images) + unet(images.flip(2)).flip(2)) / 2 if mirror else unet(images)

    assert torch.equal(logits, sliding_window_inference(image, alone, (tile[0], tile[1], tile[2]), 0.5))


def test_other_errors_of_a_pass_are_not_taken_for_lack_of_memory(unet: SegmentationNetwork) -> None:
    shapes: list[tuple[int, ...]] = []

    def broken(module: nn.Module, inputs: tuple[Tensor]) -> None:
        shapes.append(tuple(inputs[0].shape))
        raise RuntimeError("expected 3 channels")

    hook = unet.register_forward_pre_hook(broken)
    try:
        with pytest.raises(RuntimeError, match="expected 3 channels"):
            predict_logits(unet, torch.rand(2, 30, 20, 17) + 0.1, InferenceOptions("whole", TILE))
    finally:
        hook.remove()
    assert len(shapes) == 1


def test_logits_that_do_not_fit_into_the_free_memory_are_refused(
    unet: SegmentationNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = F.pad(torch.rand(2, 20, 18, 16) + 0.1, [20] * 6)
    needed = 4 * (3 + 1) * (20 + 8) * (18 + 8) * (16 + 8)  # logits and weights of the foreground with its margin
    free = [needed - 1]

    def measured(device: torch.device) -> int:
        return free.pop() if len(free) > 1 else free[0]

    monkeypatch.setattr("core.inference.memory_limit.free_bytes", measured)
    with pytest.raises(DeviceError, match="not enough memory: logits of 3 channels and 28x26x24 voxels take"):
        predict_logits(unet, image, InferenceOptions("tiles", TILE))
    limited = predict_logits(unet, image, InferenceOptions("tiles", TILE), memory_bytes=1)  # no measurement
    free[:] = [needed]
    assert torch.equal(predict_logits(unet, image, InferenceOptions("tiles", TILE)), limited)
    free[:] = [needed, needed - 1, needed - 1]  # after the process has returned what it had freed
    assert torch.equal(predict_logits(unet, image, InferenceOptions("tiles", TILE)), limited)
