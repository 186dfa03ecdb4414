"""Input channels that tell a network which modalities exist, one for each, constant over the sub-volume."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def with_indicator(images: Tensor, present: Sequence[Sequence[bool]] | None) -> Tensor:
    """Images followed by a channel for each modality: 1 in every voxel where it exists, 0 where it does not.

    Parameters
    ----------
    images : Tensor, float32, shape (batch, modality, i, j, k). As the network gets them, padding included.
    present : sequence of sequence of bool, shape (batch, modality). Which of them exist; ``None`` for all.

    Returns
    -------
    Tensor, float32, shape (batch, 2 * modality, i, j, k).
    """
    if present is None:
        return torch.cat((images, torch.ones_like(images)), dim=1)
    stated = torch.tensor(present, dtype=images.dtype, device=images.device)
    return torch.cat((images, stated[..., None, None, None].expand_as(images)), dim=1)
