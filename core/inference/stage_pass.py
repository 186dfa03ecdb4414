"""Runs a network over a whole volume and keeps feature maps of one of its stages.

The tiles are those of the segmentation (:mod:`core.inference.sliding_window`), without the mirrored image, whose
channels do not mean the same. A tile's maps are brought to its voxels by the nearest voxel of the stage. Where tiles
overlap, a voxel has the values of the tile whose centre is nearest: each is an activation that the network had there,
not a mean of several.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.compute.device import free_bytes
from core.compute.precision import autocast
from core.errors import ConfigError, DeviceError
from core.formatting import format_bytes, format_count, format_list
from core.imaging.content import embed
from core.imaging.resample import resample_nearest, resampled_spacing
from core.inference.forward_pass import ForwardFunction
from core.inference.memory_limit import InferenceMemory
from core.inference.overflow import NON_FINITE_ADVICE, finite_or_fp32
from core.inference.predictor import OUT_OF_MEMORY_ADVICE, InferenceOverrides, Predictor
from core.inference.sliding_window import foreground_box, network_pass, predict_foreground
from core.inference.stage_maps import STRONGEST, StageMaps, StageRequest
from core.inference.subject_image import SubjectImage
from core.models.architecture import stage_names
from core.models.blocks import Crop, SegmentationNetwork, StageModule
from core.sampling.patches import crop_volume
from core.types import ProgressCallback, Size3, VoxelIndex, triple

LOGITS = "logits"


@torch.no_grad()
def compute_stage_maps(
    predictor: Predictor, image: SubjectImage, request: StageRequest, progress: ProgressCallback | None = None
) -> StageMaps:
    """Feature maps of a stage over one volume.

    Parameters
    ----------
    predictor : Predictor. One network on its device, with the options of the segmentation.
    image : SubjectImage. The volume.
    request : StageRequest. Stage and channels.
    progress : callable, optional. Called with (tiles done, total tiles).

    Raises
    ------
    ConfigError
        If the network has no such stage or channel.
    DeviceError
        If the memory does not suffice, or activations are not finite in fp32.
    """
    with predictor.explained_errors():
        prepared = predictor.prepared(image)
        result = finite_or_fp32(
            lambda precision: _stage_maps(predictor, image, prepared, request, precision, progress),
            predictor.options.precision,
            lambda found: bool(torch.isfinite(found.maps).all()),
        )
    if result is None:
        raise DeviceError(
            f"{request.stage}: expected finite activations, got NaN or infinity in fp32; {NON_FINITE_ADVICE}"
        )
    seen = predictor.seen(image)
    shape = triple(prepared.shape[1:])
    spacing_mm = resampled_spacing(seen.shape, seen.spacing_mm, shape)
    on_grid = []
    for one in result.maps.cpu().numpy():
        whole = np.zeros(shape, np.float32)
        whole[foreground_box(prepared)] = one
        around = resample_nearest(whole, seen.shape)
        on_grid.append(embed(around, image.content, np.zeros(image.shape, np.float32)) if predictor.crop else around)
    i, j, k = (mm * factor for mm, factor in zip(spacing_mm, result.factors, strict=True))
    by_channel = dict(zip(result.channels, on_grid[1:], strict=True))
    return StageMaps(request.stage, result.channel_count, (i, j, k), on_grid[0], by_channel)


def check_stage(checkpoint: Path, request: StageRequest) -> None:
    """Refuse a stage or a channel that a network does not have; channels are counted by a pass of a small empty image.

    Parameters
    ----------
    checkpoint : Path. Checkpoint file of one network.
    request : StageRequest. Stage and channels.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint, or damaged.
    ConfigError
        If the network has no such stage or channel.
    """
    predictor = Predictor(checkpoint, InferenceOverrides(device="cpu"))
    model = predictor.model
    module = _stage_module(model, request.stage)
    if request.channels:
        with torch.no_grad(), predictor.explained_errors():
            image = torch.zeros(1, model.in_channels, *(2 * n for n in model.divisor))
            output = _StageReader(model, module, model).output(image)
        _chosen_channels(output[0], replace(request, strongest=False))


def centred_start(image: Tensor, size: Size3) -> VoxelIndex:
    """First voxel of a sub-volume centred on the foreground, shifted inside the volume where it fits; negative where
    the volume is smaller.

    Parameters
    ----------
    image : Tensor, shape (channel, i, j, k).
    size : tuple of int. Size of the sub-volume in voxels.
    """
    starts = []
    for span, length, n in zip(foreground_box(image, margin=0), image.shape[1:], size, strict=True):
        centre = (span.start + span.stop) // 2
        starts.append(min(max(centre - n // 2, 0), length - n) if length >= n else -((n - length) // 2))
    i, j, k = starts
    return i, j, k


@dataclass(frozen=True)
class _ForegroundMaps:
    """Feature maps of a stage in the foreground box.

    Attributes
    ----------
    maps : Tensor, float32, shape (map, i, j, k). Mean of the absolute activations, then the channels.
    channels : tuple of int. The channels.
    channel_count : int. Number of channels of the stage.
    factors : tuple of float. Voxels of the image along each side of a voxel of the stage.
    """

    maps: Tensor
    channels: tuple[int, ...]
    channel_count: int
    factors: tuple[float, float, float]


def _stage_maps(
    predictor: Predictor,
    image: SubjectImage,
    prepared: Tensor,
    request: StageRequest,
    precision: str,
    progress: ProgressCallback | None,
) -> _ForegroundMaps:
    """Feature maps in a precision; those of the strongest channels are those that vary most in it."""
    model, foreground = predictor.model, prepared[(slice(None), *foreground_box(prepared))]
    options = replace(predictor.options, mirror=False, averaged=False, precision=precision)
    reader = _StageReader(model, _stage_module(model, request.stage), network_pass(model, prepared, options))
    with autocast(predictor.device, precision):
        middle = reader.output(crop_volume(prepared, centred_start(prepared, options.tile), options.tile)[None])[0]
        reader.channels = _chosen_channels(middle, request)
        _check_memory(image, prepared, len(reader.channels) + 1)
        sets = math.ceil((len(reader.channels) + 2) / model.classes)  # the maps take as much memory as these logits
        memory = InferenceMemory(model, prepared, precision, logit_sets=sets)
        maps = predict_foreground(reader, foreground, options, memory, progress)
    return _ForegroundMaps(maps, reader.channels, len(middle), reader.factors(options.tile, middle))


class _StageReader:
    """Feature maps of a stage as a function of parts of an image: (batch, channel, i, j, k) to (batch, map, i, j, k),
    the first of which is the mean of the absolute activations of all channels.

    Attributes
    ----------
    channels : tuple of int. Channels whose maps follow the mean.
    """

    def __init__(self, model: SegmentationNetwork, module: nn.Module, network: ForwardFunction) -> None:
        self._model, self._module, self._network = model, module, network
        self.channels: tuple[int, ...] = ()

    def output(self, images: Tensor) -> Tensor:
        """The output of the stage, (batch, channel, i, j, k) at its own resolution, of parts of an image."""
        outputs: list[Tensor] = []
        handle = self._module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
        try:
            self._network(images)
        finally:
            handle.remove()
        return outputs[-1]

    def __call__(self, images: Tensor) -> Tensor:
        output = self.output(images)
        mean = torch.zeros_like(output[:, 0], dtype=torch.float32)
        for channel in output.unbind(1):  # one by one: a stage may have hundreds
            mean += channel.float().abs()
        maps = torch.stack((mean / output.shape[1], *(output[:, n].float() for n in self.channels)), dim=1)
        padded, crop = self._padded(triple(images.shape[2:]))
        return crop(F.interpolate(maps, size=padded, mode="nearest-exact"))

    def factors(self, size: Size3, output: Tensor) -> tuple[float, float, float]:
        """Voxels of an image of this size along each side of a voxel of its output, (channel, i, j, k)."""
        i, j, k = (n / m for n, m in zip(self._padded(size)[0], output.shape[1:], strict=True))
        return i, j, k

    def _padded(self, size: Size3) -> tuple[Size3, Crop]:
        """The size to which the network pads an image, and the crop that undoes it."""
        padded, crop = self._model.pad(torch.empty(1, self._model.in_channels, *size, device="meta"))
        return triple(padded.shape[2:]), crop


def _stage_module(model: SegmentationNetwork, name: str) -> nn.Module:
    stages: list[StageModule] = model.stages()
    names = stage_names((stage.kind, stage.level) for stage in stages)
    by_name = {n: stage.module for n, stage in zip(names, stages, strict=True) if stage.kind != LOGITS}
    if name in by_name:
        return by_name[name]
    if not by_name:
        raise ConfigError(
            f"stage: this network ({model.config.model}) names no stages but its logits, got {name}; its stages() can "
            "name them (docs/own_network.md)"
        )
    logits = "; logits have maps of their own (--logits)" if name == LOGITS else ""
    raise ConfigError(f"stage: expected one of {format_list(list(by_name))}, got {name}{logits}")


def _chosen_channels(middle: Tensor, request: StageRequest) -> tuple[int, ...]:
    """The channels of a request, of a stage with this output (channel, i, j, k) in the middle of the volume."""
    count = len(middle)
    for channel in request.channels:
        if not 0 <= channel < count:
            raise ConfigError(
                f"channel: {request.stage} has {format_count(count, 'channel')}, 0 to {count - 1}, got {channel}"
            )
    chosen = set(request.channels)
    if request.strongest:
        deviation = middle.float().flatten(1).std(dim=1, correction=0)
        chosen |= set(deviation.argsort(descending=True, stable=True)[:STRONGEST].tolist())
    return tuple(sorted(chosen))


def _check_memory(image: SubjectImage, prepared: Tensor, maps: int) -> None:
    """Refuse an image whose feature maps do not fit into the memory, before the kernel ends the process."""
    needed_bytes = 4 * (maps + 2) * (math.prod(image.shape) + math.prod(prepared.shape[1:]))
    free = free_bytes(torch.device("cpu"))
    if needed_bytes > free:
        raise DeviceError(
            f"not enough memory: {format_count(maps, 'feature map')} take about {format_bytes(needed_bytes)}, "
            f"{format_bytes(free)} are free; {OUT_OF_MEMORY_ADVICE}, or ask for fewer channels"
        )
