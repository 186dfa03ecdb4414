"""The data doctor: reads every file of a data set once and reports what makes training on it unsafe or worse."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.datasets.doctor_report import DoctorReport, Finding, Severity, SubjectFacts
from core.datasets.layouts.base import Dataset, Subject
from core.datasets.loading import SubjectHeaders, read_subject_headers
from core.datasets.options import DataOptions
from core.datasets.registry import DEFAULT_OPTIONS, open_dataset
from core.datasets.thumbnails import render_thumbnail, write_thumbnail
from core.errors import DatasetError, UserError
from core.formatting import format_list
from core.imaging.volume import read_image, read_label
from core.types import ProgressCallback

MIN_SPACING_MM, MAX_SPACING_MM = 0.05, 20.0  # voxel sizes outside most likely have a wrong unit
MAX_SPACING_RATIO = 1.2  # between subjects; resampling pays off above


def check(
    data: Dataset | str | Path,
    layout: str = "auto",
    progress: ProgressCallback | None = None,
    thumbnails: Path | None = None,
    options: DataOptions = DEFAULT_OPTIONS,
) -> DoctorReport:
    """Examine a data set.

    Parameters
    ----------
    data : Dataset, str or Path. Data set or its folder; one that cannot be opened gives a report with that error.
    layout : str. Layout of the folder, or "auto".
    progress : callable, optional. Called with (subjects done, subjects) from (0, n) to (n, n).
    thumbnails : Path, optional. Folder, created if missing, for a picture ``<id>.png`` of each readable subject.
    options : DataOptions. Options of reading the files of a folder; a data set has its own.

    Raises
    ------
    DatasetError
        If thumbnails cannot be written.
    """
    if not isinstance(data, Dataset):
        folder = Path(data)
        try:
            data = open_dataset(data, layout, options)
        except UserError as error:
            return DoctorReport(folder, None, (_finding_from_error(error, [folder]),), ())
    if thumbnails is not None:
        try:
            thumbnails.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(
                f"{thumbnails}: cannot be made: {error.strerror or error}; choose another place"
            ) from error
    findings = [Finding("note", note) for note in data.notes]
    subjects: list[SubjectFacts] = []
    subject_by_image: dict[bytes, str] = {}
    for number, subject in enumerate(data.subjects):
        if progress is not None:
            progress(number, len(data.subjects))
        examination = _Examination(data, subject, subject_by_image, thumbnails)
        examination.run()
        subjects.append(examination.facts)
        findings += examination.findings
    if progress is not None:
        progress(len(data.subjects), len(data.subjects))
    findings += _check_across_subjects(data, subjects)
    rank = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda f: rank[f.severity])
    return DoctorReport(data.path, data, tuple(findings), tuple(subjects))


@dataclass
class _Examination:
    """Examination of one subject.

    Attributes
    ----------
    subject_by_image : dict. Subject id by digest of its first image; shared by all examinations of a data set.
    facts, findings : results.
    """

    dataset: Dataset
    subject: Subject
    subject_by_image: dict[bytes, str]
    thumbnails: Path | None
    facts: SubjectFacts = field(init=False)
    findings: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        present = tuple(m for m in self.dataset.modalities if m in self.subject.images)
        self.facts = SubjectFacts(self.subject.id, modalities=present, labelled=self.subject.label is not None)

    def run(self) -> None:
        """Read what can be read and collect facts and findings."""
        self._check_completeness()
        headers = self._read_headers()
        if headers is not None:
            self._check_geometry(headers)
            first_image = self._check_images(headers)
            label = self._check_label(headers)
            if self.thumbnails is not None and first_image is not None:
                picture = render_thumbnail(first_image, label, headers.geometry, self.dataset.labels)
                self.facts.thumbnail = f"{self.subject.id}.png"
                write_thumbnail(self.thumbnails / self.facts.thumbnail, picture)
        self.facts.ok = not any(f.severity == "error" for f in self.findings)

    def _add(self, severity: Severity, message: str, fix: str = "", file: Path | None = None) -> None:
        self.findings.append(Finding(severity, message, self.subject.id, str(file or ""), fix))

    def _add_error(self, error: UserError) -> None:
        files = [ref.path for ref in self.subject.images.values()]
        if self.subject.label is not None:
            files.append(self.subject.label)
        self.findings.append(_finding_from_error(error, files, self.subject.id))

    def _check_completeness(self) -> None:
        missing = [m for m in self.dataset.modalities if m not in self.subject.images]
        if missing:
            self._add(
                "error", f"expected an image of {' and '.join(missing)}, found none", "add it, or remove the subject"
            )
        if self.subject.label is None:
            self._add("error", "expected a label map, found none", "add it, or move the subject to another folder")

    def _read_headers(self) -> SubjectHeaders | None:
        if not self.facts.modalities:
            return None
        try:
            return read_subject_headers(self.dataset, self.subject, self.facts.modalities)
        except UserError as error:
            self._add_error(error)
            return None

    def _check_geometry(self, headers: SubjectHeaders) -> None:
        geometry = headers.geometry
        self.facts.shape, self.facts.spacing_mm = geometry.shape, geometry.spacing_mm
        self.facts.orientation = "".join(headers.stored.axis_codes)
        if not all(MIN_SPACING_MM <= size <= MAX_SPACING_MM for size in geometry.spacing_mm):
            sizes = " x ".join(f"{size:.4g}" for size in geometry.spacing_mm)
            self._add(
                "warning",
                f"expected voxels of {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm, got {sizes} mm",
                "check the unit in its header",
            )
        for file, note in headers.notes:
            self._add("warning", note, "look at its picture: do labels and anatomy match?", file)

    def _check_images(self, headers: SubjectHeaders) -> np.ndarray | None:
        """Check intensities; returns the image of the first modality, shape (i, j, k)."""
        first_image: np.ndarray | None = None
        modalities_by_file: dict[Path, list[str]] = {}
        for modality in self.facts.modalities:
            modalities_by_file.setdefault(self.subject.images[modality].path, []).append(modality)
        for path, modalities in modalities_by_file.items():
            try:
                data = read_image(path, geometry=headers.geometries[path]).data
            except UserError as error:
                self._add_error(error)
                continue
            for modality in modalities:
                image = data[self.subject.images[modality].channel]
                low, high = float(image.min()), float(image.max())
                mean = float(image.mean(dtype=np.float64))
                self.facts.intensities[modality] = {"min": low, "max": high, "mean": mean}
                if low == high:
                    self._add(
                        "error",
                        f"expected an image, got {modality} with the value {low:g} in every voxel",
                        "replace the file or remove the subject",
                        path,
                    )
                if modality == self.dataset.modalities[0]:
                    first_image = image
                    self._check_duplicate(image, path)
        return first_image

    def _check_duplicate(self, image: np.ndarray, path: Path) -> None:
        """Warn about equal images of two subjects, which would leak from training into validation."""
        digest = hashlib.blake2b(str(image.shape).encode() + image.tobytes(), digest_size=16).digest()
        other = self.subject_by_image.setdefault(digest, self.subject.id)
        if other != self.subject.id:
            self._add(
                "warning",
                f"its image is the same as that of {other}: training on one and validating on the other inflates "
                "scores",
                "remove one of them",
                path,
            )

    def _check_label(self, headers: SubjectHeaders) -> np.ndarray | None:
        """Check label values; returns class indices, shape (i, j, k)."""
        path = self.subject.label
        if path is None:
            return None
        try:
            raw = read_label(path, geometry=headers.geometries[path]).data[0]
        except UserError as error:
            self._add_error(error)
            return None
        labels = self.dataset.labels
        try:
            index = labels.to_index(raw)
        except DatasetError as error:
            self._add("error", str(error), "correct the file or the list of labels", path)
            return None
        voxels = np.bincount(index.reshape(-1), minlength=len(labels))
        self.facts.label_shares = {n: float(v) / index.size for n, v in zip(labels.names, voxels, strict=True)}
        if voxels[0] == index.size:
            self._add("warning", "expected labels, got background in every voxel", "is it the right file?", path)
        return index


def _finding_from_error(error: UserError, files: list[Path], subject: str = "") -> Finding:
    """Split a message of the form "file: expectation and finding; remedy" into the parts of a finding."""
    text = str(error)
    file = next((str(f) for f in files if text.startswith(f"{f}: ")), "")
    message, separator, fix = text.removeprefix(f"{file}: ").rpartition("; ")
    return Finding("error", message if separator else fix, subject, file, fix if separator else "")


def _check_across_subjects(dataset: Dataset, subjects: list[SubjectFacts]) -> list[Finding]:
    """Findings that concern several subjects."""
    findings: list[Finding] = []
    labelled = [s for s in subjects if s.labelled]
    if len(labelled) < 2:
        message = f"expected at least 2 subjects with labels, one to train and one to validate; got {len(labelled)}"
        findings.append(Finding("error", message, fix="add subjects"))
    findings += _check_classes(dataset, [s for s in labelled if s.label_shares])
    unoriented = [s.id for s in subjects if s.orientation.startswith("?")]
    if unoriented:
        message = f"{len(unoriented)} of {len(subjects)} subjects state no orientation"
        findings.append(Finding("note", f"{message}: nothing is flipped, and left and right are unknown"))
    findings += _check_spacing_spread(subjects)
    return findings


def _check_classes(dataset: Dataset, subjects: list[SubjectFacts]) -> list[Finding]:
    """Findings on classes that are absent in some or all of the label maps that could be read."""
    findings: list[Finding] = []
    if not subjects:
        return findings
    for name in dataset.labels.names[1:]:
        absent = [s.id for s in subjects if not s.label_shares[name]]
        if len(absent) == len(subjects):
            message = f"no label map holds the class {name}: it cannot be learned"
            findings.append(Finding("warning", message, fix="leave it out of the classes"))
        elif absent:
            message = f"{name} is absent in {len(absent)} of {len(subjects)} label maps: {format_list(absent, 4)}"
            findings.append(Finding("note", message))
    if all(s.label_shares[dataset.labels.names[0]] == 1 for s in subjects):
        message = "expected labels, got only background in every label map"
        findings.append(Finding("error", message, fix="add label maps"))
    return findings


def _check_spacing_spread(subjects: list[SubjectFacts]) -> list[Finding]:
    sizes = np.array([s.spacing_mm for s in subjects if s.spacing_mm is not None])
    if not len(sizes) or (sizes.max(axis=0) / sizes.min(axis=0)).max() <= MAX_SPACING_RATIO:
        return []
    low, high = (" x ".join(f"{v:.3g}" for v in extreme) for extreme in (sizes.min(axis=0), sizes.max(axis=0)))
    message = f"voxel sizes differ between subjects: {low} to {high} mm"
    return [Finding("warning", message, fix="train with --resample median")]
