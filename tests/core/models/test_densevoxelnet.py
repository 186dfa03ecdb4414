"""DenseVoxNet: the published layers, and the side path, which exists in training alone."""

from __future__ import annotations

import torch
from torch import nn

from core.config import LossConfig, ModelConfig
from core.losses.build import build_loss
from core.models.blocks import NetworkOutput
from core.models.build import build_model
from tests.core.models.test_unet3d import image, kernels, parameters


def test_default_network_has_the_layers_and_parameters_of_the_paper() -> None:
    with torch.device("meta"):
        network = build_model(ModelConfig("densevoxelnet"), 1, 3)
    conv, up = "conv", "up"
    first = [(conv, 16 + 12 * n, 12, 3) for n in range(12)]
    second = [(conv, 160 + 12 * n, 12, 3) for n in range(12)]
    main, side = [(conv, 1, 16, 3), *first, *second, (conv, 160, 160, 1), (conv, 304, 304, 1)], (conv, 160, 3, 1)
    assert kernels(network) == [*main, (up, 304, 128, 2), (up, 128, 64, 2), (conv, 64, 3, 1), side]
    assert network.divisor == (4, 4, 4)
    assert parameters(network) - (160 * 3 + 3) == 1_701_491


def test_side_path_gives_scores_at_half_the_size_in_training() -> None:
    network = build_model(ModelConfig("densevoxelnet", channels=(4, 2, 2)), 1, 3)
    output = network(image(6, 8, 12, channels=1))
    assert isinstance(output, NetworkOutput) and set(output.extras) == {"deep_supervision"}
    (side,) = output.extras["deep_supervision"]
    assert (output.logits.shape, side.shape) == ((1, 3, 6, 8, 12), (1, 3, 4, 4, 6))


def test_loss_reaches_the_side_path() -> None:
    network = build_model(ModelConfig("densevoxelnet", channels=(4, 2, 2)), 1, 3)
    target = torch.zeros(1, 8, 8, 8, dtype=torch.long)
    target[:, 2:6, 2:6, 2:6] = 1
    build_loss(LossConfig(loss="ce"))(network(image(8, 8, 8, channels=1)), target).backward()
    side = network.get_submodule("side_path.classifiers.1")
    assert isinstance(side, nn.Conv3d) and side.weight.grad is not None and side.weight.grad.any()
