"""Parsers of argument values with a special format; argparse reports their errors as usage errors."""

from __future__ import annotations

import argparse

from core.config import ModelConfig, SamplingConfig, field_specs
from core.errors import ConfigError
from core.models import name_own_network
from core.types import Size3, VoxelIndex


def size_in_voxels(text: str) -> Size3:
    """A size along i, j, k: ``64x64x64``."""
    spec = next(spec for spec in field_specs() if spec.name == "sub_volume")
    try:
        i, j, k = SamplingConfig(sub_volume=spec.parse(text)).sub_volume
    except (ConfigError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"expected a size like 64x64x64, got {text}: {error}") from None
    return i, j, k


def network_channels(text: str) -> tuple[int, ...]:
    """Channels of each level of a network, full resolution first: ``32,64,128`` or ``32-64-128``."""
    spec = next(spec for spec in field_specs() if spec.name == "channels")
    try:
        channels = ModelConfig(channels=spec.parse(text.replace("-", ","))).channels
    except ConfigError as error:
        raise argparse.ArgumentTypeError(f"expected channels like 32,64,128, got {text}: {error}") from None
    if not channels:
        raise argparse.ArgumentTypeError(f"expected channels like 32,64,128, got {text!r}")
    return channels


def image_channels(text: str) -> tuple[int, ...]:
    """Channels of image files, counted from 1: ``1,3``."""
    numbers = tuple(int(part) for part in text.split(","))
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"expected numbers counted from 1, got {text}")
    return numbers


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas: ``unet3d, vnet``."""
    return tuple(name.strip() for name in text.split(","))


def overlap_share(text: str) -> float:
    """Overlap of neighbouring tiles, 0 to 0.9."""
    value = float(text)
    if not 0 <= value <= 0.9:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 0.9, got {text}")
    return value


def own_network(text: str) -> str:
    """A network of the user, ``path/to/file.py:ClassName``, taken up for this process; returns its name."""
    try:
        return name_own_network(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("model: ")) from None


def voxel_index(text: str) -> VoxelIndex:
    """A voxel counted from 1, as on screen: ``34,50,20``; its index from 0."""
    try:
        i, j, k = (int(part) - 1 for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected three whole numbers like 34,50,20, got {text!r}") from None
    if min(i, j, k) < 0:
        raise argparse.ArgumentTypeError(f"expected numbers counted from 1, got {text}")
    return i, j, k
