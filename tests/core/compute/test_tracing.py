"""Traced memory and operations by hand, and against torch's own counter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from core.compute.convolution_workspace import TracedConvolution, backward_bytes, forward_bytes
from core.compute.tracing import AllocationTracer, CudaAutocast, fake_tensors, to_fake, without_large_tensors

MB = 2**20


def test_storages_count_from_their_operator_to_the_last_reference() -> None:
    with fake_tensors(), AllocationTracer() as tracer:
        x = torch.empty(MB)  # 4 MiB
        assert (tracer.used, tracer.peak) == (4 * MB, 4 * MB)
        y = x.view(1024, 1024)  # shares the storage
        z = x + 1
        assert tracer.used == 8 * MB
        del x
        assert tracer.used == 8 * MB
        del y
        assert tracer.used == 4 * MB
        z.add_(1)
        assert tracer.used == 4 * MB
        torch.empty(2 * MB, dtype=torch.uint8)  # released at once
        assert (tracer.used, tracer.peak) == (4 * MB, 8 * MB)
        del z
    assert tracer.used == 0


def test_backward_pass_holds_what_it_saved() -> None:
    with fake_tensors(), AllocationTracer() as tracer:
        x = torch.empty(MB, requires_grad=True)
        y = x.exp().exp()  # each saves its result
        assert tracer.used == 12 * MB
        y.sum().backward()
        del y
        assert tracer.used == 8 * MB  # x and its gradient


def test_nothing_is_allocated_for_a_volume_of_any_size() -> None:
    network = nn.Conv3d(1, 64, 3, padding=1)
    with fake_tensors(), AllocationTracer() as tracer:
        to_fake(network)
        network(torch.empty(1, 1, 2048, 2048, 2048))
    assert tracer.peak > 2e12  # bytes that no machine has


def test_tensors_that_exist_already_can_be_followed() -> None:
    with fake_tensors():
        weights = [torch.empty(MB), torch.empty(MB)]
        with AllocationTracer() as tracer:
            tracer.follow([*weights, weights[0]])
            assert tracer.used == 8 * MB
            weights.pop()
            assert tracer.used == 4 * MB


@pytest.mark.slow
def test_operations_are_those_of_torchs_counter() -> None:
    network = nn.Sequential(
        nn.Conv3d(2, 8, 3), nn.Conv3d(8, 16, 3, stride=2, groups=2), nn.ConvTranspose3d(16, 4, 2, 2)
    )
    image = torch.randn(2, 2, 12, 13, 14)
    with FlopCounterMode(display=False) as counter:
        network(image).sum().backward()
    network.zero_grad()
    with fake_tensors(), AllocationTracer() as tracer:
        to_fake(network)(torch.empty(image.shape)).sum().backward()
    assert tracer.operations == counter.get_total_flops() > 0


def test_convolutions_are_listed_with_their_sizes() -> None:
    with fake_tensors(), torch.no_grad(), AllocationTracer() as tracer:
        x = F.conv3d(torch.empty(1, 2, 8, 6, 4), torch.empty(5, 2, 3, 3, 3), padding=1, stride=2)
        F.conv_transpose3d(x, torch.empty(5, 7, 2, 2, 2), stride=2)
    down, up = tracer.convolutions
    assert (down.in_channels, down.out_channels, down.size, down.out_size) == (2, 5, (8, 6, 4), (4, 3, 2))
    assert (down.kernel_size, down.stride, down.transposed, down.kernel_values) == ((3, 3, 3), (2, 2, 2), False, 270)
    assert (up.in_channels, up.out_channels, up.size, up.out_size) == (5, 7, (4, 3, 2), (8, 6, 4))
    assert up.transposed and up.kernel_values == 5 * 7 * 8


def convolution(in_channels: int, out_channels: int, itemsize: int, side: int = 32) -> TracedConvolution:
    size = (side,) * 3
    return TracedConvolution(1, in_channels, out_channels, size, size, (3,) * 3, (1,) * 3, 1, False, itemsize, False)


def test_temporary_memory_of_a_convolution_by_hand() -> None:
    voxels = 32**3
    c = convolution(20, 16, itemsize=2)
    source, target, kernel = 2 * 32 * voxels, 2 * 16 * voxels, 2 * 20 * 16 * 27  # 20 channels in blocks of 16
    assert forward_bytes(c, "cpu") == source + target + kernel
    assert forward_bytes(c, "cuda") == 2 * 20 * voxels + target + kernel
    image = convolution(2, 16, itemsize=2)  # few channels are read as they are
    assert forward_bytes(image, "cpu") == 2 * target
    gradient = 2 * 20 * voxels
    assert backward_bytes(c, "cpu", True) == gradient + 2 * (source + target) + kernel + 2 * 4 * 20 * 16 * 27
    assert backward_bytes(c, "cpu", False) == backward_bytes(c, "cpu", True) - gradient
    small = convolution(4, 4, itemsize=4, side=16)  # unfolded by torch
    assert forward_bytes(small, "cpu") == 4 * 27 * 4 * 16**3 + 4 * 4 * 16**3


def test_mixed_precision_of_cuda_on_another_device() -> None:
    kernel, affine = torch.randn(4, 2, 1, 1, 1), torch.ones(4)
    image = torch.randn(1, 2, 3, 3, 3)
    with CudaAutocast(torch.float16):
        convolved = F.conv3d(image, kernel)
        normalised = F.group_norm(convolved, 2, affine, affine)
        summed = torch.cat((convolved, normalised))
    assert (convolved.dtype, normalised.dtype, summed.dtype) == (torch.float16, torch.float32, torch.float32)


def test_networks_are_built_without_their_memory_and_without_random_numbers() -> None:
    class ReadsAValue(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rates = torch.linspace(0, 1, 5).tolist()  # needs values
            self.large = nn.Linear(10**6, 10**6)  # 4 TB
            self.small = nn.Linear(8, 8)

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with without_large_tensors():
        network = ReadsAValue()
    assert torch.equal(torch.rand(1), expected)
    assert (
        network.rates == [0, 0.25, 0.5, 0.75, 1] and network.large.weight.is_meta and not network.small.weight.is_meta
    )
    with fake_tensors():
        to_fake(network)
        output: Tensor = network.small(torch.empty(3, 8))
    assert output.shape == (3, 8)
