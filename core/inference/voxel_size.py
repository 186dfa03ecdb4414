"""The voxel size that a network expects, and whether that of an image fits; without torch, for pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.checkpointing.metadata import CheckpointMetadata
from core.checkpointing.training_spacing import TrainingSpacing
from core.datasets import DataOptions, fingerprint, open_dataset
from core.datasets.data_record import DataRecord
from core.datasets.synthetic.demo_writer import SPACING_MM as SYNTHETIC_SPACING_MM
from core.errors import CheckpointError, UserError
from core.imaging.geometry import format_mm
from core.types import SpacingMm

CONSEQUENCE = "structures may be missed and volumes wrong"  # ends the warning that resampling helps against
ADVICE = "--resample brings the image to the voxel size of training, and the segmentation back to the image's grid"


@dataclass(frozen=True)
class ExpectedVoxelSize:
    """The voxel size that a network expects.

    Attributes
    ----------
    resampled_mm : tuple of float or None. Voxel size to which the network's images are always resampled.
    training : TrainingSpacing or None. Voxel sizes of its training subjects; ``None`` if unknown.
    """

    resampled_mm: SpacingMm | None
    training: TrainingSpacing | None

    @classmethod
    def of(cls, metadata: CheckpointMetadata, checkpoint: Path) -> ExpectedVoxelSize:
        """What a checkpoint states; for one of an earlier version, what its run folder or its training data states."""
        if metadata.spacing_mm is not None or metadata.training_spacing is not None:
            return cls(metadata.spacing_mm, metadata.training_spacing)
        sizes = _recorded(metadata, checkpoint.parent) or _synthetic(metadata) or _measured(metadata)
        return cls(None, TrainingSpacing.of(sizes) if sizes else None)

    def target_mm(self, resample: bool) -> SpacingMm | None:
        """Voxel size to resample an image to; ``None`` for its own.

        Parameters
        ----------
        resample : bool. Whether a network without resampling gets images of the median voxel size of its training.

        Raises
        ------
        CheckpointError
            If that size is unknown.
        """
        if self.resampled_mm is not None or not resample:
            return self.resampled_mm
        if self.training is None:
            raise CheckpointError(
                "resample: expected a model that states the voxel size of its training, got one of an earlier version "
                "whose training data is no longer there; resample the image yourself"
            )
        return self.training.median_mm

    def warning(self, spacing_mm: SpacingMm, resample: bool = False) -> str:
        """Why an image of this voxel size may be segmented wrongly; empty if nothing suggests it."""
        if self.resampled_mm is not None or resample:
            return ""
        if self.training is None:
            return (
                "the model does not state the voxel size of its training and does not resample; sizes and volumes are "
                f"right only if it was trained at about {format_mm(spacing_mm)} mm, as this image has"
            )
        difference = self.training.difference(spacing_mm)
        return f"{difference}; {CONSEQUENCE}" if difference else ""


def with_advice(warning: str) -> str:
    """A warning as the command line prints it: with the option that may help, if there is one."""
    return f"{warning}; {ADVICE}" if warning.endswith(CONSEQUENCE) else warning


def _recorded(metadata: CheckpointMetadata, run: Path) -> list[SpacingMm]:
    """Voxel sizes of the training subjects by the record of their run; none if there is no record."""
    record = DataRecord.load_or_none(run)
    subjects = record.subjects if record is not None else {}
    trained_on = [subjects[id] for id in metadata.split.get("train", []) if id in subjects]
    return [next(iter(subject.files.values())).geometry.spacing_mm for subject in trained_on]


def _synthetic(metadata: CheckpointMetadata) -> list[SpacingMm]:
    return [SYNTHETIC_SPACING_MM] if metadata.dataset.get("synthetic") else []


def _measured(metadata: CheckpointMetadata) -> list[SpacingMm]:
    """Voxel sizes of the training subjects in their headers; none if they are no longer there."""
    folder, ids = metadata.dataset.get("path"), tuple(metadata.split.get("train", ()))
    if not folder or not ids:
        return []
    config = metadata.train_config.data
    try:
        dataset = open_dataset(str(folder), config.layout, DataOptions.from_config(config))
        return list(fingerprint(dataset, ids).spacings_mm.values())
    except UserError:
        return []
