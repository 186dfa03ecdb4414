"""Computes the feature maps of every stage of a network for one sub-volume, and writes them as pictures.

The sub-volume is centred on the head and prepared as for prediction; of every stage its central axial slice is kept.
The stages run from the input through encoder, bottleneck and decoder to the logits and their softmax, or sigmoid where
the channels are regions.

:func:`write_feature_maps` writes one PNG per channel in radiological convention (anterior up, the patient's right on
the left where the orientation is known), ``manifest.json`` with the intensity range of each, and the logits as numbers.
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

from core.compute.precision import autocast
from core.datasets import LoadedSubject
from core.datasets.prepare import prepare_image
from core.errors import ConfigError, DeviceError, VolumeError
from core.files import atomic_write
from core.formatting import format_size
from core.imaging.content import present_channels
from core.imaging.display import upright_slices
from core.imaging.outliers import intensity_range
from core.imaging.resample import resampled_shape
from core.inference.overflow import NON_FINITE_ADVICE, finite_or_fp32
from core.inference.predictor import Predictor
from core.inference.stage_pass import centred_start
from core.inference.subject_image import SubjectImage
from core.models import input_names
from core.models.architecture import stage_names
from core.models.indicator import with_indicator
from core.sampling.patches import crop_volume
from core.strict_json import dumps
from core.types import ProgressCallback, Size3, SpacingMm, VoxelIndex, triple

MANIFEST = "manifest.json"
LOGITS = "logits.f32"  # float32 little-endian, shape (class, row, column), rows from anterior to posterior
MANIFEST_VERSION = 1
MAX_CHANNELS = 16  # pictures per stage
MAX_SIDE = 512  # voxels of the sub-volume

StageSlice = tuple[np.ndarray, Size3]  # slice of an output (channel, i, j), and the size of the whole output


@dataclass(frozen=True)
class Stage:
    """Output of one stage of the network in one axial slice.

    Attributes
    ----------
    name : str. Kind and, where a kind has several stages, level: "encoder-1", "logits"
        (:func:`core.models.architecture.stage_names`).
    kind : str. "input", "encoder", "bottleneck", "decoder", "logits", "softmax", or for a network of regions "sigmoid".
    level : int. Resolution level, 0 is full resolution.
    values : ndarray, float32, shape (channel, i, j). Slice of the output.
    size : tuple of int. Voxels (i, j, k) of the whole output.
    names : tuple of str. Names of the channels (modalities, classes); empty where they have none.
    """

    name: str
    kind: str
    level: int
    values: np.ndarray
    size: Size3
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeatureMaps:
    """Stages in the order of computation, and the position of the sub-volume.

    Attributes
    ----------
    stages : tuple of Stage. Input first, probabilities last.
    start : tuple of int. First voxel of the sub-volume in the working grid; negative where it is padded.
    size : tuple of int. Size of the sub-volume in voxels.
    slice : int. Axial slice that the stages show, in the working grid.
    shape : tuple of int. Voxels of the working grid.
    spacing_mm : tuple of float. Voxel size of the working grid.
    """

    stages: tuple[Stage, ...]
    start: VoxelIndex
    size: Size3
    slice: int
    shape: Size3
    spacing_mm: SpacingMm

    def stage(self, name: str) -> Stage:
        """The stage with this name, such as "encoder-1" or "logits"."""
        return next(s for s in self.stages if s.name == name)


def compute_feature_maps(
    predictor: Predictor, image: np.ndarray, spacing_mm: SpacingMm, size: Size3 | None = None
) -> FeatureMaps:
    """Run the network once on a sub-volume around the centre of the head.

    Parameters
    ----------
    predictor : Predictor. Network on its device.
    image : ndarray, float32, shape (channel, i, j, k). Intensities as in the file, canonical RAS, one channel per
        modality.
    spacing_mm : tuple of float. Voxel size of the image.
    size : tuple of int, optional. Sub-volume size in voxels, rounded up to a multiple of the network's total stride; by
        default the size of training.

    Raises
    ------
    ConfigError
        If the size is out of range, or the code of a user's own network raises.
    DeviceError
        If the device runs out of memory, or activations are not finite in fp32.
    """
    metadata = predictor.metadata
    network_stages = predictor.model.stages()
    target_mm = predictor.target_mm
    whole = SubjectImage(image, spacing_mm)
    seen = whole.cropped() if predictor.crop else whole
    prepared = prepare_image(seen.voxels, spacing_mm, metadata.normaliser, target_mm)
    size = _round_up(size or predictor.options.tile, predictor.model.divisor)
    volume = torch.from_numpy(prepared)
    start = centred_start(volume, size)
    patch = crop_volume(volume, start, size)[None]
    if predictor.options.indicator:
        patch = with_indicator(patch, [present_channels(prepared)])
    centre_slice = size[2] // 2
    outputs = finite_or_fp32(
        lambda precision: _stage_slices(predictor, patch, centre_slice, precision),
        predictor.options.precision,
        lambda slices: all(bool(np.isfinite(values).all()) for values, _ in slices.values()),
    )
    if outputs is None:
        raise DeviceError(f"expected finite activations, got NaN or infinity in fp32; {NON_FINITE_ADVICE}")
    channels = predictor.outputs
    names = input_names(metadata.train_config, predictor.modalities)
    stages = [Stage("input", "input", 0, patch[0, ..., centre_slice].numpy(), size, names)]
    unique_names = stage_names((stage.kind, stage.level) for stage in network_stages)
    for name, stage in zip(unique_names, network_stages, strict=True):
        values, output_size = outputs[stage.module]
        names = channels.names if stage.kind == "logits" else ()
        stages.append(Stage(name, stage.kind, stage.level, values, output_size, names))
    probabilities = channels.probabilities(torch.from_numpy(stages[-1].values)).numpy()
    kind = "softmax" if channels.regions is None else "sigmoid"
    stages.append(Stage(kind, kind, 0, probabilities, size, channels.names))
    spacing = spacing_mm if target_mm is None else target_mm
    shape = triple(prepared.shape[1:])
    if predictor.crop:  # the position in the whole image
        shape = whole.shape if target_mm is None else resampled_shape(whole.shape, spacing_mm, target_mm)
        margins = [round(b.start * own / new) for b, own, new in zip(whole.content, spacing_mm, spacing, strict=True)]
        start = triple([n + margin for n, margin in zip(start, margins, strict=True)])
    return FeatureMaps(tuple(stages), start, size, start[2] + centre_slice, shape, spacing)


def write_feature_maps(
    folder: Path,
    predictor: Predictor,
    subject: LoadedSubject,
    size: Size3 | None = None,
    progress: ProgressCallback | None = None,
) -> dict[str, Any]:
    """Compute the feature maps of a subject and write pictures, logits and the manifest into a folder.

    Parameters
    ----------
    folder : Path. Output folder, created if missing.
    predictor : Predictor. Network on its device.
    subject : LoadedSubject. Images of the subject.
    size : tuple of int, optional. Sub-volume size, see :func:`compute_feature_maps`.
    progress : callable, optional. Called with (steps done, steps) after each stage and at the end.

    Returns
    -------
    dict. The manifest: ``{"version", "checkpoint", "modalities", "classes": [{name, colour}], "oriented", "shape",
    "spacing_mm", "sub_volume": {"start", "size"}, "slice", "warnings", "logits", "stages": [{"name", "kind", "level",
    "channels", "size", "maps": [{"file", "channel", "name", "min", "max"}]}]}``. A picture's black is ``min``, its
    white ``max``; maps of logits share one range, those of probabilities the range 0 to 1. Of more than 16 channels
    the 16 with the largest standard deviation are written.

    Raises
    ------
    VolumeError
        If the folder cannot be written.
    UserError
        As :func:`compute_feature_maps`.
    """
    maps = compute_feature_maps(predictor, subject.image, subject.geometry.spacing_mm, size)
    oriented = subject.geometry.oriented
    steps = len(maps.stages) + 1
    stages = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        logits = upright_slices(maps.stage("logits").values, oriented)
        (folder / LOGITS).write_bytes(logits.astype("<f4").tobytes())
        for done, stage in enumerate(maps.stages, start=1):
            stages.append(_write_stage(folder, stage, oriented))
            if progress is not None:
                progress(done, steps)
        manifest = {
            "version": MANIFEST_VERSION,
            "checkpoint": str(predictor.path),
            "modalities": list(predictor.modalities),
            "classes": [{"name": c.name, "colour": c.colour} for c in predictor.labels.classes],
            "oriented": oriented,
            "shape": list(maps.shape),
            "spacing_mm": list(maps.spacing_mm),
            "sub_volume": {"start": list(maps.start), "size": list(maps.size)},
            "slice": maps.slice,
            "warnings": list(predictor.warnings(subject)),
            "logits": LOGITS,
            "stages": stages,
        }
        atomic_write(folder / MANIFEST, dumps(manifest))  # last: its presence means that the folder is complete
    except OSError as error:
        raise VolumeError(f"{folder}: cannot be written: {error.strerror or error}; choose another place") from error
    if progress is not None:
        progress(steps, steps)
    return manifest


@torch.no_grad()
def _stage_slices(predictor: Predictor, patch: Tensor, k: int, precision: str) -> dict[nn.Module, StageSlice]:
    """Slice ``k`` of the output of every stage by its module, of a pass over a sub-volume (1, channel, i, j, k)."""
    slices: dict[nn.Module, StageSlice] = {}
    capture = _capture_slice(slices, k, patch.shape[-1])
    hooks = [stage.module.register_forward_hook(capture) for stage in predictor.model.stages()]
    try:
        with predictor.explained_errors(advice=None), autocast(predictor.device, precision):
            predictor.model(patch.to(predictor.device))
    finally:
        for hook in hooks:
            hook.remove()
    return slices


def _capture_slice(outputs: dict[nn.Module, StageSlice], k: int, slices: int) -> Callable[..., None]:
    """A forward hook that stores a slice of a module's output on the host, and the size of the whole output.

    The slice is ``k`` of the ``slices`` at full resolution, or the one that covers it: a network may halve some axes
    only.
    """

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        size_i, size_j, size_k = output.shape[2:]
        outputs[module] = output[0, ..., k * size_k // slices].float().cpu().numpy().copy(), (size_i, size_j, size_k)

    return hook


def _round_up(size: Size3, strides: Size3) -> Size3:
    """Size as a multiple of the network's total stride, at least twice it, so that no stage pads."""
    if not all(1 <= n <= MAX_SIDE for n in size):
        raise ConfigError(f"size: expected 1 to {MAX_SIDE} voxels a side, got {format_size(size)}")
    i, j, k = (max(2, math.ceil(n / stride)) * stride for n, stride in zip(size, strides, strict=True))
    return i, j, k


def _write_stage(folder: Path, stage: Stage, oriented: bool) -> dict[str, Any]:
    """Write the pictures of one stage; returns its entry in the manifest."""
    from PIL import Image

    count = len(stage.values)
    channels = list(range(count))
    if count > MAX_CHANNELS:
        by_deviation = np.argsort(-stage.values.reshape(count, -1).std(axis=1), kind="stable")
        channels = sorted(by_deviation[:MAX_CHANNELS].tolist())
    of_logits = float(stage.values.min()), float(stage.values.max())
    stage_range = {"softmax": (0.0, 1.0), "sigmoid": (0.0, 1.0), "logits": of_logits}
    maps = []
    for channel in channels:
        plane = upright_slices(stage.values[channel], oriented)
        low, high = stage_range.get(stage.kind) or (float(plane.min()), float(plane.max()))
        if stage.kind == "input":  # of a checkpoint whose normalisation keeps outliers
            inliers = intensity_range(plane)
            low, high = inliers.low, inliers.high
        levels = ((plane.astype(np.float64) - low) * (255 / (high - low if high > low else 1.0))).clip(0, 255)
        file = f"{stage.name}-{channel:03d}.png"
        Image.fromarray(np.rint(levels).astype(np.uint8)).save(folder / file, format="PNG")
        name = stage.names[channel] if stage.names else ""
        maps.append({"file": file, "channel": channel, "name": name, "min": low, "max": high})
    return {
        "name": stage.name,
        "kind": stage.kind,
        "level": stage.level,
        "channels": count,
        "size": list(stage.size),
        "maps": maps,
    }
