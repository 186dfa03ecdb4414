"""Fits initial weights to a network that has, or no longer has, input channels that state which modalities exist."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def fit_input_kernels(
    weights: Mapping[str, Tensor], network: nn.Module, modalities: int
) -> tuple[dict[str, Tensor], str]:
    """Weights whose kernels of the input fit a network.

    For a network with the channels of an indicator (:mod:`core.models.indicator`), kernels that read the images alone
    get kernels of 0 for them: at first the output does not depend on the indicator. For a network without them, such
    kernels are left out.

    Parameters
    ----------
    weights : mapping of str to Tensor. Weights of the same architecture and modalities, by name.
    network : Module. The network to initialise; it is not changed.
    modalities : int. Number of modalities of both.

    Returns
    -------
    weights : dict of Tensor. All of them.
    remark : str. What was done, as the end of a sentence; empty if nothing was.
    """
    own = network.state_dict()
    fitted, remark = dict(weights), ""
    for name, kernel in weights.items():
        shape = own[name].shape if name in own else kernel.shape
        if kernel.ndim < 2 or (kernel.shape[0], *kernel.shape[2:]) != (shape[0], *shape[2:]):
            continue
        if (kernel.shape[1], shape[1]) == (modalities, 2 * modalities):
            fitted[name] = torch.cat((kernel, torch.zeros_like(kernel)), dim=1)
            remark = ", and kernels of 0 for the indicator"
        elif (kernel.shape[1], shape[1]) == (2 * modalities, modalities):
            fitted[name] = kernel[:, :modalities].contiguous()
            remark = ", without the kernels of its indicator"
    return fitted, remark
