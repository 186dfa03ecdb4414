"""The data doctor: reads every file of a data set once and says whether training on it is safe, and if not, why."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from core.datasets import open_dataset
from core.datasets.layouts.base import Dataset, Subject, shortened
from core.datasets.loading import Examined, examine
from core.datasets.report import Finding, Report, Severity, SubjectFacts
from core.datasets.thumbnails import thumbnail, write_thumbnail
from core.errors import DatasetError, UserError
from core.imaging.volume import read_image, read_label

SMALLEST_MM, LARGEST_MM = 0.05, 20.0  # voxel sizes outside are more likely a wrong unit than a wonder
SPACING_RATIO = 1.2  # voxel sizes that differ by more between subjects are worth resampling


def check(
    data: Dataset | str | Path,
    layout: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    thumbnails: Path | None = None,
) -> Report:
    """Examine a data set.

    Parameters
    ----------
    data : the data set or its folder; one that cannot be opened gives a report with that error.
    progress : called with (subjects done, subjects) from (0, n) to (n, n).
    thumbnails : a folder (made if missing) that receives ``<id>.png`` for each readable subject.

    Raises
    ------
    DatasetError
        If pictures cannot be written.
    """
    if not isinstance(data, Dataset):
        folder = Path(data)
        try:
            data = open_dataset(data, layout)
        except UserError as error:
            return Report(folder, None, (_from_error(error, [folder]),), ())
    if thumbnails is not None:
        try:
            thumbnails.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(
                f"{thumbnails}: cannot be made: {error.strerror or error}; choose another place"
            ) from error
    findings = [Finding("note", note) for note in data.notes]
    subjects: list[SubjectFacts] = []
    same: dict[bytes, str] = {}
    for number, subject in enumerate(data.subjects):
        if progress is not None:
            progress(number, len(data.subjects))
        facts, found = _Visit(data, subject, same, thumbnails).result()
        subjects.append(facts)
        findings += found
    if progress is not None:
        progress(len(data.subjects), len(data.subjects))
    findings += _across(data, subjects)
    rank = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda f: rank[f.severity])
    return Report(data.path, data, tuple(findings), tuple(subjects))


class _Visit:
    """One subject's examination; collects facts and findings."""

    def __init__(self, dataset: Dataset, subject: Subject, same: dict[bytes, str], thumbnails: Path | None) -> None:
        self.dataset, self.subject, self.same, self.thumbnails = dataset, subject, same, thumbnails
        present = tuple(m for m in dataset.modalities if m in subject.images)
        self.facts = SubjectFacts(subject.id, modalities=present, labelled=subject.label is not None)
        self.findings: list[Finding] = []

    def result(self) -> tuple[SubjectFacts, list[Finding]]:
        """Facts and findings, after reading what can be read."""
        self._complete()
        try:
            examined = examine(self.dataset, self.subject, self.facts.modalities) if self.facts.modalities else None
        except UserError as error:
            self._error(error)
            examined = None
        if examined is not None:
            self._geometry(examined)
            first = self._images(examined)
            label = self._label(examined)
            if self.thumbnails is not None and first is not None:
                picture = thumbnail(first, label, examined.geometry, self.dataset.labels)
                self.facts.thumbnail = f"{self.subject.id}.png"
                write_thumbnail(self.thumbnails / self.facts.thumbnail, picture)
        self.facts.ok = not any(f.severity == "error" for f in self.findings)
        return self.facts, self.findings

    def _add(self, severity: Severity, message: str, fix: str = "", file: Path | None = None) -> None:
        self.findings.append(Finding(severity, message, self.subject.id, str(file or ""), fix))

    def _error(self, error: UserError) -> None:
        files = [ref.path for ref in self.subject.images.values()]
        self.findings.append(
            _from_error(error, [*files, *([self.subject.label] if self.subject.label else [])], self.subject.id)
        )

    def _complete(self) -> None:
        missing = [m for m in self.dataset.modalities if m not in self.subject.images]
        if missing:
            self._add(
                "error", f"expected an image of {' and '.join(missing)}, found none", "add it, or remove the subject"
            )
        if self.subject.label is None:
            self._add("error", "expected a label map, found none", "add it, or move the subject to another folder")

    def _geometry(self, examined: Examined) -> None:
        geometry = examined.geometry
        self.facts.shape, self.facts.spacing_mm = geometry.shape, geometry.spacing_mm
        self.facts.orientation = "".join(examined.stored.axis_codes)
        if not all(SMALLEST_MM <= size <= LARGEST_MM for size in geometry.spacing_mm):
            sizes = " x ".join(f"{size:.4g}" for size in geometry.spacing_mm)
            self._add("warning", f"expected voxels of {SMALLEST_MM:g} to {LARGEST_MM:g} mm, got {sizes} mm",
                      "check the unit in its header")  # fmt: skip
        for file, note in examined.notes:
            self._add("warning", note, "look at its picture: do labels and anatomy match?", file)

    def _images(self, examined: Examined) -> np.ndarray | None:
        """Check intensities; returns the first modality's, shape (i, j, k)."""
        first: np.ndarray | None = None
        by_file: dict[Path, list[str]] = {}
        for modality in self.facts.modalities:
            by_file.setdefault(self.subject.images[modality].path, []).append(modality)
        for path, modalities in by_file.items():
            try:
                data = read_image(path, geometry=examined.geometries[path]).data
            except UserError as error:
                self._error(error)
                continue
            for modality in modalities:
                image = data[self.subject.images[modality].channel]
                low, high = float(image.min()), float(image.max())
                self.facts.intensities[modality] = {
                    "min": low,
                    "max": high,
                    "mean": float(image.mean(dtype=np.float64)),
                }
                if low == high:
                    self._add("error", f"expected an image, got {modality} with the value {low:g} in every voxel",
                              "replace the file or remove the subject", path)  # fmt: skip
                if modality == self.dataset.modalities[0]:
                    first = image
                    self._compare_with_others(image, path)
        return first

    def _compare_with_others(self, image: np.ndarray, path: Path) -> None:
        """Two subjects with the same voxels would meet in training and validation."""
        digest = hashlib.blake2b(str(image.shape).encode() + image.tobytes(), digest_size=16).digest()
        twin = self.same.setdefault(digest, self.subject.id)
        if twin != self.subject.id:
            self._add("warning", f"its image is the same as that of {twin}: scores on one would be memory of the other",
                      "remove one of them", path)  # fmt: skip

    def _label(self, examined: Examined) -> np.ndarray | None:
        """Check label values; returns class indices, shape (i, j, k)."""
        path = self.subject.label
        if path is None:
            return None
        try:
            raw = read_label(path, geometry=examined.geometries[path]).data[0]
        except UserError as error:
            self._error(error)
            return None
        labels = self.dataset.labels
        try:
            index = labels.to_index(raw)
        except DatasetError as error:
            self._add("error", str(error), "correct the file or the list of labels", path)
            return None
        counts = np.bincount(index.reshape(-1), minlength=len(labels))
        self.facts.label_shares = {n: float(c) / index.size for n, c in zip(labels.names, counts, strict=True)}
        if counts[0] == index.size:
            self._add("warning", "expected labels, got background in every voxel", "is it the right file?", path)
        return index


def _from_error(error: UserError, files: list[Path], subject: str = "") -> Finding:
    """An exception as a finding: its message is "file: what was expected and found; what to do"."""
    text = str(error)
    file = next((str(f) for f in files if text.startswith(f"{f}: ")), "")
    message, separator, fix = text.removeprefix(f"{file}: ").rpartition("; ")
    return Finding("error", message if separator else fix, subject, file, fix if separator else "")


def _across(dataset: Dataset, subjects: list[SubjectFacts]) -> list[Finding]:
    """What only shows when all subjects are seen together."""
    findings: list[Finding] = []
    labelled = [s for s in subjects if s.labelled]
    if len(labelled) < 2:
        message = f"expected at least 2 subjects with labels, one to train and one to validate; got {len(labelled)}"
        findings.append(Finding("error", message, fix="add subjects"))
    read = [s for s in labelled if s.label_shares]
    for name in dataset.labels.names[1:] if read else ():
        absent = [s.id for s in read if not s.label_shares[name]]
        if len(absent) == len(read):
            message = f"no label map holds the class {name}: it cannot be learned"
            findings.append(Finding("warning", message, fix="leave it out of the classes"))
        elif absent:
            message = f"{name} is absent in {len(absent)} of {len(read)} label maps: {shortened(absent, 4)}"
            findings.append(Finding("note", message))
    if read and all(s.label_shares[dataset.labels.names[0]] == 1 for s in read):
        message = "expected labels, got only background in every label map"
        findings.append(Finding("error", message, fix="add label maps"))
    unknown = [s.id for s in subjects if s.orientation.startswith("?")]
    if unknown:
        message = f"{len(unknown)} of {len(subjects)} subjects state no orientation"
        findings.append(Finding("note", f"{message}: nothing is flipped, and left and right are unknown"))
    findings += _spacing(subjects)
    return findings


def _spacing(subjects: list[SubjectFacts]) -> list[Finding]:
    sizes = np.array([s.spacing_mm for s in subjects if s.spacing_mm is not None])
    if not len(sizes) or (sizes.max(axis=0) / sizes.min(axis=0)).max() <= SPACING_RATIO:
        return []
    low, high = (" x ".join(f"{v:.3g}" for v in edge) for edge in (sizes.min(axis=0), sizes.max(axis=0)))
    return [
        Finding(
            "warning", f"voxel sizes differ between subjects: {low} to {high} mm", fix="train with --resample median"
        )
    ]
