"""3D-SkipDenseSeg: the published layers and number of parameters, upsampling to any number of classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core.config import ModelConfig
from core.models.build import build_model
from core.models.skipdensenet3d import UpToFullResolution
from tests.core.models.test_unet3d import image, kernels, parameters


def test_default_network_has_the_layers_of_the_authors_code() -> None:
    with torch.device("meta"):
        network = build_model(ModelConfig("skipdensenet3d"), 2, 4)
    conv, up = "conv", "up"
    expected = [(conv, 2, 32, 3), (conv, 32, 32, 3), (conv, 32, 32, 3)]
    width = 32
    for level in range(1, 5):
        if level > 1:
            expected += [(conv, width, width // 2, 1)]
            width //= 2
        expected += [(conv, width, width, 2)]
        for _ in range(4):
            expected += [(conv, width, 64, 1), (conv, 64, 16, 3)]
            width += 16
    expected += [(up, width, 4, 2**level + 2) for level, width in enumerate((96, 112, 120, 124), 1)]
    assert kernels(network) == [*expected, (conv, 32 + 4 * 4, 4, 1)]
    assert network.divisor == (16, 16, 16)


def test_parameter_count_is_the_published_one() -> None:
    """The paper: 1.55 million. By hand: kernels, a scale and a shift per normalised channel, the classifier's bias."""
    with torch.device("meta"):
        network = build_model(ModelConfig("skipdensenet3d"), 2, 4)
    normalised = 2 * 32 + 32 + 48 + 96 + 112 + 56 + 120 + 60 + 48  # of all layers but those of the dense blocks
    blocks = [(32, 48, 64, 80), (48, 64, 80, 96), (56, 72, 88, 104), (60, 76, 92, 108)]
    normalised += sum(width + 64 for block in blocks for width in block)
    norms = parameters(network, nn.BatchNorm3d)
    assert norms == 2 * normalised
    kernel_values = sum(i * o * k**3 for kind, i, o, k in kernels(network) if kind == "conv")
    kernel_values += sum(width * (2**level + 2) ** 3 for level, width in enumerate((96, 112, 120, 124), 1))
    assert parameters(network) == kernel_values + norms + 4 == 1_552_092


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("level", [1, 3])
def test_upsampling_reaches_full_resolution_with_a_channel_per_class(classes: int, level: int) -> None:
    torch.manual_seed(0)
    up = UpToFullResolution(112, classes, level)
    up.initialise()
    output = up(image(3, 4, 2, channels=112))
    assert output.shape == (1, classes, 3 * 2**level, 4 * 2**level, 2 * 2**level)
    assert 0.5 < output.std().item() < 1.5


def test_channels_are_widened_only_where_classes_do_not_divide_them() -> None:
    assert isinstance(UpToFullResolution(112, 4, 1).widen, nn.Identity)
    widened = UpToFullResolution(112, 5, 1).widen
    assert isinstance(widened, nn.Conv3d) and widened.out_channels == 115
