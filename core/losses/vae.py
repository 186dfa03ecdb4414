"""Dice loss plus the auto-encoder terms of Myronenko 2018, for the network ``resnet3d_vae``.

With the image x, its reconstruction y, the mean m and variance s^2 of the latent code, and N voxels in a sub-volume,

    L = L_Dice + 0.1 L_2 + 0.1 L_KL
    L_2  = mean over voxels and modalities of (x - y)^2
    L_KL = 1/N sum over the latent code of m^2 + s^2 - log s^2 - 1

each averaged over the sub-volumes of the batch. The weights are the paper's, and so is the division of the divergence
by the number of voxels. The paper writes L_2 as a squared norm; as a sum it would be a million times the Dice loss, so
the mean is taken, which a weight of 0.1 fits if intensities have unit variance. Both terms include ignored voxels: an
intensity needs no label. The Dice loss is that of :mod:`core.losses.dice`, with its options.

A. Myronenko: 3D MRI Brain Tumor Segmentation Using Autoencoder Regularization. BrainLes 2018, arXiv:1810.11654,
equations 1 to 4.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from core.losses import VAE_EXTRAS

RECONSTRUCTION_WEIGHT = 0.1
DIVERGENCE_WEIGHT = 0.1


def vae_terms(extras: Mapping[str, Tensor | tuple[Tensor, ...]]) -> Tensor:
    """What the loss adds to Dice: 0.1 L_2 + 0.1 L_KL, float32 scalar.

    Parameters
    ----------
    extras : mapping of str to Tensor. Of the network: ``image`` and ``reconstruction``, shape (batch, modality, i, j,
        k); ``mean`` and ``log_variance``, shape (batch, value).

    Raises
    ------
    ValueError
        If image and reconstruction, or mean and log-variance, differ in shape.
    """
    image, reconstruction, mean, log_variance = (_tensor(extras, name).float() for name in VAE_EXTRAS)
    for name, first, second in (("reconstruction", image, reconstruction), ("log_variance", mean, log_variance)):
        if first.shape != second.shape:
            raise ValueError(f"{name}: expected the shape {tuple(first.shape)}, got {tuple(second.shape)}")
    error = (image - reconstruction).square().mean()
    divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1).mean() / image[0, 0].numel()
    return RECONSTRUCTION_WEIGHT * error + DIVERGENCE_WEIGHT * divergence


def _tensor(extras: Mapping[str, Tensor | tuple[Tensor, ...]], name: str) -> Tensor:
    value = extras[name]
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: expected a tensor, got a {type(value).__name__}")
    return value
