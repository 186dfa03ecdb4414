"""Report of the data doctor: facts about each subject, and findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.datasets.findings import Finding, Severity
from core.datasets.layouts.base import Dataset
from core.datasets.thumbnails import RADIOLOGICAL, UNKNOWN_ORIENTATION
from core.strict_json import plain
from core.types import Size3, SpacingMm

FORMAT_VERSION = 1


@dataclass
class SubjectFacts:
    """Facts about one subject; ``None`` or empty where its files cannot be read.

    Attributes
    ----------
    id : str. Subject id.
    shape : tuple of int. Voxels along canonical i, j, k.
    spacing_mm : tuple of float. Voxel size along canonical i, j, k.
    orientation : str. Axis codes of the first image's file, such as "LAS"; "???" where it states none.
    modalities : tuple of str. Modalities with an image.
    labelled : bool. Whether there is a label map.
    label_shares : dict. Share of voxels by class, background included; sums to 1. Ignored voxels are left out.
    ignored_share : float. Share of all voxels with the ignore label.
    intensities : dict. By modality: ``min``, ``max`` and ``mean`` over all voxels.
    nan_share : float. Largest share of the values of one of its files that are NaN and read as 0.
    thumbnail : str. File name of the picture, or empty.
    ok : bool. Whether no error concerns the subject.
    """

    id: str
    shape: Size3 | None = None
    spacing_mm: SpacingMm | None = None
    orientation: str = ""
    modalities: tuple[str, ...] = ()
    labelled: bool = False
    label_shares: dict[str, float] = field(default_factory=dict)
    intensities: dict[str, dict[str, float]] = field(default_factory=dict)
    ignored_share: float = 0.0
    nan_share: float = 0.0
    thumbnail: str = ""
    ok: bool = True


@dataclass(frozen=True)
class DoctorReport:
    """Findings on a folder.

    Attributes
    ----------
    path : Path. Folder.
    dataset : Dataset or None. The data set; ``None`` where it cannot be opened.
    findings : tuple of Finding. Errors first.
    subjects : tuple of SubjectFacts. In the order of the data set.
    """

    path: Path
    dataset: Dataset | None
    findings: tuple[Finding, ...]
    subjects: tuple[SubjectFacts, ...]

    @property
    def ok(self) -> bool:
        """Whether training is safe: there is no error."""
        return not self.with_severity("error")

    def with_severity(self, severity: Severity) -> tuple[Finding, ...]:
        """Findings of one severity."""
        return tuple(f for f in self.findings if f.severity == severity)

    @property
    def thumbnail_orientation(self) -> str:
        """Orientation of the thumbnails, as text."""
        known = {not facts.orientation.startswith("?") for facts in self.subjects if facts.orientation}
        if known == {False}:
            return UNKNOWN_ORIENTATION
        return (
            RADIOLOGICAL if len(known) < 2 else f"{RADIOLOGICAL}; where orientation is unknown: {UNKNOWN_ORIENTATION}"
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values without NaN; the keys are stable within a format version."""
        data = self.dataset
        return plain(
            {
                "version": FORMAT_VERSION,
                "ok": self.ok,
                "path": str(self.path),
                "layout": data.layout if data else None,
                "name": data.name if data else None,
                "description": data.description if data else "",
                "licence": data.licence if data else "",
                "synthetic": data.synthetic if data else False,
                "modalities": data.modalities if data else [],
                "labels": data.labels.to_json() if data else [],
                "recipe": data.recipe.to_json() if data else {},
                "counts": {
                    "errors": len(self.with_severity("error")),
                    "warnings": len(self.with_severity("warning")),
                    "notes": len(self.with_severity("note")),
                },
                "findings": self.findings,
                "subjects": self.subjects,
                "thumbnails": self.thumbnail_orientation,
            }
        )
