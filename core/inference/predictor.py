"""A trained network applied to an image: a checkpoint and an array to a label map on the image's own grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.checkpointing.checkpoint import build, load
from core.checkpointing.metadata import Description
from core.compute.device import explain_memory, resolve_device
from core.compute.precision import resolve_precision
from core.datasets.prepare import prepare_image
from core.errors import CheckpointError
from core.imaging.resample import resample_image
from core.inference.sliding_window import predict_logits
from core.labels import LabelSpace
from core.types import Size3, SpacingMm

Progress = Callable[[int, int], None]
MODES = ("auto", "tiles", "whole")
LESS_MEMORY = "end other programs, join sub-volumes (mode tiles), or predict where there is more memory"


@dataclass(frozen=True)
class Choices:
    """How to predict; what is ``None`` or "auto" is as the checkpoint says.

    Attributes
    ----------
    device : "auto", "cuda" or "cpu".
    mode : "tiles" (joined sub-volumes), "whole" (one pass), or "auto".
    overlap : share of a tile that the next one covers again, 0 to 0.9.
    precision : "fp32", "bf16", or "auto": as trained, where the device has it.
    mirror : segment the mirror image (left and right) too and take the mean; ``None``: as the configuration says.
    """

    device: str = "auto"
    mode: str = "auto"
    overlap: float | None = None
    precision: str = "auto"
    mirror: bool | None = None


class Predictor:
    """A network with its weights on a device, ready to segment.

    Attributes
    ----------
    path : the checkpoint.
    description : what is in it.
    mode, tile, overlap, precision, mirror : how volumes are segmented.
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
        self.model = build(self.description)
        self.model.load_state_dict(checkpoint.weights)
        self.model.to(self.device).eval()
        self.mode = _stored_mode(self.description) if choices.mode == "auto" else choices.mode
        self.tile = _tile(path, self.description)
        self.overlap = config.validation.overlap if choices.overlap is None else choices.overlap
        self.mirror = config.validation.mirror if choices.mirror is None else choices.mirror
        trained_in = config.run.precision
        wanted = choices.precision if choices.precision != "auto" else "auto" if trained_in == "bf16" else trained_in
        self.precision = resolve_precision(wanted, self.device)

    @property
    def labels(self) -> LabelSpace:
        return self.description.label_space

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.description.modalities

    def segment(self, image: np.ndarray, spacing_mm: SpacingMm, progress: Progress | None = None) -> np.ndarray:
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
                overlap=self.overlap, precision=self.precision, mirror=self.mirror, progress=progress,
            )  # fmt: skip
            if logits.shape[1:] == image.shape[1:]:
                return logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
            probabilities = torch.softmax(logits, dim=0).cpu().numpy()
            return resample_image(probabilities, shape_to=image.shape[1:]).argmax(axis=0).astype(np.uint8)
        except (MemoryError, RuntimeError) as error:
            explained = explain_memory(error, self.device, suggestion=LESS_MEMORY)
            if explained is None:
                raise
            raise explained from error

    def facts(self) -> dict[str, Any]:
        """How volumes are segmented, as plain JSON values."""
        tile = {"tile": list(self.tile), "overlap": self.overlap} if self.mode == "tiles" else {}
        return {
            "mode": self.mode, **tile, "mirror": self.mirror, "device": self.device.type, "precision": self.precision,
        }  # fmt: skip


def _stored_mode(description: Description) -> str:
    return "whole" if description.inference.get("mode") == "whole" else "tiles"


def _tile(path: Path, description: Description) -> Size3:
    tile = description.inference.get("tile") or description.train_config.sampling.sub_volume
    try:
        i, j, k = (int(n) for n in tile)
    except (TypeError, ValueError):
        raise CheckpointError(f"{path}: expected the size of its sub-volumes, found {tile!r}") from None
    if min(i, j, k) < 1 or max(i, j, k) > 1024:
        raise CheckpointError(f"{path}: expected a sub-volume of 1 to 1024 voxels a side, found {i}x{j}x{k}")
    return i, j, k
