"""HyperDenseNet and its three baselines: the published layers, which modality reaches which, what a voxel sees."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models.blocks import SegmentationNetwork
from core.models.build import build_model
from core.models.hyperdensenet import HyperDenseHead
from tests.core.models.test_unet3d import image

NAMES = ["densenet_early", "densenet_late", "densenet_dual", "hyperdensenet"]


def default(name: str, in_channels: int = 2, classes: int = 4) -> SegmentationNetwork:
    with torch.device("meta"):
        return build_model(ModelConfig(name), in_channels, classes)


def narrow(name: str, in_channels: int = 2) -> SegmentationNetwork:
    torch.manual_seed(0)
    return build_model(ModelConfig(name, channels=(2, 3, 4)), in_channels, 3)


def convolutions(network: nn.Module) -> list[tuple[int, int]]:
    """Input and output channels of the 3x3x3 convolutions."""
    return [
        (m.in_channels, m.out_channels)
        for m in network.modules()
        if isinstance(m, nn.Conv3d) and m.kernel_size == (3, 3, 3)
    ]


def kernel_values(network: nn.Module) -> int:
    return sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv3d))


def test_hyperdensenet_has_the_published_layers_and_number_of_kernel_values() -> None:
    network = default("hyperdensenet")
    inputs = [50, 100, 150, 250, 350, 450, 600, 750]
    outputs = [25, 25, 50, 50, 50, 75, 75, 75]
    both_paths = [layer for layer in zip(inputs, outputs, strict=True) for _ in range(2)]
    assert convolutions(network) == [(2, 50), *both_paths]  # the first: a kernel of its own for each modality
    assert kernel_values(network) == 10_349_450


@pytest.mark.parametrize(("name", "values"), [("densenet_early", 2_671_325), ("densenet_late", 5_230_700)])
def test_kernel_values_of_the_baselines_by_hand(name: str, values: int) -> None:
    inputs, outputs = [25, 50, 75, 125, 175, 225, 300, 375], [25, 25, 50, 50, 50, 75, 75, 75]
    layers = sum(i * o for i, o in zip(inputs, outputs, strict=True))
    paths, entry = (2, 25) if name == "densenet_late" else (1, 50)
    dense = 27 * paths * (entry + layers)
    assert dense + paths * 450 * 400 + 400 * 200 + 200 * 150 + 150 * 4 == values
    assert kernel_values(default(name)) == values


def test_first_convolutions_of_densenet_dual_read_one_modality_each() -> None:
    network = default("densenet_dual", in_channels=3)
    assert convolutions(network)[:3] == [(3, 75), (75, 25), (100, 25)]
    entry = next(m for m in network.modules() if isinstance(m, nn.Conv3d))
    assert entry.groups == 3


def test_one_modality_makes_all_of_them_the_same_network() -> None:
    x = image(5, 6, 7, channels=1)
    early = narrow("densenet_early", 1).eval()
    for name in NAMES[1:]:
        network = narrow(name, 1).eval()
        with torch.no_grad():
            for p, q in zip(network.parameters(), early.parameters(), strict=True):
                p.copy_(q)
            torch.testing.assert_close(network(x), early(x))


def test_paths_of_densenet_late_see_their_own_modality() -> None:
    network = narrow("densenet_late").eval()
    outputs: list[Tensor] = []
    for path in network.get_submodule("paths").children():
        path.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    x = image(5, 6, 7)
    with torch.no_grad():
        network(x)
        x[:, 1] += 1
        network(x)
    first, second, first_again, second_again = outputs
    assert torch.equal(first, first_again) and not torch.equal(second, second_again)


def test_sum_over_the_paths_is_the_convolution_of_their_concatenation() -> None:
    head = HyperDenseHead(4, 2, ModelConfig("hyperdensenet", channels=(2, 3), activation="prelu")).eval()
    x, weights, normalised = image(3, 4, 5, channels=4), [], []
    for path in head.paths.children():
        norm_activation, convolution = path.children()
        assert isinstance(convolution, nn.Conv3d)
        normalised.append(norm_activation(x))
        weights.append(convolution.weight)
    joined = torch.conv3d(torch.cat(normalised, dim=1), torch.cat(weights, dim=1))
    torch.testing.assert_close(head(x), head.others(joined))


@pytest.mark.parametrize("name", NAMES)
def test_a_voxel_sees_19_voxels_along_an_axis(name: str) -> None:
    network = narrow(name).eval()
    x = image(23, 2, 3).requires_grad_()
    network(x)[0, :, 11].sum().backward()
    assert x.grad is not None
    seen = torch.nonzero(x.grad.abs().sum(dim=(0, 1, 3, 4)))
    assert (seen.min().item(), seen.max().item()) == (2, 20)
