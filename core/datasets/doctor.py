"""The data doctor: reads every file of a data set once and reports what makes training on it unsafe or worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from core.class_positions import ClassPositions, measure_positions
from core.datasets import fitness
from core.datasets.doctor_report import DoctorReport
from core.datasets.doctor_sides import check_sides
from core.datasets.findings import NOT_TRAINED_ON, REFUSED, Finding, Severity, merge_alike
from core.datasets.label_files import judge_file_names, judge_places
from core.datasets.label_match import LabelMatch, coarse_image
from core.datasets.layouts.base import Dataset, Subject
from core.datasets.leak_findings import judge_leaks
from core.datasets.leaks import Fingerprint, find_leaks
from core.datasets.loading import SubjectHeaders, read_subject_headers
from core.datasets.measures import judge_orientations, judge_outliers, measure
from core.datasets.options import DataOptions
from core.datasets.registry import DEFAULT_OPTIONS, open_dataset
from core.datasets.repairs import with_repairs
from core.datasets.subject_facts import SubjectFacts
from core.datasets.subject_labels import WRONG_VALUE_REMEDY, read_label_values
from core.datasets.thumbnails import render_thumbnail, thumbnail_name, write_thumbnail
from core.errors import DatasetError, UserError
from core.formatting import format_number, format_size
from core.imaging.geometry import format_mm
from core.imaging.outliers import describe_extremes, describe_outliers, intensity_range
from core.imaging.volume import Volume, read_image
from core.labels import IGNORE_INDEX, is_ignore_name
from core.types import ProgressCallback

MIN_SPACING_MM, MAX_SPACING_MM = 0.05, 20.0  # voxel sizes outside most likely have a wrong unit
MAX_SPACING_RATIO = 1.2  # between subjects; resampling pays off above
READABLE = "it can be read and trained on, but it may not be what was meant"
UNREAD = "cases, images or label maps that were meant may be missing, or others may be read in their place"
UNLABELLED = "the network learns from this subject that there is nothing to find"


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
    thumbnails : Path, optional. Folder, created if missing, for a picture of each readable subject, named by its id.
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
            return DoctorReport(folder, None, (Finding.from_error(error, [folder]),), ())
    if thumbnails is not None:
        try:
            thumbnails.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(
                f"{thumbnails}: cannot be made: {error.strerror or error}; choose another place"
            ) from error
    findings = [Finding("warning", text, meaning=UNREAD) for text in data.warnings]
    findings += [Finding("note", text) for text in data.notes]
    subjects: list[SubjectFacts] = []
    fingerprints: dict[str, Fingerprint] = {}
    match = LabelMatch()
    positions: list[ClassPositions] = []
    for number, subject in enumerate(data.subjects):
        if progress is not None:
            progress(number, len(data.subjects))
        examination = _Examination(data, subject, fingerprints, match, thumbnails)
        examination.run()
        subjects.append(examination.facts)
        findings += examination.findings
        positions += examination.positions
    if progress is not None:
        progress(len(data.subjects), len(data.subjects))
    findings += _check_across_subjects(data, subjects)
    unread = [s.id for s in subjects if s.labelled and s.modalities and s.shape is None]
    files = {id: str(data.subject(id).files[0]) for id in fingerprints}
    findings += judge_leaks(find_leaks(fingerprints, data.labelled), data.labelled, files=files)
    findings += judge_file_names(data) + judge_places(data, unread) + match.findings()
    findings += check_sides(data.labels, positions, [s.id for s in subjects if s.orientation.startswith("?")])
    measures = measure(subjects, data.modalities, data.labels.names[1:])
    findings = merge_alike(with_repairs(data, findings)) + judge_outliers(measures) + judge_orientations(subjects)
    rank = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda f: rank[f.severity])
    return DoctorReport(data.path, data, tuple(findings), tuple(subjects), tuple(measures))


@dataclass
class _Examination:
    """Examination of one subject.

    Attributes
    ----------
    fingerprints : dict. Fingerprint of the image of the first modality by subject id; shared by all examinations.
    match : LabelMatch. Compares images and label maps of all subjects; shared too.
    coarse_images : list of ndarray. Each image that can be read, averaged down for this comparison.
    facts, findings : results.
    positions : list of ClassPositions. Of the label map, if it can be read.
    """

    dataset: Dataset
    subject: Subject
    fingerprints: dict[str, Fingerprint]
    match: LabelMatch
    thumbnails: Path | None
    facts: SubjectFacts = field(init=False)
    findings: list[Finding] = field(default_factory=list)
    positions: list[ClassPositions] = field(default_factory=list)
    coarse_images: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self) -> None:
        present = tuple(m for m in self.dataset.modalities if m in self.subject.images)
        self.facts = SubjectFacts(self.subject.id, modalities=present, labelled=self.subject.label is not None)

    def run(self) -> None:
        """Read what can be read and collect facts and findings."""
        self.findings += fitness.judge_completeness(self.dataset, self.subject, self.dataset.modalities)
        headers = self._read_headers()
        if headers is not None:
            self._check_geometry(headers)
            first_image = self._check_images(headers)
            label = self._check_label(headers)
            if label is not None:
                self._measure_positions(label, headers, first_image)
                if len(self.coarse_images) == len(self.facts.modalities):
                    self.match.add(self.subject, self.coarse_images, label)
            if self.thumbnails is not None and first_image is not None:
                picture = render_thumbnail(first_image, label, headers.geometry, self.dataset.labels)
                self.facts.thumbnail = thumbnail_name(self.subject.id)
                write_thumbnail(self.thumbnails / self.facts.thumbnail, picture)
        self.facts.ok = not any(f.severity == "error" for f in self.findings)
        if not fitness.is_read(self.dataset, self.subject):
            self.findings = [_not_trained_on(f) if f.severity == "error" else f for f in self.findings]

    def _add(
        self, severity: Severity, message: str, fix: str = "", file: Path | None = None, meaning: str = ""
    ) -> None:
        finding = Finding(severity, message, self.subject.id, str(file or ""), fix, meaning=meaning)
        self.findings.append(finding)

    def _add_warning(self, file: Path, text: str) -> None:
        """Add a warning of the form "finding; remedy"."""
        message, _, fix = text.rpartition("; ")
        self._add("warning", message, fix, file, READABLE)

    def _add_error(self, error: UserError, modalities: Sequence[str] = ()) -> None:
        self.findings.append(Finding.from_error(error, self.subject.files, self.subject.id, tuple(modalities)))

    def _read_headers(self) -> SubjectHeaders | None:
        if not self.facts.modalities:
            return None
        try:
            return read_subject_headers(self.dataset, self.subject, self.facts.modalities)
        except UserError as error:
            self._add_error(error, self.facts.modalities)
            return None

    def _check_geometry(self, headers: SubjectHeaders) -> None:
        geometry = headers.geometry
        self.facts.shape, self.facts.spacing_mm = geometry.shape, geometry.spacing_mm
        self.facts.voxel_ml = geometry.voxel_ml
        self.facts.orientation = "".join(headers.stored.axis_codes)
        smallest_mm = 0.0 if headers.unit == "micron" else MIN_SPACING_MM
        if not all(smallest_mm <= size <= MAX_SPACING_MM for size in geometry.spacing_mm):
            self._add(
                "warning",
                f"expected voxels of {MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm, got {format_mm(geometry.spacing_mm)} "
                "mm",
                f"check the unit in its header, which is {headers.unit}",
                meaning="distances and volumes in mm are wrong if the unit is; resampling makes the image tiny or huge",
            )
        for file, note in headers.notes:
            self._add("note", note, file=file)
        for file, warning in headers.warnings:
            self._add_warning(file, warning)

    def _check_images(self, headers: SubjectHeaders) -> np.ndarray | None:
        """Check intensities; returns the image of the first modality, shape (i, j, k)."""
        first_image: np.ndarray | None = None
        modalities_by_file: dict[Path, list[str]] = {}
        for modality in self.facts.modalities:
            modalities_by_file.setdefault(self.subject.images[modality].path, []).append(modality)
        for path, modalities in modalities_by_file.items():
            try:
                volume = read_image(path, geometry=headers.geometries[path], nan_is_zero=self.dataset.nan_is_zero)
            except UserError as error:
                self._add_error(error, modalities)
                continue
            self._count_nan(volume)
            for modality in modalities:
                image = volume.data[self.subject.images[modality].channel]
                self.coarse_images.append(coarse_image(image))
                low, high = float(image.min()), float(image.max())
                mean = float(image.mean(dtype=np.float64))
                self.facts.intensities[modality] = {"min": low, "max": high, "mean": mean}
                if (filled := image[image != 0]).size:
                    self.facts.medians[modality] = float(np.median(filled))
                inliers = intensity_range(image)
                if inliers.outliers:
                    message = f"{modality}: {describe_outliers(image, inliers)}"
                    self._add("note", message, "training clips such voxels to that range", path)
                elif extremes := describe_extremes(image):
                    fix = (
                        "normalisation leaves the others little contrast; correct these voxels if they are no structure"
                    )
                    self._add("warning", f"{modality}: {extremes}", fix, path, "the network sees hardly any structure")
                if fitness.is_constant(image):
                    self.findings.append(fitness.judge_constant(self.subject.id, modality, inliers.low, str(path)))
                if modality == self.dataset.modalities[0]:
                    first_image = image
                    self.fingerprints[self.subject.id] = Fingerprint.of(image)
        return first_image

    def _measure_positions(self, label: np.ndarray, headers: SubjectHeaders, image: np.ndarray | None) -> None:
        classes, spacing_mm = len(self.dataset.labels), headers.geometry.spacing_mm
        channels = None if image is None else image[None]
        self.positions.append(measure_positions(self.subject.id, label, classes, spacing_mm, channels))

    def _count_nan(self, volume: Volume) -> None:
        self.facts.nan_share = max(self.facts.nan_share, volume.nan_voxels / volume.data.size)

    def _check_label(self, headers: SubjectHeaders) -> np.ndarray | None:
        """Check label values; returns class indices, shape (i, j, k)."""
        path = self.subject.label
        if path is None:
            return None
        try:
            volume = read_label_values(self.dataset, self.subject, headers.geometries[path])
        except UserError as error:
            self._add_error(error)
            return None
        self._count_nan(volume)
        for warning in volume.warnings:
            self._add_warning(path, warning)
        labels = self.dataset.labels
        try:
            index = self.dataset.to_index(volume.data[0])
        except DatasetError as error:
            self._add("error", str(error), WRONG_VALUE_REMEDY, path, REFUSED)
            return None
        self.facts.label_shares = fitness.class_shares(index, labels)
        self.facts.ignored_share = float(np.mean(index == IGNORE_INDEX))
        if not any(self.facts.label_shares[name] for name in labels.names[1:]):
            others = "background or ignored voxels only" if self.facts.ignored_share else "background in every voxel"
            self._add("warning", f"expected labels, got {others}", "is it the right file?", path, UNLABELLED)
        return index


def _not_trained_on(error: Finding) -> Finding:
    """A warning in place of an error of a subject that training does not read."""
    return replace(error, severity="warning", meaning=NOT_TRAINED_ON)


def _check_across_subjects(dataset: Dataset, subjects: list[SubjectFacts]) -> list[Finding]:
    """Findings that concern several subjects."""
    findings = fitness.judge_number(dataset)
    shares = {s.id: s.label_shares for s in subjects if s.label_shares}
    findings += fitness.judge_classes(dataset.labels.names[1:], shares)
    unoriented = [s.id for s in subjects if s.orientation.startswith("?")]
    if unoriented:
        message = f"{len(unoriented)} of {len(subjects)} subjects state no orientation"
        findings.append(Finding("note", f"{message}: nothing is flipped, and left and right are unknown"))
    findings += _note_ignored(dataset, subjects)
    with_nan = [s for s in subjects if s.nan_share]
    if with_nan:
        share = format_number(100 * max(s.nan_share for s in with_nan), 1)
        message = f"NaN is read as 0 in {len(with_nan)} of {len(subjects)} subjects, in up to {share} % of the voxels"
        findings.append(Finding("note", message))
    findings += _check_spacing_spread(subjects)
    return findings


def _note_ignored(dataset: Dataset, subjects: list[SubjectFacts]) -> list[Finding]:
    """A note on the label that is left out, and a warning for a class that is named as if it were left out too."""
    ignore = dataset.labels.ignore
    if ignore is None:
        return []
    shares = [s.ignored_share for s in subjects if s.label_shares]
    holders, share = sum(share > 0 for share in shares), format_number(100 * max(shares, default=0.0), 1)
    where = (
        f"in {holders} of {len(shares)} label maps, in up to {share} % of the voxels" if holders else "in no label map"
    )
    message = f"the label {ignore.name} ({ignore.raw}) is left out of training and scores: it is {where}"
    findings = [Finding("note", message, fix="--ignore none makes it a class")]
    for name in filter(is_ignore_name, dataset.labels.names[1:]):
        message = (
            f"{name} is trained on and scored as a class, since the label {ignore.name} is the one that is left out"
        )
        fix = "if it is to be left out, choose it with --ignore"
        meaning = "voxels that were not labelled count as a tissue, and as errors in scores"
        findings.append(Finding("warning", message, fix=fix, meaning=meaning))
    return findings


def _check_spacing_spread(subjects: list[SubjectFacts]) -> list[Finding]:
    sizes = np.array([s.spacing_mm for s in subjects if s.spacing_mm is not None])
    if not len(sizes) or (sizes.max(axis=0) / sizes.min(axis=0)).max() <= MAX_SPACING_RATIO:
        return []
    low, high = (format_size(extreme, " x ") for extreme in (sizes.min(axis=0), sizes.max(axis=0)))
    message = f"voxel sizes differ between subjects: {low} to {high} mm"
    meaning = "the same structure has another size in voxels in each subject, which the network has to learn"
    return [Finding("warning", message, fix="train with --resample median", meaning=meaning)]
