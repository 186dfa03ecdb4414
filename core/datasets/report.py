"""What the data doctor found: facts about each subject, and findings with what to do about them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.datasets.layouts.base import Dataset
from core.datasets.thumbnails import CONVENTION, CONVENTION_UNKNOWN
from core.strict_json import plain
from core.types import Size3, SpacingMm

FORMAT_VERSION = 1

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing. An error makes training unsafe; a warning may lower its quality; a note explains.

    ``subject`` and ``file`` are empty where it concerns the whole data set; ``fix`` is empty where nothing need be
    done.
    """

    severity: Severity
    message: str
    subject: str = ""
    file: str = ""
    fix: str = ""

    @property
    def line(self) -> str:
        """The whole finding as one line of text."""
        where = ": ".join(part for part in (self.subject, self.file) if part)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text}; {self.fix}" if self.fix else text


@dataclass
class SubjectFacts:
    """One subject as it was found; ``None`` or empty where it could not be read.

    Attributes
    ----------
    shape, spacing_mm : voxels and voxel size along canonical i, j, k.
    orientation : of the first image's file, such as "LAS"; "???" where it states none.
    modalities : the images that it has.
    labelled : whether it has a label map.
    label_shares : share of all voxels by class, background included; sums to 1.
    intensities : by modality: ``min``, ``max`` and ``mean`` over all voxels.
    thumbnail : file name of its picture, or empty.
    ok : whether no error concerns it.
    """

    id: str
    shape: Size3 | None = None
    spacing_mm: SpacingMm | None = None
    orientation: str = ""
    modalities: tuple[str, ...] = ()
    labelled: bool = False
    label_shares: dict[str, float] = field(default_factory=dict)
    intensities: dict[str, dict[str, float]] = field(default_factory=dict)
    thumbnail: str = ""
    ok: bool = True


@dataclass(frozen=True)
class Report:
    """The doctor's findings on a folder; ``dataset`` is ``None`` where it could not be opened."""

    path: Path
    dataset: Dataset | None
    findings: tuple[Finding, ...]
    subjects: tuple[SubjectFacts, ...]

    @property
    def ok(self) -> bool:
        """Whether training on it is safe: no error."""
        return not self.of("error")

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(f for f in self.findings if f.severity == severity)

    @property
    def convention(self) -> str:
        """How the pictures of subjects are turned, in words."""
        known = {not facts.orientation.startswith("?") for facts in self.subjects if facts.orientation}
        if known == {False}:
            return CONVENTION_UNKNOWN
        return CONVENTION if len(known) < 2 else f"{CONVENTION}; where orientation is unknown: {CONVENTION_UNKNOWN}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values without NaN; the keys are stable within a format version."""
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
                "counts": {
                    "errors": len(self.of("error")),
                    "warnings": len(self.of("warning")),
                    "notes": len(self.of("note")),
                },
                "findings": self.findings,
                "subjects": self.subjects,
                "thumbnails": self.convention,
            }
        )
