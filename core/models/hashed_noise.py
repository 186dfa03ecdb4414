"""Random numbers that are a function of sub-volume and weights: noise in a network without a generator.

Every random draw of a run is a function of its seed and step, so that a resumed run repeats it; a network that drew
from torch's global generator would break that. Here a key is hashed from the bits of the image and of a kernel. It
changes with the sub-volume and with every update of the weights; it has no state that a checkpoint would have to hold,
is the same in every precision, in a captured CUDA graph, in a batch of another size and for any number of processes;
and a failing step can be reproduced.

The hash is the integer finaliser of two multiplications and three shifts with the constants of C. Wellons' search
(github.com/skeeto/hash-prospector, 2018); its products stay below 2^63, so that int64 tensors hold them exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MASK = 0xFFFFFFFF
FACTORS = (0x21F0AAAD, 0x735A2D97)
ONE_BITS = 0x3F800000  # of 1.0 in float32
SAMPLES = 8  # voxels of the image along each axis, about
STREAM_OFFSET = 0x1BD1E995  # between the counters of independent series


def noise_key(image: Tensor, kernel: Tensor) -> Tensor:
    """The key of each sub-volume, int64, shape (batch, 1).

    Parameters
    ----------
    image : Tensor, floating, shape (batch, channel, i, j, k). A grid of its voxels is read.
    kernel : Tensor, floating. A parameter that every update changes.
    """
    steps = [max(1, n // SAMPLES) for n in image.shape[2:]]
    voxels = image[..., :: steps[0], :: steps[1], :: steps[2]].flatten(1)
    return _hash(_digest(voxels) ^ _hash(_digest(kernel.flatten()[None])))


def uniform_noise(key: Tensor, count: int, stream: int = 0) -> Tensor:
    """Uniform numbers between 0 and 1, both excluded.

    Parameters
    ----------
    key : Tensor, int64, shape (batch, 1).
    count : int. Numbers of each batch item.
    stream : int. Series; those of different numbers are independent.

    Returns
    -------
    Tensor, float32, shape (batch, count), without a gradient.
    """
    counters = torch.arange(count, device=key.device) + stream * STREAM_OFFSET
    hashed = _hash(key ^ _hash(counters & MASK))
    # 23 bits as the fraction of a float32 from 1 to 2; half of their step keeps the result off 0.
    return ((hashed >> 9) | ONE_BITS).int().view(torch.float32) - (1 - 2.0**-24)


def normal_noise(key: Tensor, count: int, stream: int = 0) -> Tensor:
    """Numbers of the standard normal distribution (Box and Muller 1958), from the series ``stream`` and the next one;
    parameters as :func:`uniform_noise`."""
    radius = torch.sqrt(-2 * torch.log(uniform_noise(key, count, stream)))
    return radius * torch.cos(2 * math.pi * uniform_noise(key, count, stream + 1))


class ChannelDropout(nn.Module):
    """Dropout of whole channels (Tompson et al. 2015) in training mode; the others are scaled up.

    Parameters
    ----------
    rate : float. Share of channels that are set to 0.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, key: Tensor, stream: int = 0) -> Tensor:
        """Feature maps (batch, channel, i, j, k); ``key`` and ``stream`` as in :func:`uniform_noise`."""
        if not self.training:
            return x
        kept = uniform_noise(key, x.shape[1], stream) > self.rate
        return x * (kept / (1 - self.rate)).to(x.dtype)[:, :, None, None, None]


def _digest(values: Tensor) -> Tensor:
    """Hash of the bits of values (batch, value) in float32, and of their order; int64, shape (batch, 1)."""
    bits = values.detach().float().contiguous().view(torch.int32).long() & MASK
    places = torch.arange(bits.shape[1], device=bits.device)
    return _hash(bits ^ _hash(places)).sum(dim=1, keepdim=True) & MASK


def _hash(x: Tensor) -> Tensor:
    """Hash of int64 values from 0 to 2^32 - 1, to the same range."""
    x = ((x ^ (x >> 16)) * FACTORS[0]) & MASK
    x = ((x ^ (x >> 15)) * FACTORS[1]) & MASK
    return x ^ (x >> 15)
