"""The residual-encoder U-Net: nnU-Net's own network exactly."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core.compute.determinism import deterministic
from core.config import ModelConfig
from core.models.blocks import MeanPool2
from core.models.build import build_model


def test_parameters_are_those_of_nnu_net() -> None:
    """102,349,770 of ResEncL in nnU-Net's library, less the classifiers of the inner decoder levels that it keeps."""
    with torch.device("meta"):
        network = build_model(ModelConfig("resenc_unet"), 1, 2)
    inner_classifiers = sum(2 * width + 2 for width in (64, 128, 256, 320))
    assert sum(p.numel() for p in network.parameters()) == 102_349_770 - inner_classifiers == 102_348_226


@pytest.mark.slow
def test_output_is_that_of_nnu_net_with_the_same_weights() -> None:
    reason = "needs the network to compare with: pip install -r requirements-bench.txt"
    peer = pytest.importorskip("dynamic_network_architectures.architectures.unet", reason=reason)
    network = build_model(ModelConfig("resenc_unet", (4, 8, 12, 12)), 2, 3).eval()
    theirs = peer.ResidualEncoderUNet(
        input_channels=2,
        n_stages=4,
        features_per_stage=(4, 8, 12, 12),
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=(1, 2, 2, 2),
        n_blocks_per_stage=(1, 3, 4, 6),
        num_classes=3,
        n_conv_per_stage_decoder=(1, 1, 1),
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    ).eval()
    copy_weights(network, theirs)
    image = torch.randn(1, 2, 16, 24, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(image), theirs(image), rtol=1e-4, atol=1e-4)


def copy_weights(network: nn.Module, theirs: nn.Module) -> None:
    """Copy ours into theirs: both list the encoder's tensors in the same order, and then the decoder's."""
    encoder = [*network.stem.parameters(), *network.encoder.parameters()]  # type: ignore[union-attr, operator]
    rest = [p for level in network.decoder for p in level.convolution.parameters()]  # type: ignore[union-attr]
    rest += [p for level in network.decoder for p in level.up.parameters()]  # type: ignore[union-attr]
    classifier = list(network.classifier.parameters())  # type: ignore[union-attr, operator]
    decoder = theirs.decoder
    their_rest = [*decoder.stages.parameters(), *decoder.transpconvs.parameters()]  # type: ignore[union-attr, operator]
    their_rest = list({id(p): p for p in their_rest}.values())
    their_classifier = list(decoder.seg_layers[-1].parameters())  # type: ignore[union-attr, index]
    their_encoder = list({id(p): p for p in theirs.encoder.parameters()}.values())  # type: ignore[union-attr, operator]
    with torch.no_grad():
        for mine, other in ((encoder, their_encoder), (rest, their_rest), (classifier, their_classifier)):
            for source, destination in zip(mine, other, strict=True):
                destination.copy_(source)


def test_mean_pooling_is_the_same_under_deterministic_algorithms() -> None:
    x = torch.randn(2, 3, 6, 5, 8, requires_grad=True)
    usual = MeanPool2()(x)
    usual.sum().backward()
    gradient, x.grad = x.grad, None
    with deterministic(True):
        repeated = MeanPool2()(x)
    repeated.sum().backward()
    torch.testing.assert_close(repeated, usual)
    torch.testing.assert_close(x.grad, gradient)
