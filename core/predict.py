"""A trained network applied to images: a checkpoint, and files or arrays, to a label map on the image's own grid."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.checkpoint import Description, load
from core.datasets import Dataset, ImageRef, LoadedSubject, Subject, load_subject
from core.device import explain_memory, resolve_device
from core.errors import CheckpointError, VolumeError
from core.headers import SUFFIXES, inspect
from core.inference import predict_logits, resolve_precision
from core.labels import LabelSpace
from core.prepare import Spacing, prepare_image
from core.resample import resample_image

Progress = Callable[[int, int], None]
MODES = ("auto", "tiles", "whole")


@dataclass(frozen=True)
class Choices:
    """How to predict; what is ``None`` or "auto" is as the checkpoint says.

    Attributes
    ----------
    device : "auto", "cuda" or "cpu".
    mode : "tiles" (joined sub-volumes), "whole" (one pass), or "auto".
    overlap : share of a tile that the next one covers again, 0 to 0.9.
    precision : "fp32", "bf16", or "auto": as trained, where the device has it.
    """

    device: str = "auto"
    mode: str = "auto"
    overlap: float | None = None
    precision: str = "auto"


class Segmenter:
    """A network with its weights on a device, ready to segment.

    Attributes
    ----------
    path : the checkpoint.
    description : what is in it.
    mode, tile, overlap, precision : how volumes are segmented.
    """

    def __init__(self, path: Path, choices: Choices = Choices()) -> None:
        """Read a checkpoint.

        Raises
        ------
        CheckpointError
            If the file is no checkpoint, or damaged.
        DeviceError
            If the device is not there.
        """
        self.path = path
        self.device = resolve_device(choices.device)
        checkpoint = load(path)
        self.description: Description = checkpoint.description
        config = self.description.train_config
        self.model = self.description.build()
        self.model.load_state_dict(checkpoint.weights)
        self.model.to(self.device).eval()
        self.mode = _stored_mode(self.description) if choices.mode == "auto" else choices.mode
        self.tile = _tile(path, self.description)
        self.overlap = config.validation.overlap if choices.overlap is None else choices.overlap
        trained_in = config.run.precision
        wanted = choices.precision if choices.precision != "auto" else "auto" if trained_in == "bf16" else trained_in
        self.precision = resolve_precision(wanted, self.device)

    @property
    def labels(self) -> LabelSpace:
        return self.description.label_space

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.description.modalities

    def segment(self, image: np.ndarray, spacing_mm: Spacing, progress: Progress | None = None) -> np.ndarray:
        """Segment one volume.

        Parameters
        ----------
        image : float32, shape (channels, i, j, k), canonical RAS, intensities as in the file; one channel per modality.
        spacing_mm : its voxel size along i, j, k.
        progress : called with (tiles done, tiles in all).

        Returns
        -------
        Class indices, uint8, shape (i, j, k), on the grid of the image.

        Raises
        ------
        DeviceError
            If the memory does not suffice.
        """
        if image.shape[0] != len(self.modalities):
            raise ValueError(f"expected {len(self.modalities)} channels, got {image.shape[0]}")
        target = self.description.spacing_mm
        try:
            ready = prepare_image(image, spacing_mm, self.description.train_config.data.normalisation, target)
            logits = predict_logits(
                self.model, torch.from_numpy(ready).to(self.device), mode=self.mode, tile=self.tile,
                overlap=self.overlap, precision=self.precision, progress=progress,
            )  # fmt: skip
            if logits.shape[1:] == image.shape[1:]:
                return logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
            probabilities = torch.softmax(logits, dim=0).cpu().numpy()
            return resample_image(probabilities, shape_to=image.shape[1:]).argmax(axis=0).astype(np.uint8)
        except (MemoryError, RuntimeError) as error:
            explained = explain_memory(error, self.device)
            if explained is None:
                raise
            raise explained from error

    def facts(self) -> dict[str, Any]:
        """How volumes are segmented, as plain JSON values."""
        tile = {"tile": list(self.tile), "overlap": self.overlap} if self.mode == "tiles" else {}
        return {"mode": self.mode, **tile, "device": self.device.type, "precision": self.precision}


def read_images(paths: Sequence[Path], modalities: Sequence[str]) -> LoadedSubject:
    """Read the images of one subject for a network: one file per modality in order, or one file with all channels.

    Raises
    ------
    VolumeError
        If a file cannot be read, their number is not the network's, or a name says that the order is another one.
    DatasetError
        If the images do not lie in the same place.
    """
    channels = [inspect(path).channels for path in paths]
    if len(paths) == 1:
        refs = [ImageRef(paths[0], channel) for channel in range(channels[0])]
    else:
        for path, count in zip(paths, channels, strict=True):
            if count != 1:
                raise VolumeError(f"{path}: expected one image per file where there are several, got {count} channels")
        refs = [ImageRef(path) for path in paths]
    wanted = ", ".join(modalities)
    if len(refs) != len(modalities):
        held = "image" if len(paths) > 1 or len(refs) == 1 else "channel"
        raise VolumeError(
            f"{paths[0]}: expected {len(modalities)} image{'s' * (len(modalities) > 1)} in the order {wanted}, as the "
            f"network was trained; got {len(refs)} {held}{'s' * (len(refs) > 1)}"
        )
    for ref, modality in zip(refs, modalities, strict=True):
        said = _named(ref.path, modalities) if len(paths) > 1 else ()
        if said and modality not in said:
            raise VolumeError(
                f"{ref.path}: expected images in the order {wanted}; this one stands in the place of {modality}, but "
                f"its name says {' '.join(said)}; swap them (or rename it)"
            )
    subject = Subject("the image", dict(zip(modalities, refs, strict=True)), None)
    placeholder = LabelSpace.from_raw({0: "background", 1: "foreground"})
    given = Dataset(paths[0].parent, "", "the network", tuple(modalities), placeholder, (subject,))
    return load_subject(given, subject.id)


def _named(path: Path, modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities that a file's name names as a word of its own."""
    name = path.name.lower()
    stem = name.removesuffix(next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), ""))
    words = re.split(r"[^a-z0-9]+", stem)
    return tuple(m for m in modalities if m.lower() in words)


def _stored_mode(description: Description) -> str:
    return "whole" if description.inference.get("mode") == "whole" else "tiles"


def _tile(path: Path, description: Description) -> tuple[int, int, int]:
    tile = description.inference.get("tile") or description.train_config.sampling.sub_volume
    try:
        i, j, k = (int(n) for n in tile)
    except (TypeError, ValueError):
        raise CheckpointError(f"{path}: expected the size of its sub-volumes, found {tile!r}") from None
    if min(i, j, k) < 1 or max(i, j, k) > 1024:
        raise CheckpointError(f"{path}: expected a sub-volume of 1 to 1024 voxels a side, found {i}x{j}x{k}")
    return i, j, k
