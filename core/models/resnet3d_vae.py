"""The encoder-decoder network of Myronenko 2018 with an auto-encoder branch in training; winner of BraTS 2018.

Figure 1 and table 1 of the paper, for ``channels`` (32, 64, 128, 256)::

    image -> conv 32 -> dropout 0.2 -> block ------------------------------(+)-> block -> 1x1x1 conv -> logits
                                         | conv 64, stride 2                ^ up
                                         2 blocks --------------------(+)-> block
                                           | conv 128, stride 2        ^ up
                                           2 blocks -------------(+)-> block
                                             | conv 256, stride 2 ^ up
                                             4 blocks ------------|
                                               |
        in training only, the auto-encoder:    | norm, ReLU, conv 16, stride 2, dense -> mean 128, log-variance 128
                                               | latent = mean + deviation * noise, dense, ReLU, 1x1x1 conv 256, up
                                               | up 128, block; up 64, block; up 32, block; 1x1x1 conv -> image again

    block:  x -> norm -> ReLU -> 3x3x3 conv -> norm -> ReLU -> 3x3x3 conv -> (+) x       (group norm, 8 groups)
    up:     1x1x1 conv to half of the channels, then trilinear interpolation to twice the size
    ends:   the last convolution of each decoder follows a norm and ReLU

In training mode the network returns a :class:`core.models.blocks.NetworkOutput` with the extras :data:`EXTRAS`, which
the loss ``vae`` (:mod:`core.losses.vae`) turns into the paper's regularisation of the encoder; in evaluation mode the
branch is not run and the logits come alone.

Where this differs from the paper:

- One logit per class for a softmax, instead of three overlapping tumour regions with a sigmoid each.
- A norm and ReLU stand before the last convolution of both decoders, as in MONAI's SegResNet: without them the sums of
  many residual blocks make the first probabilities 0 and 1, and the first reconstructions ten times the image.
- The paper's dense layers fit one size of image, 160x192x128. Here the 16 channels are averaged over a grid of 4x4x4
  boxes before the first dense layer and interpolated from such a grid after the second, so that one network takes
  sub-volumes of every size; the latent code stays the paper's global one, of 128 numbers for the whole sub-volume.
- Noise and dropout are hashes of the image and of the first kernel (:mod:`core.models.hashed_noise`): they change with
  every sub-volume and step, and a resumed run repeats them.
- The log-variance is limited to -10 to 10, and the latent code is drawn in float32.

The paper states no number of parameters. Its table 1 gives 26,033,255 for four modalities and three classes, and
20,513,895 with the smaller dense layers of this network, of which 18,798,627 are in use after training.

A. Myronenko: 3D MRI Brain Tumor Segmentation Using Autoencoder Regularization. BrainLes 2018, arXiv:1810.11654. Without
the branch this is MONAI's SegResNet (its SegResNetVAE lets both decoders share their weights, fits one size and draws
noise from the global generator, so it is not used).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models.blocks import (
    NetworkOutput,
    SegmentationNetwork,
    StageModule,
    WeightedLayer,
    encoder_decoder_stages,
    initialise,
    weighted_layers,
)
from core.models.dense_blocks import NormActivation
from core.models.hashed_noise import ChannelDropout, noise_key, normal_noise
from core.models.resampling import LinearUpsample2, average_resize, linear_resize
from core.types import Size3, triple

DROPOUT = 0.2
BOTTLENECK_BLOCKS = 4
DROPOUT_STREAM, NOISE_STREAM = 0, 1  # of random numbers
LATENT = 128
LATENT_CHANNELS = 16
LATENT_GRID: Size3 = (4, 4, 4)
LOG_VARIANCE_LIMIT = 10.0
IMAGE, RECONSTRUCTION, MEAN, LOG_VARIANCE = EXTRAS = ("image", "reconstruction", "mean", "log_variance")


class ResNet3DVAE(SegmentationNetwork):
    """The network: image (batch, in_channels, i, j, k) to logits (batch, classes, i, j, k), any size.

    Parameters
    ----------
    config : ModelConfig. ``channels`` are used: channels at each resolution, full resolution first. The other options
        are the architecture's own.
    in_channels : int. Number of input channels.
    classes : int. Number of classes, the background included.

    Notes
    -----
    Extras in training mode: ``image``, the input; ``reconstruction``, of the same shape; ``mean`` and ``log_variance``
    of the latent code, float32, shape (batch, 128). Images are padded inside to a multiple of ``divisor`` =
    2^(levels - 1), and the reconstruction is cropped as the logits are.
    """

    def __init__(self, config: ModelConfig, in_channels: int, classes: int) -> None:
        super().__init__(config, in_channels, classes)
        channels = self.config.channels
        deepest = len(channels) - 1
        self.entry = EntryLevel(in_channels, self.config)
        self.encoder = nn.ModuleList()
        for level in range(1, len(channels)):
            count = BOTTLENECK_BLOCKS if level == deepest else 2
            blocks = [ResidualBlock(channels[level], self.config) for _ in range(count)]
            down = _convolution(channels[level - 1], channels[level], stride=2)
            self.encoder.append(nn.Sequential(down, *blocks))
        self.auto_encoder = AutoEncoderBranch(self.config, in_channels)
        self.decoder = nn.ModuleList(
            DecoderLevel(channels[level + 1], channels[level], self.config) for level in reversed(range(deepest))
        )
        self.exit = NormActivation(channels[0], self.config)
        self.classifier = nn.Conv3d(channels[0], classes, kernel_size=1)
        initialise(self, self.classifier, self.config.activation)

    def forward(self, image: Tensor) -> Tensor | NetworkOutput:
        """Logits (batch, classes, i, j, k) of an image (batch, in_channels, i, j, k); with extras in training mode."""
        inside, crop = self.pad(image)
        key = noise_key(image, self.entry.convolution.weight) if self.training else None
        x = self.entry(inside, key)
        skips = [x]
        for encode in self.encoder:
            x = encode(x)
            skips.append(x)
        code = skips.pop()
        for decode in self.decoder:
            x = decode(x, skips.pop())
        logits = crop(self.classifier(self.exit(x)))
        if key is None:
            return logits
        reconstruction, mean, log_variance = self.auto_encoder(code, key)
        return NetworkOutput(
            logits,
            {IMAGE: image, RECONSTRUCTION: crop(reconstruction), MEAN: mean, LOG_VARIANCE: log_variance},
        )

    def stages(self) -> list[StageModule]:
        return encoder_decoder_stages([self.entry, *self.encoder], self.decoder, self.classifier)

    def layers_giving_outputs(self) -> list[WeightedLayer]:
        return [*super().layers_giving_outputs(), *weighted_layers(self.auto_encoder.exit), self.auto_encoder.to_code]


class EntryLevel(nn.Module):
    """The first convolution, dropout of its channels in training, and a residual block."""

    def __init__(self, in_channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.convolution = _convolution(in_channels, config.channels[0])
        self.dropout = ChannelDropout(DROPOUT)
        self.block = ResidualBlock(config.channels[0], config)

    def forward(self, x: Tensor, key: Tensor | None) -> Tensor:
        """Feature maps of an image; ``key`` decides the channels that are dropped, ``None`` drops none."""
        x = self.convolution(x)
        return self.block(x if key is None else self.dropout(x, key, DROPOUT_STREAM))


class AutoEncoderBranch(nn.Module):
    """The variational auto-encoder: the encoder's output to a latent code, and from there to the image again."""

    def __init__(self, config: ModelConfig, in_channels: int) -> None:
        super().__init__()
        channels = config.channels
        cells = LATENT_CHANNELS * LATENT_GRID[0] * LATENT_GRID[1] * LATENT_GRID[2]
        self.reduce = nn.Sequential(
            NormActivation(channels[-1], config), _convolution(channels[-1], LATENT_CHANNELS, stride=2)
        )
        self.to_code = nn.Linear(cells, 2 * LATENT)
        self.from_code = nn.Linear(LATENT, cells)
        self.widen = nn.Conv3d(LATENT_CHANNELS, channels[-1], kernel_size=1)
        levels: list[nn.Module] = []
        for level in reversed(range(len(channels) - 1)):
            levels += [UpSampling(channels[level + 1], channels[level]), ResidualBlock(channels[level], config)]
        self.decoder = nn.Sequential(*levels)
        self.exit = nn.Sequential(
            NormActivation(channels[0], config), nn.Conv3d(channels[0], in_channels, kernel_size=1)
        )

    def forward(self, x: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruction (batch, in_channels, i, j, k); mean and log-variance (batch, 128), float32.

        Parameters
        ----------
        x : Tensor. Output of the encoder.
        key : Tensor. Key of the noise.
        """
        cells = average_resize(self.reduce(x), LATENT_GRID)
        mean, log_variance = self.to_code(cells.flatten(1)).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        latent = mean + torch.exp(log_variance / 2) * normal_noise(key, LATENT, NOISE_STREAM)
        grid = torch.relu(self.from_code(latent)).unflatten(1, (LATENT_CHANNELS, *LATENT_GRID))
        deepest = linear_resize(self.widen(grid), triple([int(n) for n in x.shape[2:]]))
        return self.exit(self.decoder(deepest)), mean, log_variance


class ResidualBlock(nn.Module):
    """Twice normalisation, ReLU and 3x3x3 convolution; the input is added."""

    def __init__(self, channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            NormActivation(channels, config),
            _convolution(channels, channels),
            NormActivation(channels, config),
            _convolution(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class UpSampling(nn.Sequential):
    """A 1x1x1 convolution to fewer channels, then twice the size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Conv3d(in_channels, out_channels, kernel_size=1, bias=False), LinearUpsample2())


class DecoderLevel(nn.Module):
    """Double the size, add the skip connection, then a residual block."""

    def __init__(self, in_channels: int, out_channels: int, config: ModelConfig) -> None:
        super().__init__()
        self.up = UpSampling(in_channels, out_channels)
        self.block = ResidualBlock(out_channels, config)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.block(self.up(x) + skip)


def _convolution(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv3d:
    """A 3x3x3 convolution without bias: a normalisation follows each, at once or after a sum."""
    return nn.Conv3d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
