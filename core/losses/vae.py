"""What the auto-encoder of resnet3d_vae adds to the Dice loss: it reconstructs the image, from a code that is noisy.

With the image x and its reconstruction r, and the mean m and the logarithm of the variance, l, of each component of the
code, for a sub-volume of N voxels,

    L = Dice(p, t) + 0.1 mean (x - r)^2 + 0.1 / N sum (m^2 + exp l - l - 1)

and the mean over the batch. The paper writes the reconstruction as a squared norm; with its weight of 0.1 it can only
be meant per voxel and modality. Its Dice has squares in the denominator, this one is the project's
(:mod:`core.losses.dice`). The reconstruction needs no labels, so ignored voxels are part of it. In evaluation mode a
network returns its logits alone, and the loss of a validation is the Dice loss.

A. Myronenko: 3D MRI brain tumor segmentation using autoencoder regularization. BrainLes 2018, arXiv:1810.11654, section
2.4.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from core.losses import VAE_EXTRAS

WEIGHT = 0.1  # of reconstruction and of divergence


def vae_terms(extras: Mapping[str, Tensor | tuple[Tensor, ...]]) -> Tensor:
    """The terms of the auto-encoder, float32 scalar.

    Parameters
    ----------
    extras : mapping. Has :data:`core.losses.VAE_EXTRAS`, of any floating type: "image" and "reconstruction", shape
        (batch, channel, i, j, k), "mean" and "log_variance", shape (batch, components).
    """
    image, reconstruction, mean, log_variance = (_float32(extras[name]) for name in VAE_EXTRAS)
    voxels = image[0, 0].numel()
    divergence = (mean.square() + log_variance.exp() - log_variance - 1).flatten(1).sum(1) / voxels
    return WEIGHT * (image - reconstruction).square().mean() + WEIGHT * divergence.mean()


def _float32(value: Tensor | tuple[Tensor, ...]) -> Tensor:
    assert isinstance(value, Tensor)
    return value.float()
