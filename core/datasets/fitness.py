"""Whether a data set is ready for training: one judgement, which the data doctor reports and training obeys.

:func:`judge_files` needs names and headers only. The other functions judge what a reader of the voxels has counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.config import SplitConfig
from core.datasets.findings import REFUSED, Finding
from core.datasets.layouts.base import Dataset, Subject
from core.datasets.loading import LoadedSubject, read_subject_headers
from core.datasets.splits import Split, split_subjects
from core.errors import DatasetError, UserError
from core.formatting import format_count, format_list
from core.imaging.outliers import intensity_range
from core.labels import LabelSpace

MAX_ERRORS = 3  # named in the message of a refusal


def judge_files(dataset: Dataset, modalities: Sequence[str] = (), excluded: Collection[str] = ()) -> list[Finding]:
    """Errors that names and headers show.

    Parameters
    ----------
    dataset : Dataset. Data set.
    modalities : sequence of str. Modalities that are needed; empty for all.
    excluded : collection of str. Ids of subjects that are not trained on.
    """
    findings: list[Finding] = []
    modalities = tuple(modalities) or dataset.modalities
    for subject in dataset.subjects:
        if subject.id in excluded:
            continue
        if not is_read(dataset, subject):
            continue
        findings += [f for f in judge_completeness(dataset, subject, modalities) if f.severity == "error"]
        present = tuple(m for m in modalities if m in subject.images)
        if present:
            try:
                read_subject_headers(dataset, subject, present)
            except UserError as error:
                findings.append(Finding.from_error(error, subject.files, subject.id))
    return findings + judge_number(dataset)


def is_read(dataset: Dataset, subject: Subject) -> bool:
    """Whether training may read a subject: it is neither for prediction only nor left out."""
    return not (dataset.is_predicted_only(subject) or dataset.leaves_out(subject))


def judge_completeness(dataset: Dataset, subject: Subject, modalities: Sequence[str]) -> list[Finding]:
    """Findings for images and a label map that a subject lacks; none for one that is predicted on only."""
    findings: list[Finding] = []
    if dataset.is_predicted_only(subject):
        return findings
    missing = [m for m in modalities if m not in subject.images]
    names = " and ".join(missing)
    if dataset.leaves_out(subject):
        findings.append(Finding("note", f"no image of {names}: it is left out of training", subject.id))
    elif missing and dataset.absent(subject, modalities):
        findings.append(Finding("note", f"no image of {names}: it is read as 0 in every voxel", subject.id))
    elif missing:
        fix = "add it, remove the subject, or choose what is done with it: --missing-modalities leave_out|zero"
        message = f"expected an image of {names}, found none"
        findings.append(Finding("error", message, subject.id, fix=fix, meaning=REFUSED, modalities=tuple(missing)))
    if subject.label is None:
        message, fix = "expected a label map, found none", "add it, or move the subject to another folder"
        findings.append(Finding("error", message, subject.id, fix=fix, meaning=REFUSED))
    return findings


def judge_number(dataset: Dataset) -> list[Finding]:
    """An error where the subjects are too few for the default split."""
    try:
        split_subjects(dataset.labelled_ids, SplitConfig())  # regardless of groups that are kept together
    except DatasetError as error:
        return [Finding.from_error(error)]
    return []


@dataclass(frozen=True)
class SubjectCounts:
    """Counts of the voxels of one subject.

    Attributes
    ----------
    constant : dict. Intensity by modality, of images with the same one in every voxel.
    shares : dict. Share of voxels by class, background included.
    nan_voxels : int. Voxels of all files whose NaN was read as 0.
    """

    constant: dict[str, float]
    shares: dict[str, float]
    nan_voxels: int

    @classmethod
    def of(cls, loaded: LoadedSubject, modalities: Sequence[str], labels: LabelSpace) -> SubjectCounts:
        """Count a subject that was read with these modalities and classes."""
        assert loaded.label is not None
        constant = {
            m: intensity_range(data).low
            for m, data in zip(modalities, loaded.image, strict=True)
            if m not in loaded.absent and is_constant(data)
        }
        return cls(constant, class_shares(loaded.label, labels), loaded.nan_voxels)


def is_constant(image: np.ndarray) -> bool:
    """Whether every voxel but outliers has the same intensity."""
    inliers = intensity_range(image)
    return inliers.low == inliers.high


def class_shares(label: np.ndarray, labels: LabelSpace) -> dict[str, float]:
    """Share of voxels by class, background included; ignored voxels are left out. 0 where all are ignored."""
    voxels = np.bincount(label.reshape(-1), minlength=len(labels))[: len(labels)]
    total = max(int(voxels.sum()), 1)
    return {name: float(count) / total for name, count in zip(labels.names, voxels, strict=True)}


def judge_counts(labels: LabelSpace, counts: Mapping[str, SubjectCounts]) -> list[Finding]:
    """Findings on the voxels of the subjects of a run, by subject id."""
    findings = [
        judge_constant(id, modality, value) for id, c in counts.items() for modality, value in c.constant.items()
    ]
    return findings + judge_classes(labels.names[1:], {id: c.shares for id, c in counts.items()})


def judge_constant(subject: str, modality: str, value: float, file: str = "") -> Finding:
    """An error for an image with one value in every voxel."""
    message = f"expected an image, got {modality} with the value {value:g} in every voxel"
    fix = "replace the file or remove the subject"
    return Finding("error", message, subject, file, fix, meaning=REFUSED, modalities=(modality,))


def judge_classes(classes: Sequence[str], shares: Mapping[str, Mapping[str, float]]) -> list[Finding]:
    """Findings on classes that are absent in some or all label maps.

    Parameters
    ----------
    classes : sequence of str. Names of the classes, without the background.
    shares : mapping. Share of voxels by class, by subject id.
    """
    if not shares:
        return []
    findings: list[Finding] = []
    for name in classes:
        absent = [id for id, share in shares.items() if not share[name]]
        if len(absent) == len(shares):
            message = f"no label map holds the class {name}: it cannot be learned"
            meaning = "the network never predicts it, and its Dice cannot be measured"
            findings.append(Finding("warning", message, fix="leave it out of the classes", meaning=meaning))
        elif absent:
            message = f"{name} is absent in {len(absent)} of {len(shares)} label maps: {format_list(absent, 4)}"
            findings.append(Finding("note", message))
    if not any(share[name] for share in shares.values() for name in classes):
        message = "expected labels, got only background in every label map"
        findings.append(Finding("error", message, fix="add label maps", meaning="there is nothing to learn"))
    return findings


def judge_split(classes: Sequence[str], shares: Mapping[str, Mapping[str, float]], split: Split) -> list[Finding]:
    """Warnings for classes that a split leaves without a training subject, or without a held-out one.

    Parameters
    ----------
    classes, shares : as in :func:`judge_classes`; subjects without shares count as subjects without the classes.
    split : Split. Subjects by role.
    """
    findings: list[Finding] = []
    for name in classes:
        holders = [id for id, share in shares.items() if share[name]]
        if not holders:
            continue  # judge_classes reports it
        if not set(holders) & set(split.train):
            message = f"no training subject holds the class {name}: it cannot be learned"
            fix = f"choose another fold or other held-out subjects; it is in {format_list(holders, 4)}"
            findings.append(Finding("warning", message, fix=fix, meaning="the network never predicts it"))
        elif split.val and not set(holders) & set(split.val):
            findings.append(Finding("note", f"no held-out subject holds the class {name}: its Dice cannot be measured"))
    return findings


def refuse_unfit(dataset: Dataset, findings: Sequence[Finding]) -> None:
    """Refuse to train where there are errors.

    Raises
    ------
    DatasetError
        If a finding is an error; the message names the first ones, and says whether training can be forced.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f"; and {len(errors) - MAX_ERRORS} more" if len(errors) > MAX_ERRORS else ""
        unreadable = any(finding.file for finding in errors)  # stays refused where training is forced
        raise DatasetError(
            f"{dataset.path}: expected data that is ready for training, got "
            f"{format_count(len(errors), 'error')}: {'; '.join(f.line for f in errors[:MAX_ERRORS])}{more}; "
            + (
                "correct this, or leave out the subjects; --force does not help with files that cannot be read"
                if unreadable
                else "correct this, or train anyway with --force"
            )
        )
