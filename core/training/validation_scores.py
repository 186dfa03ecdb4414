"""Scores a network on held-out subjects during training: on fixed sub-volumes, and on whole volumes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from core.compute.device import cudnn_benchmark
from core.compute.distributed import SINGLE_PROCESS, DistributedContext
from core.compute.precision import autocast
from core.evaluation.confusion_counts import class_counts, region_counts
from core.evaluation.metrics import ScoredNames, dice_from_counts, nan_mean
from core.events import SUB_VOLUME_DICE, WHOLE_DICE
from core.formatting import format_list
from core.imaging.overlay import overlay_classes
from core.inference.outputs import NetworkOutputs
from core.inference.overflow import NonFiniteLogitsError, finite_logits
from core.inference.sliding_window import InferenceOptions, predict_logits
from core.labels import IGNORE_INDEX
from core.losses.build import LossFunction
from core.models.indicator import with_indicator
from core.packed_labels import PackedLabels
from core.regions import RegionSpace
from core.sampling.patches import Batch, PatchLocation, Subjects
from core.types import ProgressCallback, Size3

LABEL_OPACITY = 0.55  # of the colours in the picture


@dataclass(frozen=True)
class ValidationSet:
    """Held-out subjects, and the fixed sub-volumes drawn from them.

    Attributes
    ----------
    subjects : Subjects. On the training device, or streamed to it; may be empty.
    locations : tuple of PatchLocation. Locations of the sub-volumes; may be empty.
    size : tuple of int. Sub-volume size in voxels (i, j, k).
    colours : tuple of str. Display colour ``#rrggbb`` of each class, background first.
    outputs : NetworkOutputs. What the channels of the network are.
    regions : RegionSpace or None. Regions that are scored too; ``None`` for none.
    indicator : bool. Whether the network has input channels that state which modalities exist.
    """

    subjects: Subjects
    locations: tuple[PatchLocation, ...]
    size: Size3
    colours: tuple[str, ...]
    outputs: NetworkOutputs
    regions: RegionSpace | None = None
    indicator: bool = False

    def crop(self, locations: Sequence[PatchLocation]) -> Batch:
        """Sub-volumes as the network gets them: image float32 (batch, channel, i, j, k), label uint8 (batch, i, j,
        k)."""
        image, label = self.subjects.crop(locations, self.size)
        if self.indicator:
            image = with_indicator(image, [self.subjects.present(location.subject) for location in locations])
        return image, label

    @property
    def classes(self) -> int:
        """Number of classes, background included."""
        return len(self.colours)

    @property
    def scored(self) -> ScoredNames:
        """The classes and regions that are scored."""
        return ScoredNames.of(self.outputs.class_names, self.regions, self.outputs.regions is not None)

    def counts(self, prediction: Tensor, label: Tensor) -> Tensor:
        """True positives, false positives and false negatives of the classes, then of the unions of classes; int64,
        shape (3, class + union).

        Parameters
        ----------
        prediction, label : Tensor, integer, shape (batch, i, j, k). Class indices.
        """
        counts = torch.stack(class_counts(prediction, label, self.classes))
        unions = None if self.regions is None else self.regions.unions
        if unions is None:
            return counts
        return torch.cat((counts, torch.stack(region_counts(prediction, label, unions.members))), dim=1)


@dataclass(frozen=True)
class SubVolumeScore:
    """Scores of the validation sub-volumes, voxel counts pooled over all of them.

    Attributes
    ----------
    loss : float. Mean over the sub-volumes with voxels that are not ignored.
    dice : ndarray, shape (class + union,). Classes, background first, then unions of classes; NaN for one absent from
        truth and prediction.
    picture : ndarray, uint8, shape (height, width, 3), optional. A slice of the first sub-volume; rank 0 only.
    """

    loss: float
    dice: np.ndarray
    picture: np.ndarray | None

    def values(self, scored: ScoredNames) -> dict[str, float]:
        """Values by metric name (:mod:`core.events`)."""
        by_name = {name: float(d) for name, d in zip(scored.names, self.dice[1:], strict=True)}
        return {
            "val/loss": self.loss,
            **{f"val/dice/{name}": dice for name, dice in by_name.items()},
            SUB_VOLUME_DICE: scored.mean(by_name),
            "val/sub_volume_dice_with_background": nan_mean(self.dice[: 1 + scored.classes]),
        }


@dataclass(frozen=True)
class WholeVolumeScore:
    """Scores of the held-out whole volumes.

    Attributes
    ----------
    dice : ndarray, shape (subject, class + union). Classes, background first, then unions of classes; NaN for one
        absent from truth and prediction.
    mode : str. Inference mode, "tiles" or "whole".
    seconds : float. Duration.
    scored : ScoredNames. What the columns are, but for the background.
    label_maps : tuple of PackedLabels. Class indices of each subject, on the grid that training works on.
    picture : ndarray, uint8, shape (height, width, 3), optional. A slice of the first subject; rank 0 only.
    """

    dice: np.ndarray
    mode: str
    seconds: float
    scored: ScoredNames
    label_maps: tuple[PackedLabels, ...] = ()
    picture: np.ndarray | None = None

    @property
    def mean_dice(self) -> float:
        """Mean over subjects, then over foreground classes, or over the regions that a network learns."""
        return self.scored.mean(self._by_name)

    @property
    def _by_name(self) -> dict[str, float]:
        """Mean over subjects by name."""
        return {name: nan_mean(self.dice[:, c]) for c, name in enumerate(self.scored.names, 1)}

    def values(self) -> dict[str, float]:
        """Values by metric name (:mod:`core.events`)."""
        return {**{f"whole/dice/{name}": dice for name, dice in self._by_name.items()}, WHOLE_DICE: self.mean_dice}

    def worst_first(self, ids: Sequence[str]) -> dict[str, PackedLabels]:
        """Label map by subject id, by increasing mean Dice of the subject; those without a Dice come last."""
        means = [self.scored.mean(dict(zip(self.scored.names, row[1:], strict=True))) for row in self.dice]
        order = sorted(range(len(ids)), key=lambda n: (math.isnan(means[n]), means[n]))
        return {ids[n]: self.label_maps[n] for n in order}


@torch.no_grad()
def score_sub_volumes(
    model: nn.Module,
    validation_set: ValidationSet,
    loss: LossFunction,
    *,
    batch_size: int,
    precision: str,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> SubVolumeScore:
    """Loss and Dice on the validation sub-volumes, which the processes share. The model is left in training mode.

    Raises
    ------
    NonFiniteLogitsError
        If logits are not finite in fp32 either.
    """
    model.eval()
    locations, device = validation_set.locations, validation_set.subjects.device
    loss_sum, scored = torch.zeros((), device=device), torch.zeros((), device=device)
    scored_columns = 1 + len(validation_set.scored.names)
    counts = torch.zeros((3, scored_columns), dtype=torch.int64, device=device)
    picture = None
    batches = [locations[first : first + batch_size] for first in range(0, len(locations), batch_size)]
    for batch in distributed.shard(batches):
        image, label = validation_set.crop(batch)
        try:
            logits = _sub_volume_logits(model, image, precision)
        except NonFiniteLogitsError as error:
            ids = dict.fromkeys(validation_set.subjects.ids[location.subject] for location in batch)
            raise NonFiniteLogitsError(f"{format_list(list(ids))}: {error}") from error
        sub_volumes = (label != IGNORE_INDEX).flatten(1).any(dim=1).sum()
        loss_sum += loss(logits, label) * sub_volumes
        scored += sub_volumes
        prediction = validation_set.outputs.label_map(logits, dim=1)
        counts += validation_set.counts(prediction, label)
        if picture is None and distributed.is_main:
            picture = render_slice(image[0, 0], label[0], prediction[0], validation_set.colours)
    model.train()
    distributed.all_reduce(loss_sum)
    distributed.all_reduce(scored)
    distributed.all_reduce(counts)
    mean_loss = float(loss_sum) / float(scored) if scored else math.nan
    return SubVolumeScore(mean_loss, dice_from_counts(*counts.cpu().numpy()), picture)


def _sub_volume_logits(model: nn.Module, image: Tensor, precision: str) -> Tensor:
    """Logits of a batch of sub-volumes; in fp32 where they overflow in a lower precision. Waits for the device."""

    def predicted(used: str) -> Tensor:
        with cudnn_benchmark(image.device), autocast(image.device, used):
            logits: Tensor = model(image)
        return logits

    return finite_logits(predicted, precision)


@torch.no_grad()
def score_whole_volumes(
    model: nn.Module,
    validation_set: ValidationSet,
    options: InferenceOptions,
    progress: ProgressCallback | None = None,
    distributed: DistributedContext = SINGLE_PROCESS,
) -> WholeVolumeScore:
    """Dice of every held-out subject, segmented as a whole volume; the processes share the subjects."""
    started = time.monotonic()
    subjects = validation_set.subjects
    rows, packed = [], []
    picture = None
    for index in distributed.shard(range(len(subjects))):
        image, label = subjects.image(index), subjects.label(index)
        try:
            logits = predict_logits(model, image, options)
        except NonFiniteLogitsError as error:
            raise NonFiniteLogitsError(f"{subjects.ids[index]}: {error}") from error
        prediction = validation_set.outputs.label_map(logits)
        counts = validation_set.counts(prediction[None], label[None])
        rows.append(dice_from_counts(*counts.cpu().numpy()))
        packed.append(PackedLabels.pack(prediction.to(torch.uint8).cpu().numpy()))
        if picture is None and distributed.is_main:
            picture = render_slice(image[0], label, prediction, validation_set.colours)
        if progress is not None:
            progress(index + 1, len(subjects))
    dice, label_maps = np.stack(distributed.all_gather(rows)), tuple(distributed.all_gather(packed))
    elapsed_s = time.monotonic() - started
    return WholeVolumeScore(dice, options.mode, elapsed_s, validation_set.scored, label_maps, picture)


def render_slice(image: Tensor, truth: Tensor, prediction: Tensor, colours: Sequence[str]) -> np.ndarray:
    """Image, truth and prediction side by side, in the axial slice with most labelled voxels.

    Parameters
    ----------
    image : Tensor, shape (i, j, k). Intensities of one channel.
    truth, prediction : Tensor, integer, shape (i, j, k). Class indices; ignored voxels of the truth are hatched.
    colours : sequence of str. ``#rrggbb`` of each class; the background is transparent.

    Returns
    -------
    ndarray, uint8, shape (height, width, 3). Rows run from anterior (top) to posterior, the subject's right is on the
    left (radiological convention).
    """
    k = int(((truth > 0) & (truth != IGNORE_INDEX)).sum(dim=(0, 1)).argmax())
    grey = image[:, :, k].float().cpu().numpy()
    low, high = np.percentile(grey, [1, 99])
    base = (np.clip((grey - low) / max(high - low, 1e-6), 0, 1) * 255)[..., None].repeat(3, axis=-1)
    indices = (labels[:, :, k].cpu().numpy() for labels in (truth, prediction))
    panels = [base, *(overlay_classes(base, index, colours, LABEL_OPACITY) for index in indices)]
    upright = [np.flip(np.swapaxes(p, 0, 1), axis=(0, 1)) for p in panels]
    return np.ascontiguousarray(np.concatenate(upright, axis=1)).astype(np.uint8)
