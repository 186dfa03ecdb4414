"""Tile size and batch size under a memory limit, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.inference.memory_limit import InferenceMemory, tile_batch_size
from core.models import build_model
from core.models.blocks import SegmentationNetwork
from core.models.memory import PassShape, inference_bytes
from core.types import Size3

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def pass_bytes(network: SegmentationNetwork, size: Size3, image: Tensor) -> int:
    """Estimated bytes of one forward pass, with the logits and weights of the image."""
    one_pass = inference_bytes(network.config, PassShape(2, 3, size, precision="fp32"))
    return one_pass + 4 * 4 * image[0].numel()


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
    memory.available_bytes = inference_bytes(unet.config, PassShape(2, 3, (48, 48, 48), 5, "bf16", "cuda"))
    assert memory.batch_size((48, 48, 48), 1) == 5
