"""Decodes images as the viewer does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.imaging.display import Channel
from core.types import Size3


def decode_image(data: bytes, channels: Sequence[Channel], shape: Size3) -> np.ndarray:
    """Intensities, float32, shape (channel, i, j, k), of an image encoded by ``encode_image``."""
    count = len(channels) * int(np.prod(shape))
    stored = np.frombuffer(data, "<u2", count).reshape(len(channels), *shape[::-1]).transpose(0, 3, 2, 1)
    levels = np.frombuffer(data, "<f4", offset=-(-2 * count // 4) * 4)
    assert levels.size == sum(channel.levels for channel in channels)
    decoded = np.empty((len(channels), *shape), np.float32)
    for n, channel in enumerate(channels):
        own, levels = levels[: channel.levels], levels[channel.levels :]
        decoded[n] = own[stored[n]] if channel.levels else channel.offset + stored[n] * channel.step
    return decoded
