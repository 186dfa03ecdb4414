"""Convolutions in 16 bits on a CPU: right for every shape, and in fp32 only where they have to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.compute.convolution_precision import SafeConvolutions, is_unsafe, make_convolutions_safe
from core.compute.precision import autocast
from core.config import ModelConfig
from core.models.build import build_model
from core.presets import preset

CPU = torch.device("cpu")
Layer = Callable[[], nn.Module]


def difference(found: Tensor, exact: Tensor) -> float:
    return float((found.detach().float() - exact.detach().float()).norm() / exact.detach().norm())


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (lambda: nn.Conv3d(8, 16, 3, 2, 1), (8, 8, 2)),
        (lambda: nn.Conv3d(8, 16, 3, 2, 1), (8, 8, 1)),
        (lambda: nn.Conv3d(8, 16, 2, 2), (8, 8, 2)),
        (lambda: nn.Conv3d(8, 16, 3, (1, 1, 2), 1), (8, 8, 2)),
        (lambda: nn.Conv3d(1, 16, 3, padding=1), (1, 16, 16)),
        (lambda: nn.Conv3d(8, 8, 3, padding="same"), (2, 8, 8)),
        (lambda: nn.Conv3d(8, 8, 5, padding=2), (4, 8, 8)),
        (lambda: nn.Conv3d(8, 8, 5, padding=2), (8, 1, 8)),
        (lambda: nn.Conv3d(1, 8, 7, 2, 3), (8, 3, 8)),
        (lambda: nn.Conv2d(4, 32, 3, 2, 1), (9, 2)),
        (lambda: nn.ConvTranspose3d(4, 8, 2, 2), (9, 8, 1)),
        (lambda: nn.ConvTranspose2d(24, 3, 2, 2), (9, 1)),
    ],
)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_output_and_gradients_of_small_images_are_right(layer: Layer, size: tuple[int, ...], precision: str) -> None:
    """Most of these are whatever was in memory where they are computed in bf16."""
    torch.manual_seed(1)
    module = layer()
    image = torch.randn(1, int(module.in_channels), *size)  # type: ignore[arg-type]
    state, shown = module.state_dict().keys(), repr(module)
    make_convolutions_safe(module)
    assert module.state_dict().keys() == state and repr(module) == shown
    results = []
    for used in ("fp32", precision):
        module.zero_grad()
        given = image.clone().requires_grad_()
        with autocast(CPU, used):
            output = module(given)
        output.float().square().mean().backward()
        assert given.grad is not None
        results.append([output, given.grad, *(p.grad.clone() for p in module.parameters() if p.grad is not None)])
    exact, found = results
    assert found[0].dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert max(map(difference, found, exact)) < 0.05


@pytest.mark.parametrize(
    ("model", "size"),
    [
        (preset("fast").model, (32, 32, 8)),
        (preset("quick").model, (32, 32, 4)),
        (ModelConfig("densenet_early", channels=(4, 4, 8)), (1, 7, 6)),
        (ModelConfig("resnet3d_vae", channels=(8, 16, 16, 32)), (32, 32, 8)),
        (ModelConfig("med3d", resnet_depth="10"), (32, 32, 8)),
        (ModelConfig("highresnet3d", channels=(4, 8, 8)), (32, 32, 8)),
        (ModelConfig("attention_unet", channels=(8, 16, 32)), (32, 32, 4)),
    ],
)
def test_networks_are_right_in_bf16_for_thin_images(model: ModelConfig, size: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    network: Any = build_model(model, 1, 3).eval()
    image = torch.randn(1, 1, *size)
    logits = []
    for precision in ("fp32", "bf16", "bf16"):
        with torch.no_grad(), autocast(CPU, precision):
            logits.append(network(image).float())
    exact, found, again = logits
    assert difference(found, exact) < 0.1
    assert torch.equal(found, again)


@pytest.mark.parametrize("size", [(32, 32, 8), (8, 32, 32), (16, 16, 8)])
def test_gradients_of_a_network_are_right_in_bf16_for_thin_sub_volumes(size: tuple[int, int, int]) -> None:
    torch.manual_seed(1)
    network: Any = build_model(preset("fast").model, 1, 3)
    image = torch.randn(2, 1, *size)
    gradients: list[Tensor] = []
    for precision in ("fp32", "bf16"):
        network.zero_grad()
        with autocast(CPU, precision):
            logits = network(image)
        logits.float().square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert F.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.99


def test_other_convolutions_stay_in_16_bits() -> None:
    seen: list[torch.dtype] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.convolution.default:
                seen.append(args[0].dtype)
            return func(*args, **(kwargs or {}))

    small, kernel = torch.randn(1, 4, 2, 8, 8), torch.randn(4, 4, 3, 3, 3)
    with Watch(), torch.no_grad(), autocast(CPU, "bf16"), SafeConvolutions():
        build_model(preset("fast").model, 1, 3)(torch.randn(1, 1, 32, 32, 32))
        F.conv3d(small, kernel[..., :1, :1, :1])
    assert seen and set(seen) == {torch.bfloat16}
    with Watch(), torch.no_grad(), autocast(CPU, "bf16"), SafeConvolutions():
        seen.clear()
        found = F.conv3d(small, kernel, padding=1)
        F.conv_transpose3d(small[..., :1], kernel[..., :2, :2, :2], None, 2)
    assert seen == [torch.float32, torch.float32]
    assert found.dtype == torch.bfloat16 and difference(found, F.conv3d(small, kernel, padding=1)) < 0.01


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "unsafe"),
    [
        ((4, 4, 4), 3, 1, 1, False),
        ((3, 3, 3), 3, 1, 1, False),
        ((2, 4, 4), 3, 1, 1, True),
        ((4, 4, 4), 3, 2, 1, False),
        ((4, 4, 3), 3, 2, 1, True),
        ((4, 4, 2), 2, 2, 0, True),
        ((4, 4, 4), 2, 2, 0, False),
        ((1, 1, 1), 1, 1, 0, False),
        ((8, 8, 8), 7, 2, 3, False),
        ((8, 8, 6), 7, 2, 3, True),
    ],
)
def test_rule(size: tuple[int, ...], kernel: int, stride: int, padding: int, unsafe: bool) -> None:
    assert is_unsafe(size, (kernel,) * 3, (stride,) * 3, (padding,) * 3, (1,) * 3) == unsafe


def test_convolutions_with_dilation_and_a_stride_or_an_even_kernel_are_unsafe() -> None:
    assert is_unsafe((16, 16, 16), (3, 3, 3), (2, 1, 1), (4, 4, 4), (4, 4, 4))
    assert is_unsafe((4, 16, 16), (2, 2, 2), (1, 1, 1), (2, 2, 2), (4, 4, 4))
    assert not is_unsafe((4, 4, 4), (3, 3, 3), (1, 1, 1), (4, 4, 4), (4, 4, 4))
