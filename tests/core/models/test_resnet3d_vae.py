"""The network of Myronenko: the published layers, its extras, noise that a resumed run repeats, the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from core.config import LossConfig, ModelConfig, OptimConfig
from core.losses.build import build_loss
from core.models.blocks import NetworkOutput
from core.models.build import build_model
from core.models.resnet3d_vae import EXTRAS, ResNet3DVAE
from core.training.step import TrainingStep
from tests.core.models.test_unet3d import image, kernels, parameters
from tests.support.peer_packages import monai_or_skip


def resnet3d_vae(in_channels: int = 2, classes: int = 3, **options: Any) -> ResNet3DVAE:
    torch.manual_seed(0)
    network = build_model(ModelConfig("resnet3d_vae", **options), in_channels, classes)
    assert isinstance(network, ResNet3DVAE)
    return network


def trained(network: ResNet3DVAE, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    output = network(x)
    assert isinstance(output, NetworkOutput)
    return output.logits, {name: t for name, t in output.extras.items() if isinstance(t, Tensor)}


def layers_as_computed(network: nn.Module, x: Tensor) -> list[nn.Module]:
    """The layers with weights in the order of computation, in evaluation mode."""
    order: list[nn.Module] = []
    layers = [m for m in network.modules() if any(True for _ in m.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(lambda module, inputs, output: order.append(module)) for layer in layers]
    with torch.no_grad():
        network.eval()(x)
    for hook in hooks:
        hook.remove()
    return order


@pytest.mark.slow
def test_default_network_has_the_layers_of_the_paper() -> None:
    with torch.device("meta"):
        network = resnet3d_vae(4, 3)
    conv = "conv"
    encoder = [(conv, 4, 32, 3), *[(conv, 32, 32, 3)] * 2]
    for width, blocks in ((64, 2), (128, 2), (256, 4)):
        encoder += [(conv, width // 2, width, 3), *[(conv, width, width, 3)] * 2 * blocks]
    decoder = []
    for width in (128, 64, 32):
        decoder += [(conv, 2 * width, width, 1), *[(conv, width, width, 3)] * 2]
    branch = [(conv, 256, 16, 3), (conv, 16, 256, 1), *decoder, (conv, 32, 4, 1)]
    assert kernels(network) == [*encoder, *branch, *decoder, (conv, 32, 3, 1)]
    dense = [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]
    assert dense == [(1024, 256), (128, 1024)]
    assert {m.num_groups for m in network.modules() if isinstance(m, nn.GroupNorm)} == {8}
    assert network.divisor == (8, 8, 8)


@pytest.mark.slow
def test_segmentation_equals_monais_segresnet() -> None:
    peers = monai_or_skip("monai.networks.nets")
    peer = peers.SegResNet(3, 32, 2, 3, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1), upsample_mode="nontrainable")
    network = resnet3d_vae(2, 3)
    x = image(8, 16, 8)
    for mine, other in zip(layers_as_computed(network, x), layers_as_computed(peer, x), strict=True):
        mine.load_state_dict(other.state_dict())
    torch.testing.assert_close(network.eval()(x), peer.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_parameter_count_by_hand_and_by_monais_segresnet() -> None:
    """The paper states none: its table 1, four modalities to three classes, counted without biases of convolutions
    that a normalisation follows. The dense layers alone differ, from 16 channels of 10x12x8 cells at 160x192x128."""
    with torch.device("meta"):
        network = resnet3d_vae(4, 3)

    def block(width: int) -> int:
        return 2 * (27 * width * width + 2 * width)

    encoder = 27 * 4 * 32 + block(32)
    encoder += sum(27 * w // 2 * w + n * block(w) for w, n in ((64, 2), (128, 2), (256, 4)))
    decoder = sum(2 * w * w + block(w) for w in (128, 64, 32))

    def end(channels: int) -> int:
        return 2 * 32 + 32 * channels + channels

    def dense(cells: int) -> int:
        return (16 * cells * 256 + 256) + (128 * 16 * cells + 16 * cells)

    branch = 2 * 256 + 27 * 256 * 16 + (16 * 256 + 256) + decoder + end(4)
    segmentation = encoder + decoder + end(3)
    assert parameters(network) == segmentation + branch + dense(4 * 4 * 4) == 20_513_895
    assert segmentation + branch + dense(10 * 12 * 8) == 26_033_255, "the paper's dense layers"
    peers = monai_or_skip("monai.networks.nets")
    with torch.device("meta"):
        peer = peers.SegResNet(3, 32, 4, 3, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1))
    assert parameters(peer) == segmentation == 18_798_627


@pytest.mark.parametrize("size", [(1, 1, 1), (9, 5, 12), (16, 8, 8)])
def test_extras_have_the_shapes_that_the_loss_needs(size: tuple[int, int, int]) -> None:
    network = resnet3d_vae(channels=(4, 6, 8))
    x = image(*size, batch=2)
    logits, extras = trained(network, x)
    assert tuple(extras) == EXTRAS
    assert logits.shape == (2, 3, *size)
    assert extras["image"] is x
    assert extras["reconstruction"].shape == x.shape
    assert extras["mean"].shape == extras["log_variance"].shape == (2, 128)
    assert all(extra.isfinite().all() for extra in extras.values())


def test_auto_encoder_is_not_run_in_evaluation_mode() -> None:
    network = resnet3d_vae(channels=(4, 6)).eval()
    network.auto_encoder.register_forward_hook(lambda *_: pytest.fail("the branch is for training"))
    assert isinstance(network(image(4, 4, 4)), Tensor)


def test_noise_is_the_same_for_the_same_step_and_another_after_an_update() -> None:
    network = resnet3d_vae(channels=(4, 6))
    x = image(8, 6, 4)
    first = trained(network, x)[1]["reconstruction"]
    torch.manual_seed(1)
    torch.rand(5)
    assert torch.equal(first, trained(network, x)[1]["reconstruction"]), "no generator is read"
    with torch.no_grad():
        network.entry.convolution.weight.mul_(1 + 1e-6)
    other = trained(network, x)[1]["reconstruction"]
    assert (other - first).abs().max() > 1e-2


def test_latent_code_is_the_mean_plus_deviation_times_noise() -> None:
    network = resnet3d_vae(channels=(4, 6))
    nn.init.zeros_(network.auto_encoder.to_code.weight)
    codes: list[Tensor] = []
    network.auto_encoder.from_code.register_forward_pre_hook(lambda module, inputs: codes.append(inputs[0]))
    for log_variance in (-10.0, 0.0, 2.0):
        with torch.no_grad():
            network.auto_encoder.to_code.bias[:128] = 3.0
            network.auto_encoder.to_code.bias[128:] = log_variance
        network(image(4, 4, 4, batch=8))
    for code, deviation in zip(codes, (0.0067, 1.0, 2.718), strict=True):
        assert code.mean().item() == pytest.approx(3.0, abs=0.2 * deviation)
        assert code.std().item() == pytest.approx(deviation, rel=0.1)


def test_log_variance_is_limited() -> None:
    network = resnet3d_vae(channels=(4, 6))
    with torch.no_grad():
        network.auto_encoder.to_code.bias[128:] = 1e4
    _, extras = trained(network, image(4, 4, 4))
    assert extras["log_variance"].max().item() == 10
    assert extras["reconstruction"].isfinite().all()


@pytest.mark.slow
def test_resumed_training_ends_with_the_same_weights() -> None:
    """Five steps at once, or three, and two by a step that has read the weights of the first."""
    x, label = image(8, 8, 4), torch.randint(0, 3, (1, 8, 8, 4), generator=torch.Generator().manual_seed(0))
    batches = [[(x + n, label.byte())] for n in range(5)]

    def step_of(network: ResNet3DVAE) -> TrainingStep:
        return TrainingStep(network, build_loss(LossConfig(loss="vae")), OptimConfig(optimizer="sgd"), "fp32")

    def train(step: TrainingStep, steps: Sequence[Any], first: int) -> None:
        for number, batch in enumerate(steps, first):
            step(batch, 1e-2, number)

    at_once, stopped, resumed = (resnet3d_vae(channels=(4, 6)) for _ in range(3))
    train(step_of(at_once), batches, 0)
    train(step_of(stopped), batches[:3], 0)
    torch.manual_seed(99)
    resumed.load_state_dict(stopped.state_dict())
    train(step_of(resumed), batches[3:], 3)
    states = [dict(network.state_dict()) for network in (at_once, resumed)]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert not all(torch.equal(t, stopped.state_dict()[name]) for name, t in states[0].items())


@pytest.mark.slow
def test_auto_encoder_learns_the_image_and_the_segmentation_is_learnt_beside_it() -> None:
    target = torch.zeros(1, 8, 8, 8, dtype=torch.long)
    target[:, 2:6, 2:6, 1:7] = 1
    x = target[:, None].float() - 0.2 + 0.1 * image(8, 8, 8, channels=1)
    network = resnet3d_vae(1, 2, channels=(8, 8))
    loss, optimizer = build_loss(LossConfig(loss="vae")), torch.optim.Adam(network.parameters(), 3e-3)
    losses, errors = [], []
    for _ in range(40):
        optimizer.zero_grad()
        output = network(x)
        value = loss(output, target)
        value.backward()
        optimizer.step()
        losses.append(value.item())
        errors.append((output.extras["reconstruction"] - x).square().mean().item())
    assert losses[-1] < 0.5 * losses[0]
    assert sum(errors[-5:]) / 5 < 0.5 * errors[0]
