"""The Med3D networks: MedicalNet's names, shapes, counts and weights; logits of the image's size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.checkpointing.checkpoint import copy_matching_weights
from core.checkpointing.foreign_reader import repeat_modality
from core.checkpointing.foreign_weights import read_foreign_weights
from core.compute.determinism import deterministic
from core.config import ModelConfig
from core.models.build import build_model
from core.models.med3d import BLOCKS, Med3D, OverlappingMaxPool, ResidualBlock
from tests.core.models.test_unet3d import image, parameters

# In millions, as MedicalNet's README states them; with the running statistics of batch normalisation.
STATED = {"10": 14.36, "18": 32.99, "34": 63.31, "50": 46.21}
LEARNED = {"10": 14_514_466, "18": 33_145_122, "34": 63_454_754, "50": 46_707_234}  # of the network, 1 to 2 classes


def med3d(in_channels: int = 1, classes: int = 2, depth: str = "10") -> Med3D:
    network = build_model(ModelConfig("med3d", resnet_depth=depth), in_channels, classes)  # type: ignore[arg-type]
    assert isinstance(network, Med3D)
    return network


def published_shapes(depth: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in MedicalNet's ``resnet_<depth>.pth``, written down from its model."""
    shapes: dict[str, tuple[int, ...]] = {}

    def batch_norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    def convolution(name: str, norm: str, out_channels: int, in_channels: int, kernel: int) -> None:
        shapes[f"{name}.weight"] = (out_channels, in_channels, kernel, kernel, kernel)
        batch_norm(norm, out_channels)

    blocks = {"10": (1, 1, 1, 1), "18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 6, 3)}[depth]
    expansion = 4 if depth == "50" else 1
    convolution("module.conv1", "module.bn1", 64, 1, 7)
    width = 64
    for number, (count, planes) in enumerate(zip(blocks, (64, 128, 256, 512), strict=True), 1):
        for n in range(count):
            block = f"module.layer{number}.{n}"
            if depth == "50":
                convolution(f"{block}.conv1", f"{block}.bn1", planes, width, 1)
                convolution(f"{block}.conv2", f"{block}.bn2", planes, planes, 3)
                convolution(f"{block}.conv3", f"{block}.bn3", 4 * planes, planes, 1)
            else:
                convolution(f"{block}.conv1", f"{block}.bn1", planes, width, 3)
                convolution(f"{block}.conv2", f"{block}.bn2", planes, planes, 3)
            # In the files of 18 and 34 layers shortcuts have no weights (type A).
            if depth in ("10", "50") and n == 0 and (width != planes * expansion or number == 2):
                convolution(f"{block}.downsample.0", f"{block}.downsample.1", planes * expansion, width, 1)
            width = planes * expansion
    return shapes


def published_file(folder: Path, depth: str = "10") -> tuple[Path, dict[str, Tensor]]:
    """A file like MedicalNet's, with random weights."""
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.rand(shape, generator=generator) if shape else torch.tensor(7)
        for name, shape in published_shapes(depth).items()
    }
    path = folder / f"resnet_{depth}.pth"
    torch.save({"epoch": 140, "batch_id": 2000, "state_dict": state, "optimizer": {"state": {}}}, path)
    return path, {name.removeprefix("module."): tensor for name, tensor in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("depth", BLOCKS)
def test_encoder_has_the_names_shapes_and_count_of_medicalnet(depth: str) -> None:
    with torch.device("meta"):
        network = med3d(depth=depth)
    encoder = {
        f"module.{name}": tuple(tensor.shape)
        for name, tensor in network.state_dict().items()
        if not name.startswith(("conv_seg.", "classifier."))
    }
    assert encoder == published_shapes(depth)
    values = {name: torch.Size(shape).numel() for name, shape in encoder.items() if shape}
    assert sum(values.values()) / 1e6 == pytest.approx(STATED[depth], abs=0.005)
    learned = sum(n for name, n in values.items() if "running_" not in name)
    width = 2048 if depth == "50" else 512
    decoder = (8 * width * 32 + 32) + 2 * 32 + 27 * 32 * 32 + 2 * 32 + (32 * 2 + 2)
    assert parameters(network) == learned + decoder == LEARNED[depth]


@pytest.mark.slow
def test_published_weights_are_loaded_by_name(tmp_path: Path) -> None:
    path, published = published_file(tmp_path)
    network = med3d(1, 3)
    found = read_foreign_weights(path, network)
    assert found.how == ""
    copied, total = copy_matching_weights(found.weights, network)
    own = network.state_dict()
    assert (copied, total) == (len(published), len(own))
    assert all(torch.equal(own[name], tensor) for name, tensor in published.items())


@pytest.mark.slow
def test_first_kernel_is_repeated_for_several_modalities_and_the_log_says_so(tmp_path: Path) -> None:
    path, published = published_file(tmp_path)
    network, single = med3d(3, 2), med3d(1, 2)
    found = read_foreign_weights(path, network)
    assert found.how == ", conv1.weight repeated for all modalities"
    assert copy_matching_weights(found.weights, network)[0] == len(published)
    single.load_state_dict(network.state_dict() | {"conv1.weight": published["conv1.weight"]})
    x = image(16, 16, 16, channels=1)
    with torch.no_grad():
        logits = network.eval()(x.expand(1, 3, 16, 16, 16))
        scale = float(logits.abs().max())  # of random weights the logits are large, and their rounding errors too
        torch.testing.assert_close(logits / scale, single.eval()(x) / scale, rtol=1e-3, atol=1e-3)


@pytest.mark.long
@pytest.mark.slow
def test_file_of_another_depth_is_said_to_be_left_out_in_part(tmp_path: Path) -> None:
    path, _ = published_file(tmp_path, "18")
    found = read_foreign_weights(path, med3d(1, 2, depth="10"))
    assert found.how == ", 8 kernels of the file left out", "the second block of each layer"


def test_only_kernels_of_one_modality_are_repeated() -> None:
    expected = {"a": ((4, 3, 1, 1, 1), "F32"), "b": ((4, 3, 1, 1, 1), "F32")}
    kernel = torch.arange(4.0).view(4, 1, 1, 1, 1)
    fitted, repeated = repeat_modality({"a": kernel, "b": kernel}, expected, ["a"])
    assert repeated == ["a"]
    assert torch.equal(fitted["a"], (kernel / 3).expand(4, 3, 1, 1, 1)) and fitted["b"] is kernel
    for other in (torch.ones(4, 2, 1, 1, 1), torch.ones(4, 1, 3, 3, 3), torch.ones(2, 1, 1, 1, 1), torch.ones(4)):
        assert repeat_modality({"a": other}, expected, ["a"])[1] == []
    assert repeat_modality({}, expected, ["a"]) == ({}, [])
    assert repeat_modality({"a": kernel}, {"a": ((4, 1, 1, 1, 1), "F32")}, ["a"])[1] == []


@pytest.mark.slow
def test_size_is_an_eighth_and_dilation_keeps_it() -> None:
    with torch.device("meta"):
        network = med3d()
    assert [
        (m.stride[0], m.dilation[0]) for m in network.modules() if isinstance(m, nn.Conv3d) and m.kernel_size[0] == 3
    ] == [(1, 1), (1, 1), (2, 1), (1, 1), (1, 2), (1, 2), (1, 4), (1, 4), (1, 1)]
    sizes: list[int] = []
    for stage in network.stages():
        stage.module.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[2]))
    network(torch.empty(1, 1, 64, 64, 64, device="meta"))
    assert sizes == [32, 16, 8, 8, 8, 16, 64]


@pytest.mark.parametrize(("stride", "planes"), [(2, 5), (1, 5), (2, 3), (1, 3)])
def test_shortcut_of_type_a_takes_every_second_voxel_and_adds_zeros(stride: int, planes: int) -> None:
    block = ResidualBlock("18", 3, planes, stride, 1)
    nn.init.zeros_(block.bn2.weight)
    x = image(4, 6, 2, channels=3).abs()
    y = block(x)
    assert torch.equal(y[:, :3], x[..., ::stride, ::stride, ::stride])
    assert y.shape[1] == planes and not y[:, 3:].any()
    assert not any("downsample" in name for name, _ in block.named_parameters())


def test_deterministic_pooling_equals_torchs() -> None:
    x = F.relu(image(9, 8, 5)) + torch.rand(1, 2, 9, 8, 5) * 1e-3  # no ties
    results: list[tuple[Any, Any]] = []
    for enabled in (False, True):
        leaf = x.clone().requires_grad_()
        with deterministic(enabled):
            y = OverlappingMaxPool()(leaf)
            y.square().sum().backward()
        results.append((y.detach(), leaf.grad))
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
