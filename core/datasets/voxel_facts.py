"""What is measured in the voxels of a subject when it is prepared, and kept with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from core.class_positions import ClassPositions, measure_positions
from core.datasets.data_record import VoxelDigests
from core.datasets.fitness import SubjectCounts
from core.datasets.leaks import Fingerprint
from core.datasets.loading import LoadedSubject
from core.labels import LabelSpace
from core.types import TrainingSubject


@dataclass(frozen=True)
class VoxelFacts:
    """Measurements of one subject.

    Attributes
    ----------
    counts : SubjectCounts. Counts by which a run judges whether the subject is fit for training.
    digests : VoxelDigests. Digests for the record of the run's data.
    positions : ClassPositions. Of the classes in the prepared label map, with intensities of the prepared image.
    fingerprint : Fingerprint. Of the image of the first modality that is there, as read.
    """

    counts: SubjectCounts
    digests: VoxelDigests
    positions: ClassPositions
    fingerprint: Fingerprint

    @classmethod
    def of(
        cls, loaded: LoadedSubject, prepared: TrainingSubject, modalities: Sequence[str], labels: LabelSpace
    ) -> VoxelFacts:
        """Measure a subject that was read with these modalities and classes, and prepared; its image is float32."""
        first = next(n for n, modality in enumerate(modalities) if modality not in loaded.absent)
        return cls(
            SubjectCounts.of(loaded, modalities, labels),
            VoxelDigests.of(loaded, modalities, labels),
            measure_positions(prepared.id, prepared.label, len(labels), prepared.spacing_mm, prepared.image),
            Fingerprint.of(loaded.image[first]),
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values, in which numbers that are not finite may be, without the id."""
        positions = {f.name: getattr(self.positions, f.name) for f in fields(ClassPositions) if f.name != "id"}
        return {
            "counts": asdict(self.counts),
            "digests": asdict(self.digests),
            "positions": {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in positions.items()},
            "fingerprint": self.fingerprint.to_json(),
        }

    @classmethod
    def from_json(cls, id: str, data: Mapping[str, Any]) -> VoxelFacts:
        """The inverse of :meth:`to_json`, of the subject with this id."""
        voxels = np.array(data["positions"]["voxels"], np.int64)
        arrays = {
            name: np.array(values, np.float64).reshape(len(voxels), -1)
            for name, values in data["positions"].items()
            if name not in ("voxels", "width_mm")
        }
        width_mm = float(data["positions"]["width_mm"])
        return cls(
            SubjectCounts(**data["counts"]),
            VoxelDigests(**data["digests"]),
            ClassPositions(id=id, voxels=voxels, width_mm=width_mm, **arrays),
            Fingerprint.from_json(data["fingerprint"]),
        )
