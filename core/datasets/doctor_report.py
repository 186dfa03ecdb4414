"""Report of the data doctor: facts about each subject, and findings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.datasets.findings import Finding, Severity
from core.datasets.layouts.base import Dataset
from core.datasets.measures import Measure
from core.datasets.subject_facts import SubjectFacts
from core.datasets.thumbnails import RADIOLOGICAL, UNKNOWN_ORIENTATION
from core.strict_json import plain

FORMAT_VERSION = 1


@dataclass(frozen=True)
class DoctorReport:
    """Findings on a folder.

    Attributes
    ----------
    path : Path. Folder.
    dataset : Dataset or None. The data set; ``None`` where it cannot be opened.
    findings : tuple of Finding. Errors first.
    subjects : tuple of SubjectFacts. In the order of the data set.
    measures : tuple of Measure. What is measured of each subject, to compare them.
    """

    path: Path
    dataset: Dataset | None
    findings: tuple[Finding, ...]
    subjects: tuple[SubjectFacts, ...]
    measures: tuple[Measure, ...] = ()

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
                "measures": [measure.to_json() for measure in self.measures],
                "thumbnails": self.thumbnail_orientation,
            }
        )
