"""What a trained network computes inside: the feature maps of every stage for one sub-volume, down to the labels.

The network sees a sub-volume around the middle of the head, prepared as for prediction, and what leaves each of its
stages is kept for the axial slice through the middle of that sub-volume. The last convolution gives one number per
class and voxel, the *pre-activations* or logits; their softmax is what the loss sees, their largest the label.

:func:`write_features` writes them as pictures: one PNG per channel, anterior up (the patient's right on the left where
the orientation is known), ``manifest.json`` with the scale of each, and the logits as numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.compute.device import explain_memory
from core.compute.precision import autocast
from core.datasets import LoadedSubject
from core.datasets.prepare import prepare_image
from core.errors import ConfigError, VolumeError
from core.files import atomic_write
from core.inference.predictor import Predictor
from core.inference.sliding_window import head_box
from core.models.unet3d import UNet3D
from core.models.vnet import VNet
from core.sampling.patches import cut
from core.strict_json import dumps
from core.types import Size3, SpacingMm, VoxelIndex

MANIFEST = "manifest.json"
LOGITS = "logits.f32"  # float32 little-endian, (class, row, column), rows from anterior to posterior
VERSION = 1
MOST_CHANNELS = 16
MOST_SIDE = 512

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Stage:
    """What leaves one stage of the network, in one axial slice.

    Attributes
    ----------
    kind : "input", "encoder", "bottleneck", "decoder", "logits" or "softmax".
    level : 0 is full resolution, each further one half of it.
    values : float32, shape (channels, ni, nj).
    size : of the whole stage, (ni, nj, nk).
    names : of the channels where they have any (modalities, classes), else empty.
    """

    kind: str
    level: int
    values: np.ndarray
    size: Size3
    names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.level}" if self.kind in ("encoder", "decoder") else self.kind


@dataclass(frozen=True)
class Features:
    """The stages in the order of computation, and where the sub-volume lies.

    Attributes
    ----------
    stages : input first, softmax last.
    start, size : of the sub-volume in the working grid; ``start`` may be negative (zeros outside of the image).
    slice : the axial slice shown, in the working grid.
    shape : of the working grid.
    spacing_mm : its voxel size.
    """

    stages: tuple[Stage, ...]
    start: VoxelIndex
    size: Size3
    slice: int
    shape: Size3
    spacing_mm: SpacingMm

    def stage(self, name: str) -> Stage:
        """A stage by its name, such as "encoder-1" or "logits"."""
        return next(s for s in self.stages if s.name == name)


def features(segmenter: Predictor, image: np.ndarray, spacing_mm: SpacingMm, size: Size3 | None = None) -> Features:
    """Run the network once on a sub-volume around the middle of the head.

    Parameters
    ----------
    segmenter : the network on its device.
    image : float32 (channels, i, j, k), canonical RAS, intensities as in the file; one channel per modality.
    spacing_mm : its voxel size.
    size : of the sub-volume in voxels, rounded up to what the levels can halve; by default that of training.

    Raises
    ------
    ConfigError
        If the size is out of range.
    DeviceError
        If the memory does not suffice.
    """
    description = segmenter.description
    network = segmenter.model
    parts = _parts(network)
    target = description.spacing_mm
    ready = prepare_image(image, spacing_mm, description.train_config.data.normalisation, target)
    spacing = spacing_mm if target is None else target
    size = _fitting(size or segmenter.tile, (2 ** max(level for _, level, _ in parts),) * 3)
    start = _around_the_middle(ready, size)
    box = cut(torch.from_numpy(ready), start, size)[None]
    slice_at = size[2] // 2
    found: dict[nn.Module, tuple[np.ndarray, Size3]] = {}
    hooks = [module.register_forward_hook(_keeper(found, level, slice_at)) for _, level, module in parts]
    try:
        with torch.no_grad(), autocast(segmenter.device, segmenter.precision):
            network(box.to(segmenter.device))
    except (MemoryError, RuntimeError) as error:
        explained = explain_memory(error, segmenter.device)
        if explained is None:
            raise
        raise explained from error
    finally:
        for hook in hooks:
            hook.remove()
    classes = segmenter.labels.names
    stages = [Stage("input", 0, box[0, ..., slice_at].numpy(), size, segmenter.modalities)]
    for kind, level, module in parts:
        values, whole = found[module]
        stages.append(Stage(kind, level, values, whole, classes if kind == "logits" else ()))
    probabilities = torch.softmax(torch.from_numpy(stages[-1].values), dim=0).numpy()
    stages.append(Stage("softmax", 0, probabilities, size, classes))
    i, j, k = ready.shape[1:]
    return Features(tuple(stages), start, size, start[2] + slice_at, (i, j, k), spacing)


def write_features(
    folder: Path, segmenter: Predictor, subject: LoadedSubject, size: Size3 | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run the network on a subject's image and write pictures, logits and the manifest into a folder.

    Returns
    -------
    The manifest: ``{"version", "checkpoint", "modalities", "classes": [{name, colour}], "oriented", "shape",
    "spacing_mm", "sub_volume": {"start", "size"}, "slice", "logits", "stages": [{"name", "kind", "level", "channels",
    "size", "maps": [{"file", "channel", "name", "min", "max"}]}]}``. A picture's black is ``min``, its white ``max``;
    maps of logits share one scale, those of the softmax run from 0 to 1. Of more than 16 channels the 16 that vary
    most in the slice are written.

    Raises
    ------
    VolumeError
        If the folder cannot be written.
    UserError
        As :func:`features`.
    """
    found = features(segmenter, subject.image, subject.geometry.spacing_mm, size)
    oriented = subject.geometry.oriented
    steps = len(found.stages) + 1
    stages = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LOGITS).write_bytes(_upright(found.stage("logits").values, oriented).astype("<f4").tobytes())
        for done, stage in enumerate(found.stages, start=1):
            stages.append(_write_stage(folder, stage, oriented))
            if progress is not None:
                progress(done, steps)
        manifest = {
            "version": VERSION, "checkpoint": str(segmenter.path), "modalities": list(segmenter.modalities),
            "classes": [{"name": c.name, "colour": c.colour} for c in segmenter.labels.classes],
            "oriented": oriented, "shape": list(found.shape), "spacing_mm": list(found.spacing_mm),
            "sub_volume": {"start": list(found.start), "size": list(found.size)}, "slice": found.slice,
            "logits": LOGITS, "stages": stages,
        }  # fmt: skip
        atomic_write(folder / MANIFEST, dumps(manifest))  # last: whoever finds it finds all the other files
    except OSError as error:
        raise VolumeError(f"{folder}: cannot be written: {error.strerror or error}; choose another place") from error
    if progress is not None:
        progress(steps, steps)
    return manifest


def _parts(network: nn.Module) -> list[tuple[str, int, nn.Module]]:
    """(kind, level, module) of the stages between image and logits, in the order of computation."""
    if isinstance(network, UNet3D):
        down = [*network.encoder, network.bottleneck]
    elif isinstance(network, VNet):
        down = [network.first, *network.encoder]
    else:
        raise ConfigError(f"model: expected unet3d or vnet to look into, got {type(network).__name__}")
    deepest = len(down) - 1
    encoder = [("encoder", level, module) for level, module in enumerate(down[:-1])]
    decoder = [("decoder", deepest - 1 - n, module) for n, module in enumerate(network.decoder)]
    return [*encoder, ("bottleneck", deepest, down[-1]), *decoder, ("logits", 0, network.classifier)]


def _keeper(found: dict[nn.Module, tuple[np.ndarray, Size3]], level: int, slice_at: int) -> Callable[..., None]:
    """A hook that copies one slice of a module's output to the host, and notes the size of all of it."""

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        i, j, k = output.shape[2:]
        found[module] = output[0, ..., slice_at >> level].float().cpu().numpy().copy(), (i, j, k)

    return keep


def _fitting(size: Size3, divisor: Size3) -> Size3:
    """Rounded up so that every level halves it evenly and the deepest has at least two voxels: nothing is padded."""
    if not all(1 <= n <= MOST_SIDE for n in size):
        raise ConfigError(f"size: expected 1 to {MOST_SIDE} voxels a side, got {'x'.join(map(str, size))}")
    i, j, k = (max(2, math.ceil(n / d)) * d for n, d in zip(size, divisor, strict=True))
    return i, j, k


def _around_the_middle(image: np.ndarray, size: Size3) -> VoxelIndex:
    """First voxel of a sub-volume around the middle of the head, inside the volume where it fits; shape of image
    (channels, i, j, k)."""
    starts = []
    for span, length, n in zip(head_box(torch.from_numpy(image), margin=0), image.shape[1:], size, strict=True):
        middle = (span.start + span.stop) // 2
        starts.append(min(max(middle - n // 2, 0), length - n) if length >= n else -((n - length) // 2))
    i, j, k = starts
    return i, j, k


def _write_stage(folder: Path, stage: Stage, oriented: bool) -> dict[str, Any]:
    """The pictures of one stage, and its part of the manifest."""
    from PIL import Image

    count = len(stage.values)
    shown = list(range(count))
    if count > MOST_CHANNELS:
        varied = np.argsort(-stage.values.reshape(count, -1).std(axis=1), kind="stable")
        shown = sorted(varied[:MOST_CHANNELS].tolist())
    shared = {"softmax": (0.0, 1.0), "logits": (float(stage.values.min()), float(stage.values.max()))}.get(stage.kind)
    maps = []
    for channel in shown:
        plane = _upright(stage.values[channel], oriented)
        low, high = shared or (float(plane.min()), float(plane.max()))
        levels = (plane.astype(np.float64) - low) * (255 / (high - low if high > low else 1.0))
        file = f"{stage.name}-{channel:03d}.png"
        Image.fromarray(np.rint(levels).astype(np.uint8)).save(folder / file, format="PNG")
        name = stage.names[channel] if stage.names else ""
        maps.append({"file": file, "channel": channel, "name": name, "min": low, "max": high})
    return {
        "name": stage.name, "kind": stage.kind, "level": stage.level, "channels": count, "size": list(stage.size),
        "maps": maps,
    }  # fmt: skip


def _upright(plane: np.ndarray, oriented: bool) -> np.ndarray:
    """Slices (..., i, j) as picture rows and columns: anterior up; mirrored where the orientation is known."""
    rows = np.moveaxis(plane, -1, -2)[..., ::-1, :]
    return np.ascontiguousarray(rows[..., ::-1] if oriented else rows)
