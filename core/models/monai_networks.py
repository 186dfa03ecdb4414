"""Networks of MONAI behind the interface of this program; MONAI is an optional package.

MONAI maintains these networks; here they are padded to the size that they need and cropped back, and their levels are
named for the page Learn. Widths are those of the papers; where MONAI's network is another one, it is said below.

``segresnet``       Residual encoder with 32 to 256 channels and 1, 2, 2, 4 pre-activation blocks, a light decoder whose
                    levels are added to the encoder's, group normalisation. It is the winner of BraTS 2018 without its
                    auto-encoder. Up-sampling is by a transposed convolution: the trilinear interpolation of the paper
                    has no deterministic gradient on a GPU.
                    A. Myronenko: 3D MRI Brain Tumor Segmentation Using Autoencoder Regularization. BrainLes 2018,
                    arXiv:1810.11654, figure 1.
``attention_unet``  U-Net of five resolutions whose skip connections are multiplied by a gate: a map of weights from 0
                    to 1, computed from the skip connection and the level below. MONAI's differs from the authors' code:
                    the skip connection of full resolution is gated, too; convolutions with a stride take the place of
                    pooling; a gate reads the level below after its up-sampling, on the grid of the skip connection; and
                    full resolution alone is classified.
                    O. Oktay et al.: Attention U-Net: Learning Where to Look for the Pancreas. MIDL 2018,
                    arXiv:1804.03999, figures 1 and 2.
``swin_unetr``      Swin transformer as encoder (self-attention inside of windows of 7x7x7 tokens of 2x2x2 voxels, which
                    are shifted by half from block to block), convolutional decoder. Windows are as small as the level
                    where it has fewer than seven tokens along an axis; MONAI's position bias of such a window is not
                    that of a whole one, so predict with the sub-volume size of training. 48 features: 62 million
                    parameters.
                    A. Hatamizadeh et al.: Swin UNETR: Swin Transformers for Semantic Segmentation of Brain Tumors in
                    MRI Images. BrainLes 2021, arXiv:2201.01266, figure 1.
``mednext``         ConvNeXt blocks (a depthwise convolution, a group per channel normalised, expansion to twice the
                    channels by 1x1x1 convolutions with GELU) in encoder and decoder, residual down- and up-sampling:
                    MedNeXt-S with kernels of 3x3x3, 5.6 million parameters.
                    S. Roy et al.: MedNeXt: Transformer-driven Scaling of ConvNets for Medical Image Segmentation.
                    MICCAI 2023, arXiv:2303.09975, figure 1.

No dropout; weights start as MONAI's layers do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from core.config import ModelConfig
from core.models.blocks import (
    NetworkOutput,
    SegmentationNetwork,
    StageModule,
    WeightedLayer,
    encoder_decoder_stages,
    weighted_layers,
)
from core.models.deep_supervision import DEEP_SUPERVISION

SEGRESNET_FILTERS = 32
SWIN_FEATURES = 48


class MonaiNetwork(SegmentationNetwork):
    """Base of the networks below: ``network`` is MONAI's, called with padded images."""

    network: Any  # an nn.Module, whose attributes torch cannot type

    def forward(self, image: Tensor) -> Tensor | NetworkOutput:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        image, crop = self.pad(image)
        logits: Tensor = self.network(image)
        return crop(logits)


class SegResNet(MonaiNetwork):
    """SegResNet (Myronenko 2018): see :mod:`core.models.monai_networks`."""

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        from monai.networks.nets.segresnet import SegResNet as MonaiSegResNet

        self.network = MonaiSegResNet(
            init_filters=SEGRESNET_FILTERS, in_channels=in_channels, out_channels=classes, upsample_mode="deconv"
        )

    def stages(self) -> list[StageModule]:
        network = self.network
        return encoder_decoder_stages(list(network.down_layers), network.up_layers, network.conv_final)


class AttentionUNet(MonaiNetwork):
    """Attention U-Net (Oktay et al. 2018): see :mod:`core.models.monai_networks`."""

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        from monai.networks.nets.attentionunet import AttentionUnet

        channels = self.config.channels
        self.network = AttentionUnet(3, in_channels, classes, channels, strides=[2] * (len(channels) - 1))

    def stages(self) -> list[StageModule]:
        head, layer, classifier = self.network.model
        encoder, decoder = [head], []
        while True:
            decoder.append(layer.merge)
            if not isinstance(layer.submodule, nn.Sequential):
                return encoder_decoder_stages([*encoder, layer.submodule], reversed(decoder), classifier)
            encode, layer = layer.submodule
            encoder.append(encode)


class SwinUNETR(MonaiNetwork):
    """Swin UNETR (Hatamizadeh et al. 2021): see :mod:`core.models.monai_networks`."""

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        from monai.networks.nets.swin_unetr import SwinUNETR as MonaiSwinUNETR

        with _LinspaceWithValues():
            self.network = MonaiSwinUNETR(in_channels, classes, feature_size=SWIN_FEATURES)

    def stages(self) -> list[StageModule]:
        """MONAI computes the transformer, whose level 4 is read directly, before the convolutions of levels 0 to 3."""
        n = self.network
        encoder = [n.encoder1, n.encoder2, n.encoder3, n.encoder4, n.swinViT.layers3[0], n.encoder10]
        return encoder_decoder_stages(encoder, [n.decoder5, n.decoder4, n.decoder3, n.decoder2, n.decoder1], n.out)

    def layers_reading_image(self) -> list[WeightedLayer]:
        layer = self.network.encoder1.layer
        return [self.network.swinViT.patch_embed.proj, layer.conv1.conv, layer.conv3.conv]


class _LinspaceWithValues(TorchFunctionMode):
    """Under ``torch.device("meta")``, ``torch.linspace`` is on the CPU: MONAI reads its values while building."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        device = {"device": "cpu"} if func is torch.linspace else {}
        return func(*args, **{**device, **(kwargs or {})})


class MedNeXt(MonaiNetwork):
    """MedNeXt-S (Roy et al. 2023): see :mod:`core.models.monai_networks`.

    With the option ``deep_supervision``, the logits of all levels below full resolution, the bottleneck among them, are
    the extra "deep_supervision" in training (:mod:`core.models.deep_supervision`).
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        from monai.networks.nets.mednext import create_mednext

        self.network = create_mednext(
            "S", in_channels=in_channels, out_channels=classes, deep_supervision=self.config.deep_supervision
        )

    def forward(self, image: Tensor) -> Tensor | NetworkOutput:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k)."""
        if not (self.training and self.config.deep_supervision):
            return super().forward(image)
        image, crop = self.pad(image)
        logits, *auxiliary = self.network(image)
        return NetworkOutput(crop(logits), {DEEP_SUPERVISION: tuple(auxiliary)})

    def stages(self) -> list[StageModule]:
        network = self.network
        encoder = [*network.enc_stages, network.bottleneck]
        return encoder_decoder_stages(encoder, network.dec_stages, network.out_0)

    def layers_giving_outputs(self) -> list[WeightedLayer]:
        inner = self.network.out_blocks if self.config.deep_supervision else []
        return [*super().layers_giving_outputs(), *(layer for block in inner for layer in weighted_layers(block))]
