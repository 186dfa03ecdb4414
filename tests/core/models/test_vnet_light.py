"""The light V-Net: the layers of MedicalZooPytorch's version."""

from __future__ import annotations

import torch

from core.config import ModelConfig
from core.models.build import build_model
from tests.core.models.test_unet3d import kernels, parameters
from tests.core.models.test_vnet import values


def test_it_has_four_levels_and_fewer_convolutions() -> None:
    with torch.device("meta"):
        network = build_model(ModelConfig("vnet_light"), 1, 4)
    conv, up = "conv", "up"
    assert kernels(network) == [
        (conv, 1, 16, 5),
        (conv, 16, 32, 2), (conv, 32, 32, 5),
        (conv, 32, 64, 2), (conv, 64, 64, 5), (conv, 64, 64, 5),
        (conv, 64, 128, 2), (conv, 128, 128, 5), (conv, 128, 128, 5), (conv, 128, 128, 5),
        (up, 128, 64, 2), (conv, 128, 128, 5), (conv, 128, 128, 5),
        (up, 128, 32, 2), (conv, 64, 64, 5),
        (up, 64, 16, 2), (conv, 32, 32, 5),
        (conv, 32, 4, 1),
    ]  # fmt: skip
    assert network.divisor == (8, 8, 8)


def test_parameter_count_by_hand() -> None:
    """No paper and no library states one; the layers are those of MedicalZooPytorch's module, counted as for V-Net."""
    with torch.device("meta"):
        network = build_model(ModelConfig("vnet_light"), 1, 2)
    fives = [(1, 16, 1), (32, 32, 1), (64, 64, 2), (128, 128, 3), (128, 128, 2), (64, 64, 1), (32, 32, 1)]
    twos = [(16, 32), (32, 64), (64, 128), (128, 64), (128, 32), (64, 16)]
    assert parameters(network) == values(fives, twos, 4) + 32 * 2 + 2 == 12_231_570
