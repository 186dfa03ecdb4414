"""Segments images with a trained checkpoint: array in, label map on the image's own grid out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.checkpointing.checkpoint import Checkpoint, build_network, load
from core.checkpointing.metadata import CheckpointMetadata
from core.compute.device import free_bytes, out_of_memory_error, resolve_device
from core.compute.precision import resolve_precision
from core.datasets import LoadedSubject
from core.datasets.prepare import prepare_image
from core.errors import CheckpointError, ConfigError, DeviceError
from core.formatting import format_bytes, format_size
from core.imaging.content import embed
from core.imaging.geometry import format_mm
from core.imaging.postprocessing import Postprocessing
from core.imaging.resample import resample_image, resampled_shape
from core.inference.logit_volume import BACKGROUND_LOGIT
from core.inference.outputs import NetworkOutputs
from core.inference.sliding_window import InferenceOptions, predict_logits
from core.inference.subject_image import SubjectImage
from core.inference.uncertainty import PassUncertainty, PredictionMaps
from core.inference.voxel_size import ExpectedVoxelSize
from core.labels import LabelSpace
from core.laterality import averaged_sides, unknown_sides
from core.models.own_source import code_change, failure_in_code, with_code_change
from core.types import ProgressCallback, Size3, SpacingMm

MODES = ("auto", "tiles", "whole")
MAX_TILE_SIDE = 1024  # voxels
OUT_OF_MEMORY_ADVICE = "end other programs, join sub-volumes (mode tiles), or predict where there is more memory"


@dataclass(frozen=True)
class InferenceOverrides:
    """Inference settings given by the user; "auto" and ``None`` keep the values in the checkpoint.

    Attributes
    ----------
    device : str. "auto", "cuda" or "cpu".
    mode : str. "auto", "tiles" (sliding window) or "whole" (one pass).
    overlap : float, optional. Overlap of neighbouring tiles, 0 to 0.9.
    precision : str. "fp32", "bf16", "fp16", or "auto": as in training, where the device supports it.
    mirror : bool, optional. Average with the left-right mirrored image.
    resample : bool. Whether a network that was trained without resampling gets its images resampled to the median voxel
        size of its training.
    postprocess : bool. Whether the postprocessing that is stored with the model is applied.
    maps : bool. Whether :meth:`Predictor.segment_in_detail` gives probabilities and uncertainty.
    logits : bool. Whether these maps have the logits, too; an ensemble has none.
    """

    device: str = "auto"
    mode: str = "auto"
    overlap: float | None = None
    precision: str = "auto"
    mirror: bool | None = None
    resample: bool = False
    postprocess: bool = True
    maps: bool = False
    logits: bool = False


@dataclass(frozen=True)
class Segmentation:
    """Result of :meth:`Predictor.segment_in_detail`.

    Attributes
    ----------
    labels : ndarray, uint8, shape (i, j, k). Class indices on the grid of the image, without postprocessing.
    disagreement : ndarray or None. Mean pairwise disagreement of the members of an ensemble, float32, shape (i, j, k),
        0 to 1; ``None`` for a single network.
    maps : PredictionMaps or None. Probabilities, uncertainty and logits, where they are asked for.
    """

    labels: np.ndarray
    disagreement: np.ndarray | None = None
    maps: PredictionMaps | None = None


class Predictor:
    """A trained network on a device.

    Parameters
    ----------
    path : Path. Checkpoint file.
    overrides : InferenceOverrides. Settings that replace those of the checkpoint.

    Attributes
    ----------
    path : Path. Checkpoint file.
    metadata : CheckpointMetadata. Metadata of the checkpoint, with the postprocessing that is applied.
    device : torch.device.
    model : Module. The network, in evaluation mode.
    outputs : NetworkOutputs. What the channels of the network are.
    options : InferenceOptions. How volumes are segmented.
    postprocessing : Postprocessing. What is applied to the label maps.
    expected : ExpectedVoxelSize. Voxel size that the network expects.
    target_mm : tuple of float or None. Voxel size to which images are resampled; ``None`` for their own.
    crop : bool. Whether margins in which all channels are 0 are left out; they are background in the result.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint, or damaged, or images are to be resampled to an unknown voxel size.
    DeviceError
        If the device is not available.
    ConfigError
        If mirroring is requested for a network with classes that forbid it.
    """

    def __init__(self, path: Path, overrides: InferenceOverrides = InferenceOverrides()) -> None:
        checkpoint = load(path)
        self._set_up(path, checkpoint.metadata, overrides)
        self._set_weights(checkpoint)

    def _set_up(self, path: Path, metadata: CheckpointMetadata, overrides: InferenceOverrides) -> None:
        """Everything but the network."""
        self.path = path
        self.device, self._maps = resolve_device(overrides.device), overrides.maps
        self._maps_with_logits = overrides.logits
        self.metadata = metadata if overrides.postprocess else metadata.with_postprocessing(Postprocessing())
        self.postprocessing = self.metadata.postprocessing
        self.outputs = NetworkOutputs.of(metadata)
        self.options = _resolve_options(path, metadata, overrides, self.device)
        self.expected = ExpectedVoxelSize.of(metadata, path)
        self.target_mm = self.expected.target_mm(overrides.resample)
        self.crop = metadata.train_config.data.crop

    def _set_weights(self, checkpoint: Checkpoint) -> None:
        self.model = build_network(checkpoint.metadata)
        self.model.load_state_dict(checkpoint.weights)
        self.model.to(self.device).eval()

    @property
    def labels(self) -> LabelSpace:
        """Classes of the network, background first."""
        return self.metadata.label_space

    @property
    def modalities(self) -> tuple[str, ...]:
        """Input channels of the network, in order."""
        return self.metadata.modalities

    @property
    def learned_missing(self) -> bool:
        """Whether the network may have been trained with cases without an image of a modality."""
        return self.metadata.learned_missing

    @property
    def _network_name(self) -> str:
        return self.metadata.train_config.model.model

    def passes_of(self, image: SubjectImage) -> int:
        """Number of passes of an image: 2 where it is averaged with the mirrored one."""
        return 2 if self.options.mirror and (image.oriented or not self.options.swapped) else 1

    def segment(self, image: SubjectImage, progress: ProgressCallback | None = None) -> np.ndarray:
        """Segment one volume, and apply the postprocessing.

        Parameters
        ----------
        image : SubjectImage. The volume.
        progress : callable, optional. Called with (tiles done, total tiles).

        Returns
        -------
        ndarray, uint8, shape (i, j, k). Class indices on the grid of the image.

        Raises
        ------
        DeviceError
            If the memory does not suffice.
        """
        return self.postprocess(self.segment_unprocessed(image, progress), image.voxel_ml)

    def postprocess(self, labels: np.ndarray, voxel_ml: float) -> np.ndarray:
        """Apply the postprocessing to a result of :meth:`segment_unprocessed`; the array itself where there is none.

        Parameters
        ----------
        voxel_ml : float. Volume of a voxel in ml.
        """
        return self.postprocessing(labels, voxel_ml, self.labels.names)

    def segment_unprocessed(self, image: SubjectImage, progress: ProgressCallback | None = None) -> np.ndarray:
        """Segment one volume without postprocessing; parameters, result and errors are those of :meth:`segment`."""
        with self.explained_errors():
            return self._label_map(self._logits(image, progress), image)

    def segment_in_detail(self, image: SubjectImage, progress: ProgressCallback | None = None) -> Segmentation:
        """Segment one volume without postprocessing, with its maps where they are asked for; the label map is the same
        either way. Parameters and errors are those of :meth:`segment`."""
        if not self._maps:
            return Segmentation(self.segment_unprocessed(image, progress))
        self._check_memory_of_maps(image)
        with self.explained_errors():
            logits = self._logits(image, progress, both_passes=True)
            channels = len(self.outputs.names)
            mean, plain = logits[:channels], logits[channels:]
            labels, probabilities = self._label_map(mean, image), self._on_grid(mean, image)
            kept = self._logits_on_grid(mean, image) if self._maps_with_logits else None
            passes = PassUncertainty(self.outputs.regions is not None)
            if not len(plain):
                passes.add(probabilities)
                return Segmentation(labels, maps=passes.of_mean(probabilities, probabilities, kept))
            of_passes = np.zeros_like(probabilities)
            for pass_logits in (plain, 2 * mean - plain):
                of_pass = self._on_grid(pass_logits, image)
                passes.add(of_pass)
                of_passes += of_pass / 2
            return Segmentation(labels, maps=passes.of_mean(of_passes, probabilities, kept))

    def probabilities(self, image: SubjectImage, progress: ProgressCallback | None = None) -> np.ndarray:
        """Probabilities of one volume: of the classes, or of the regions of a network that is trained on them.

        Parameters and errors are those of :meth:`segment`.

        Returns
        -------
        ndarray, float32, shape (channel, i, j, k). On the grid of the image.
        """
        with self.explained_errors():
            return self._on_grid(self._logits(image, progress), image)

    def _label_map(self, logits: Tensor, image: SubjectImage) -> np.ndarray:
        """Class indices of logits at the voxel size of the network, uint8, on the grid of the image."""
        seen = self.seen(image)
        if logits.shape[1:] == seen.shape:
            labels = self.outputs.label_map(logits).to(torch.uint8).cpu().numpy()
            return embed(labels, image.content, np.zeros(image.shape, np.uint8)) if self.crop else labels
        return self.outputs.label_map_of(self._on_grid(logits, image))

    def _on_grid(self, logits: Tensor, image: SubjectImage) -> np.ndarray:
        """Probabilities of logits at the voxel size of the network, float32, interpolated to the grid of the image."""
        return self._embedded(self.outputs.probabilities(logits).cpu().numpy(), image, background=1, others=0)

    def _logits_on_grid(self, logits: Tensor, image: SubjectImage) -> np.ndarray:
        """Logits at the voxel size of the network, float32, interpolated to the grid of the image."""
        others = 0 if self.outputs.regions is None else -BACKGROUND_LOGIT
        return self._embedded(logits.cpu().numpy(), image, BACKGROUND_LOGIT, others)

    def _embedded(self, values: np.ndarray, image: SubjectImage, background: float, others: float) -> np.ndarray:
        """Values (channel, i, j, k) at the voxel size of the network, on the grid of the image; in margins that are
        left out, those given of the background and of other classes or regions."""
        seen = self.seen(image)
        if values.shape[1:] != seen.shape:
            values = resample_image(values, shape_to=seen.shape)
        if not self.crop:
            return values
        around = np.full((len(values), *image.shape), others, values.dtype)
        if self.outputs.regions is None:
            around[0] = background
        return embed(values, image.content, around)

    def seen(self, image: SubjectImage) -> SubjectImage:
        """The part of an image that the network gets."""
        return image.cropped() if self.crop else image

    def _logits(self, image: SubjectImage, progress: ProgressCallback | None, both_passes: bool = False) -> Tensor:
        """Logits, float32, shape (class, i, j, k), on the device and at the voxel size of the network; twice as many
        channels with both passes of a mirroring network."""
        options = replace(self.options, mirror=self.passes_of(image) == 2, both_passes=both_passes)
        return predict_logits(self.model, self.prepared(image), options, progress=progress)

    def prepared(self, image: SubjectImage) -> Tensor:
        """The part of an image that the network gets, normalised, at its voxel size and on its device, float32."""
        if image.voxels.shape[0] != len(self.modalities):
            raise ValueError(f"expected {len(self.modalities)} channels, got {image.voxels.shape[0]}")
        seen = self.seen(image)
        self._check_resampled_size(seen.shape, seen.spacing_mm)
        prepared = prepare_image(seen.voxels, seen.spacing_mm, self.metadata.normaliser, self.target_mm)
        return torch.from_numpy(prepared).to(self.device)

    @contextmanager
    def explained_errors(self, advice: str | None = OUT_OF_MEMORY_ADVICE) -> Iterator[None]:
        """Raises :class:`DeviceError` where the memory does not suffice, and :class:`ConfigError` for an error in the
        code of a user's own network. ``advice`` on too little memory: ``None`` for that of training."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            explained = out_of_memory_error(error, self.device, suggestion=None if advice is None else lambda: advice)
            if explained is not None:
                raise explained from error
            self._explain_own_code(error)
            raise
        except Exception as error:
            self._explain_own_code(error)
            raise

    def _explain_own_code(self, error: Exception) -> None:
        """Raises :class:`ConfigError` for an error in the code of a user's own network."""
        failure = str(error) if isinstance(error, ConfigError) else failure_in_code(self._network_name, error)
        if failure:
            raise ConfigError(with_code_change(failure, self._network_name, self.metadata.network_code)) from error

    def _check_resampled_size(self, shape: Size3, spacing_mm: SpacingMm) -> None:
        """Refuse an image that resampling would make too large for the memory, before the kernel ends the process."""
        if self.target_mm is None:
            return
        size = resampled_shape(shape, spacing_mm, self.target_mm)
        channels = len(self.modalities) + len(self.outputs.names)
        needed_bytes = 2 * 4 * channels * math.prod(size)  # float32, with a copy
        free = free_bytes(torch.device("cpu"))
        if needed_bytes > free:
            raise DeviceError(
                f"not enough memory: at voxels of {format_mm(self.target_mm)} mm the image has "
                f"{format_size(size)} voxels, which take about {format_bytes(needed_bytes)}; "
                f"{format_bytes(free)} are free; check the unit and the voxel size of the image"
            )

    def _check_memory_of_maps(self, image: SubjectImage) -> None:
        """Refuse an image whose maps do not fit into the memory, before the kernel ends the process."""
        of_each = 5 if self._maps_with_logits else 4  # of passes, their sum, copies
        needed_bytes = 4 * (of_each * len(self.outputs.names) + 4) * math.prod(image.shape)
        free = free_bytes(torch.device("cpu"))
        if needed_bytes > free:
            raise DeviceError(
                f"not enough memory: maps of the probabilities of {len(self.outputs.names)} {self.outputs.kind} take "
                f"about {format_bytes(needed_bytes)}, {format_bytes(free)} are free; {OUT_OF_MEMORY_ADVICE}"
            )

    def warnings(self, subject: LoadedSubject) -> tuple[str, ...]:
        """Reasons why a subject, read with the modalities of the network, may be segmented wrongly."""
        found = [code_change(self._network_name, self.metadata.network_code)]
        found += [self.expected.warning(subject.geometry.spacing_mm, resample=self.target_mm is not None)]
        if not subject.geometry.oriented:
            found.append(unknown_sides(self.labels.names))
        if self.options.mirror and not self.options.swapped:
            found.append(averaged_sides(self.labels.names))
        found += self.metadata.normaliser.warnings(subject.image, self.modalities)
        if subject.absent and not self.learned_missing:
            found.append(
                f"there is no image of {' and '.join(subject.absent)}, and the network never trained without a modality"
            )
        found += [
            f"the images of {one} and {other} are the same, voxel by voxel; is one of them the wrong file?"
            for (one, first), (other, second) in combinations(zip(self.modalities, subject.image, strict=True), 2)
            if one not in subject.absent and other not in subject.absent and np.array_equal(first, second)
        ]
        return tuple(text for text in found if text)

    def settings(self) -> dict[str, Any]:
        """Device and inference options as plain JSON values; what overflows in the precision is computed in fp32."""
        options = self.options
        tile = {"tile": list(options.tile), "overlap": options.overlap} if options.mode == "tiles" else {}
        return {
            "mode": options.mode,
            **tile,
            "mirror": options.mirror,
            "device": self.device.type,
            "precision": options.precision,
            **({"cropped": True} if self.crop else {}),
            "resampled_mm": None if self.target_mm is None else list(self.target_mm),
            "postprocessing": self.postprocessing.to_json(),
        }


def _resolve_options(
    path: Path, metadata: CheckpointMetadata, overrides: InferenceOverrides, device: torch.device
) -> InferenceOptions:
    """The options of a checkpoint with the user's overrides applied."""
    config, stored = metadata.train_config, metadata.inference_settings
    if overrides.mirror and config.augment.lateral == "off":
        raise ConfigError(
            f"{path}: expected no mirroring, since left and right differ for this network (lateral off in its "
            "configuration), got --mirror; leave it out"
        )
    trained = config.run.precision if config.run.precision == "fp32" else "auto"
    mirror = stored["mirror"] if overrides.mirror is None else overrides.mirror
    outputs = NetworkOutputs.of(metadata)
    return InferenceOptions(
        mode=stored["mode"] if overrides.mode == "auto" else overrides.mode,
        tile=_stored_tile(path, metadata),
        overlap=stored["overlap"] if overrides.overlap is None else overrides.overlap,
        precision=resolve_precision(trained if overrides.precision == "auto" else overrides.precision, device),
        mirror=mirror,
        swapped=outputs.swapped_channels(config.swapped_classes) if mirror or outputs.regions is None else (),
        overlapping=outputs.regions is not None,
        indicator=config.data.modality_indicator,
    )


def _stored_tile(path: Path, metadata: CheckpointMetadata) -> Size3:
    tile = metadata.inference.get("tile") or metadata.train_config.sampling.sub_volume
    try:
        i, j, k = (int(n) for n in tile)
    except (TypeError, ValueError):
        raise CheckpointError(f"{path}: expected a sub-volume of three sizes, got {tile!r}") from None
    if min(i, j, k) < 1 or max(i, j, k) > MAX_TILE_SIDE:
        raise CheckpointError(f"{path}: expected a sub-volume of 1 to {MAX_TILE_SIDE} voxels a side, got {i}x{j}x{k}")
    return i, j, k
