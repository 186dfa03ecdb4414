"""The V-Net: the published stages, every norm, every size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from core.config import ModelConfig
from core.losses.dice import dice_loss
from core.models import resolve
from core.models.vnet import ResidualStage, VNet
from tests.core.models.test_unet3d import image, kernels, parameters
from tests.support.peer_packages import monai_or_skip


def vnet(in_channels: int = 2, classes: int = 4, **options: Any) -> VNet:
    return VNet(resolve(ModelConfig("vnet", **options)), in_channels, classes)


def test_default_network_has_the_layers_of_the_paper() -> None:
    with torch.device("meta"):
        network = vnet(1, 2)
    conv, up = "conv", "up"
    encoder = [(conv, 1, 16, 5)]
    for width, convolutions in ((32, 2), (64, 3), (128, 3), (256, 3)):
        encoder += [(conv, width // 2, width, 2)] + [(conv, width, width, 5)] * convolutions
    decoder = []
    for below, skip, convolutions in ((256, 128, 3), (256, 64, 3), (128, 32, 2), (64, 16, 1)):
        decoder += [(up, below, skip, 2)] + [(conv, 2 * skip, 2 * skip, 5)] * convolutions
    assert kernels(network) == [*encoder, *decoder, (conv, 32, 2, 1)]
    assert network.divisor == (16, 16, 16)
    assert not any(isinstance(m, (nn.ReLU, nn.LeakyReLU, nn.MaxPool3d)) for m in network.modules())


Convolutions = Sequence[tuple[int, int, int]]  # channels in and out, how many
PAPER: Convolutions = ((1, 16, 1), (32, 32, 2), (64, 64, 3), (128, 128, 3), (256, 256, 3),
                       (256, 256, 3), (128, 128, 3), (64, 64, 2), (32, 32, 1))  # fmt: skip
OTHER_LIBRARIES: Convolutions = ((1, 16, 1), (32, 32, 1), (64, 64, 2), (128, 128, 3), (256, 256, 2),
                                 (256, 256, 2), (128, 128, 2), (64, 64, 1), (32, 32, 1))  # fmt: skip
RESAMPLING = ((16, 32), (32, 64), (64, 128), (128, 256), (256, 128), (256, 64), (128, 32), (64, 16))
RECEPTIVE_FIELDS = {  # table 1 of the paper, from L-Stage 1 down and up to R-Stage 1, in voxels along each axis
    "encoder": (5, 22, 72, 172, 372),
    "decoder": (476, 528, 546, 551),
}


def values(fives: Convolutions, twos: Sequence[tuple[int, int]], per_channel: int) -> int:
    """Values of the 5x5x5 and of the 2x2x2 convolutions, with ``per_channel`` more for each output channel."""
    kernels_5 = sum(n * (125 * i * o + per_channel * o) for i, o, n in fives)
    return kernels_5 + sum(8 * i * o + per_channel * o for i, o in twos)


def test_convolutions_of_each_stage_give_the_receptive_fields_of_the_paper() -> None:
    """The figure of the paper shows the numbers of convolutions; its table 1 decides them."""
    with torch.device("meta"):
        network = vnet(1, 2)
    seen, step = 1, 1  # receptive field, and distance of two neighbouring outputs, in voxels of the image
    fields: list[int] = []
    for kind, _, _, size in kernels(network)[:-1]:
        if size == 5:
            seen += 4 * step
            fields[-1:] = [seen]
            continue
        step = step // 2 if kind == "up" else step
        seen += step
        step = step if kind == "up" else 2 * step
        fields.append(seen)
    assert tuple(fields[:5]) == RECEPTIVE_FIELDS["encoder"]
    assert tuple(fields[5:]) == RECEPTIVE_FIELDS["decoder"]


def test_parameter_count_by_hand() -> None:
    """The paper states none. Each convolution has weights and a bias, a norm of twice its channels, and one PReLU slope
    per channel."""
    with torch.device("meta"):
        network = vnet(1, 2)
    assert parameters(network) == values(PAPER, RESAMPLING, 4) + 32 * 2 + 2 == 65_182_226


@pytest.mark.slow
def test_the_45_million_of_other_libraries_are_a_network_with_fewer_convolutions() -> None:
    """MONAI's has, as MedicalZooPytorch's, six 5x5x5 convolutions fewer and a 5x5x5 one at the end; it has no slopes,
    and no biases but of the transposed and of the last convolutions."""
    peers = monai_or_skip("monai.networks.nets")
    with torch.device("meta"):
        peer = peers.VNet(spatial_dims=3, in_channels=1, out_channels=2)
    up_biases = sum(width for below, width in RESAMPLING if width < below)
    end = 125 * 32 * 2 + 2 * 2 + 2 * 2 + 2
    assert parameters(peer) == values(OTHER_LIBRARIES, RESAMPLING, 2) + up_biases + end == 45_597_898
    assert sum(n for _, _, n in PAPER) - sum(n for _, _, n in OTHER_LIBRARIES) == 6


def test_several_modalities_reach_the_residual_sum_through_a_1x1x1_convolution() -> None:
    network = vnet(2, 4, channels=(4, 8))
    assert kernels(network)[0] == ("conv", 2, 4, 1)
    assert isinstance(vnet(1, 4, channels=(4, 8)).entry, nn.Identity)


def test_stages_are_residual() -> None:
    stage = ResidualStage(4, 4, convolutions=2, norm="instance")
    last_norm = stage.get_submodule("convolutions.1.1")
    assert isinstance(last_norm, nn.InstanceNorm3d)
    nn.init.zeros_(last_norm.weight)
    x = image(5, 5, 5, channels=4)
    torch.testing.assert_close(stage(x, x), torch.where(x > 0, x, 0.25 * x))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_every_norm_works_with_any_size(norm: Any, in_channels: int) -> None:
    network = vnet(in_channels, 3, channels=(4, 6, 8), norm=norm)
    for size in [(1, 1, 1), (1, 9, 6), (7, 5, 11)]:
        logits = network(image(*size, channels=in_channels))
        assert logits.shape == (1, 3, *size)
        assert logits.isfinite().all()
        logits.square().sum().backward()
    assert network.eval()(image(2, 7, 1, channels=in_channels)).shape == (1, 3, 2, 7, 1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_bfloat16_autocast_is_close_to_float32() -> None:
    torch.manual_seed(0)
    network = vnet(2, 4, channels=(8, 16, 32))
    x = image(16, 12, 9)
    exact = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(x)
    assert (rounded.float() - exact).square().mean().sqrt() < 0.03 * exact.std()


def test_forward_has_no_device_sync() -> None:
    with torch.device("meta"):
        network = vnet(2, 4, channels=(4, 8, 16))
    assert network(torch.empty(1, 2, 9, 16, 8, device="meta")).shape == (1, 4, 9, 16, 8)


@pytest.mark.slow
def test_overfits_one_sub_volume() -> None:
    torch.manual_seed(0)
    target = torch.zeros(1, 8, 9, 10, dtype=torch.long)
    target[:, 1:5, 2:7, 2:6] = 1
    target[:, 5:7, 2:7, 2:8] = 2
    x = target[:, None].float() + 0.2 * image(8, 9, 10, channels=1)
    network = vnet(1, 3, channels=(4, 8))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = dice_loss(network(x), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


def test_image_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image of shape \(batch, 2, i, j, k\)"):
        vnet(2, 4, channels=(4, 8))(torch.zeros(1, 1, 8, 8, 8))
