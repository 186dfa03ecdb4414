"""Disentangled modalities with early fusion in a single dense path, of Dolz et al. 2019.

The baseline between one path and a path per modality, beside HyperDenseNet in their Section "Baselines": the first
convolution is learned for each modality by itself, all later ones read the channels of all modalities::

    T1 -> 25 \\
    T2 -> 25 -+- 25 25 - 50 50 50 - 75 75 75 -> 400 -> 200 -> 150 -> classes
    ... -> 25 /  3x3x3, densely connected       1x1x1

Everything else, and what differs from the paper, is as in :mod:`core.models.densenet_early`.

J. Dolz, K. Gopinath, J. Yuan, H. Lombaert, C. Desrosiers, I. Ben Ayed: HyperDense-Net: A Hyper-Densely Connected CNN
for Multi-Modal Image Segmentation. IEEE Transactions on Medical Imaging 38(5), 2019, arXiv:1804.02967.
"""

from __future__ import annotations

from core.models.densenet_early import DenseNetEarly


class DenseNetDual(DenseNetEarly):
    """One dense path with a first convolution per modality; parameters as :class:`DenseNetEarly`."""

    separate_modalities = True
