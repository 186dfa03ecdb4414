"""The U-Net: the published networks exactly, every option, every size."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.losses.dice import dice_loss
from core.models import resolve
from core.models.blocks import MaxPool2, group_count
from core.models.unet3d import UNet3D
from tests.support.peer_packages import monai_or_skip

NNUNET: dict[str, Any] = dict(norm="instance", activation="leaky_relu", downsampling="stride", widening="after")
OPTIONS = list(
    itertools.product(
        ("batch", "instance", "group"), ("relu", "leaky_relu", "prelu"), ("pool", "stride"), ("before", "after")
    )
)


def unet(in_channels: int = 2, classes: int = 4, **options: Any) -> UNet3D:
    return UNet3D(resolve(ModelConfig("unet3d", **options)), in_channels, classes)


def parameters(module: nn.Module, *kinds: type[nn.Module]) -> int:
    """Number of parameters in the submodules of the given kinds (no kind: in all)."""
    if not kinds:
        return sum(p.numel() for p in module.parameters())
    found = [m for m in module.modules() if isinstance(m, kinds)]
    return sum(p.numel() for m in found for p in m.parameters(recurse=False))


def kernels(module: nn.Module) -> list[tuple[str, int, int, int]]:
    """All convolutions in the order of the figure: kind, channels in and out, kernel size."""
    return [
        ("up" if isinstance(m, nn.ConvTranspose3d) else "conv", m.in_channels, m.out_channels, m.kernel_size[0])
        for m in module.modules()
        if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d))
    ]


def image(*size: int, channels: int = 2, batch: int = 1, seed: int = 0) -> Tensor:
    return torch.randn((batch, channels, *size), generator=torch.Generator().manual_seed(seed))


@pytest.mark.slow
def test_default_network_has_the_layers_of_the_article() -> None:
    with torch.device("meta"):
        network = unet()
    assert parameters(network) == 19_074_724
    conv, up = "conv", "up"
    assert kernels(network) == [
        (conv, 2, 32, 3), (conv, 32, 64, 3),
        (conv, 64, 64, 3), (conv, 64, 128, 3),
        (conv, 128, 128, 3), (conv, 128, 256, 3),
        (conv, 256, 256, 3), (conv, 256, 512, 3),
        (up, 512, 512, 2), (conv, 512 + 256, 256, 3), (conv, 256, 256, 3),
        (up, 256, 256, 2), (conv, 256 + 128, 128, 3), (conv, 128, 128, 3),
        (up, 128, 128, 2), (conv, 128 + 64, 64, 3), (conv, 64, 64, 3),
        (conv, 64, 4, 1),
    ]  # fmt: skip
    order = [type(m) for m in network.encoder[1].modules() if not list(m.children())]
    assert order == [MaxPool2, nn.Conv3d, nn.BatchNorm3d, nn.ReLU, nn.Conv3d, nn.BatchNorm3d, nn.ReLU]
    assert network.divisor == (8, 8, 8)


@pytest.mark.slow
def test_parameter_count_equals_the_published_one() -> None:
    with torch.device("meta"):
        network = unet(3, 3)
    batch_norm = parameters(network, nn.BatchNorm3d)
    up_bias = sum(m.out_channels for m in network.modules() if isinstance(m, nn.ConvTranspose3d))
    assert (batch_norm, up_bias) == (4_672, 896)
    assert batch_norm + up_bias == 5_568
    assert parameters(network) - batch_norm - up_bias == 19_069_955


@pytest.mark.slow
def test_nnunet_options_give_its_plain_network() -> None:
    channels = (32, 64, 128, 256, 320, 320)
    with torch.device("meta"):
        network = unet(1, 3, channels=channels, **NNUNET)
    expected = []
    for level, width in enumerate(channels):
        expected += [("conv", channels[level - 1] if level else 1, width, 3), ("conv", width, width, 3)]
    for level in range(4, -1, -1):
        skip, below = channels[level], channels[level + 1]
        expected += [("up", below, skip, 2), ("conv", 2 * skip, skip, 3), ("conv", skip, skip, 3)]
    assert kernels(network) == [*expected, ("conv", 32, 3, 1)]
    strides = [m.stride[0] for m in network.modules() if isinstance(m, nn.Conv3d)]
    assert strides == [1, 1, *(2, 1) * 5, *(1, 1) * 5, 1]
    assert all(m.bias is not None for m in network.modules() if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d)))


@pytest.mark.slow
def test_logits_equal_monais_dynunet() -> None:
    peers = monai_or_skip("monai.networks.nets")
    peer = peers.DynUNet(3, 2, 4, [3] * 3, [1, 2, 2], [2, 2], filters=[8, 16, 32], trans_bias=True)
    network = unet(2, 4, channels=(8, 16, 32), **NNUNET)
    # Both list their layers from input to output; MONAI's convolutions have no bias, ours start at 0.
    mine = [p for n, p in network.named_parameters() if not _is_conv_bias(network, n)]
    theirs = _in_order(peer)
    assert [p.shape for p in mine] == [p.shape for p in theirs]
    with torch.no_grad():
        for p, q in zip(mine, theirs, strict=True):
            p.copy_(q)
    x = image(16, 24, 8)
    torch.testing.assert_close(network(x), peer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "activation", "downsampling", "widening"), OPTIONS)
def test_every_option_works_with_any_size(norm: Any, activation: Any, downsampling: Any, widening: Any) -> None:
    network = unet(
        1, 3, channels=(4, 6, 8), norm=norm, activation=activation, downsampling=downsampling, widening=widening
    )
    for size in [(1, 1, 1), (1, 9, 6), (7, 5, 11)]:
        x = image(*size, channels=1).requires_grad_()
        logits = network(x)
        assert logits.shape == (1, 3, *size)
        assert logits.isfinite().all()
        logits.square().sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
    assert network.eval()(image(2, 7, 1, channels=1)).shape == (1, 3, 2, 7, 1)
    gradients = {name: p.grad for name, p in network.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())


def test_detail_reads_the_image_at_half_resolution() -> None:
    """A U-Net at half resolution, which a strided convolution enters; beside it one convolution of the image."""
    network = unet(1, 3, channels=(8, 16, 32), **NNUNET, convolutions=(1, 2), full_resolution="detail")
    conv, up = "conv", "up"
    assert kernels(network) == [
        (conv, 1, 8, 3),
        (conv, 1, 16, 3), (conv, 16, 16, 3), (conv, 16, 16, 3),
        (conv, 16, 32, 3), (conv, 32, 32, 3),
        (up, 32, 16, 2), (conv, 32, 16, 3), (conv, 16, 16, 3),
        (up, 16, 8, 2), (conv, 16, 16, 3),
        (conv, 16, 3, 1),
    ]  # fmt: skip
    x = image(16, 16, 8, channels=1).requires_grad_()
    network.encoder[0].register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    network(x).square().sum().backward()
    assert x.grad is not None and x.grad.any(), "level 1 reads the image, not the output of level 0"


@pytest.mark.parametrize("downsampling", ["pool", "stride"])
@pytest.mark.parametrize("widening", ["before", "after"])
def test_detail_works_with_the_other_options(downsampling: Any, widening: Any) -> None:
    for channels in ((4, 6), (4, 6, 8)):
        network = unet(
            2,
            3,
            channels=channels,
            norm="group",
            activation="prelu",
            downsampling=downsampling,
            widening=widening,
            full_resolution="detail",
        )
        logits = network(image(7, 5, 11))
        assert logits.shape == (1, 3, 7, 5, 11)
        logits.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("channels", [(8,) * 2, (4, 5, 7, 11, 13), (1, 1)])
def test_any_depth_and_channels(channels: tuple[int, ...]) -> None:
    for widening in ("before", "after"):
        network = unet(3, 2, channels=channels, norm="group", widening=widening)
        assert network.divisor == (2 ** (len(channels) - 1),) * 3
        assert network(image(9, 17, 3, channels=3, batch=2)).shape == (2, 2, 9, 17, 3)


def test_padding_replicates_the_border_and_is_cropped() -> None:
    network = unet(1, 2, channels=(4, 6, 8), norm="instance").eval()
    x = image(10, 7, 5, channels=1)
    before, after = (1, 0, 1), (1, 1, 2)
    wide = np.pad(x[0, 0].numpy(), list(zip(before, after, strict=True)), mode="edge")
    assert all(size % 4 == 0 for size in wide.shape)
    expected = network(torch.as_tensor(wide)[None, None])[:, :, 1:11, 0:7, 1:6]
    torch.testing.assert_close(network(x), expected, rtol=0, atol=0)


def test_multiple_of_the_divisor_is_not_padded() -> None:
    network = unet(1, 2, channels=(4, 6, 8))
    x = image(8, 4, 12, channels=1)
    padded, crop = network.pad(x)
    assert padded is x
    assert crop(x) is x
    smallest, _ = network.pad(image(4, 4, 4, channels=1))
    assert sorted(smallest.shape[2:]) == [4, 4, 8]


@pytest.mark.slow
def test_bfloat16_autocast_is_close_to_float32() -> None:
    torch.manual_seed(0)
    for options in ({}, NNUNET, dict(norm="group", activation="prelu")):
        network = unet(2, 4, channels=(8, 16, 32), **options)
        x = image(16, 12, 9)
        exact = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(x)
        assert (rounded.float() - exact).square().mean().sqrt() < 0.03 * exact.std()


@pytest.mark.slow
def test_forward_has_no_device_sync_and_no_graph_break() -> None:
    # Tensors on the meta device have no values: reading one raises.
    for options in ({}, NNUNET):
        with torch.device("meta"):
            network = unet(2, 4, channels=(4, 8, 16), **options)
        assert network(torch.empty(1, 2, 9, 16, 8, device="meta")).shape == (1, 4, 9, 16, 8)
    network = unet(2, 4, channels=(4, 8), **NNUNET)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image(5, 6, 7)), network(image(5, 6, 7)))


def test_initial_weights_are_seeded_and_scaled() -> None:
    torch.manual_seed(3)
    network = unet(2, 4, channels=(16, 32, 64), **NNUNET)
    torch.manual_seed(3)
    again = unet(2, 4, channels=(16, 32, 64), **NNUNET)
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), again.parameters(), strict=True))
    for module in network.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            assert module.bias is not None
            assert not module.bias.any()
        if isinstance(module, nn.Conv3d) and module.in_channels > 2 and module is not network.classifier:
            fan_in = module.in_channels * 27
            assert module.weight.std().item() == pytest.approx((2 / (1 + 0.01**2) / fan_in) ** 0.5, rel=0.05)
        if isinstance(module, nn.ConvTranspose3d):
            assert module.weight.std().item() == pytest.approx(module.in_channels**-0.5, rel=0.05)
    assert 0.2 < network(image(16, 16, 16)).std().item() < 2


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, NNUNET, {**NNUNET, "full_resolution": "detail"}])
def test_overfits_one_sub_volume(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    target = torch.zeros(1, 8, 9, 10, dtype=torch.long)
    target[:, 1:5, 2:7, 2:6] = 1
    target[:, 5:7, 2:7, 2:8] = 2
    x = target[:, None].float() + 0.2 * image(8, 9, 10, channels=1)
    network = unet(1, 3, channels=(6, 12), **options)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = dice_loss(network(x), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.2


def test_image_of_another_shape_is_refused() -> None:
    network = unet(2, 4, channels=(4, 8))
    for shape in [(2, 8, 8, 8), (1, 1, 8, 8, 8), (1, 2, 8, 8)]:
        with pytest.raises(ValueError, match=r"image of shape \(batch, 2, i, j, k\)"):
            network(torch.zeros(shape))
    with pytest.raises(ValueError, match="at least one voxel"):
        network(torch.zeros(1, 2, 8, 0, 8))
    with pytest.raises(ValueError, match="at least one channel"):
        unet(in_channels=0)


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (4, 1), (7, 1), (8, 2), (12, 3), (16, 4), (24, 6), (32, 8), (320, 8), (13, 1)]
)
def test_group_count(channels: int, groups: int) -> None:
    assert group_count(channels) == groups


def _is_conv_bias(network: nn.Module, name: str) -> bool:
    path, _, leaf = name.rpartition(".")
    module = network.get_submodule(path)
    return leaf == "bias" and isinstance(module, nn.Conv3d) and module.kernel_size != (1, 1, 1)


def _in_order(peer: nn.Module) -> list[nn.Parameter]:
    """The parameters of MONAI's network in our order: convolution, norm, convolution, norm of each level."""
    blocks = [peer.get_submodule(n) for n in ("input_block", "downsamples.0", "bottleneck")]
    found: list[nn.Parameter] = []
    for block in blocks:
        found += _of_block(block)
    for n in range(2):
        found += list(peer.get_submodule(f"upsamples.{n}.transp_conv").parameters())
        found += _of_block(peer.get_submodule(f"upsamples.{n}.conv_block"))
    return found + list(peer.get_submodule("output_block").parameters())


def _of_block(block: nn.Module) -> list[nn.Parameter]:
    return [p for part in ("conv1", "norm1", "conv2", "norm2") for p in block.get_submodule(part).parameters()]
