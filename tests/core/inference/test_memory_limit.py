"""Tile size and batch size under a memory limit, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.inference.memory_limit import InferenceMemory, inference_bytes, tile_batch_size
from core.models.blocks import SegmentationNetwork
from core.models.build import build_model
from core.types import Size3

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


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
