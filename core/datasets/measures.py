"""What is measured of each subject of a data set, to compare them: size, intensity, labels, memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from core.datasets.findings import Finding
from core.datasets.label_files import MAX_SINGLE_FINDINGS
from core.datasets.subject_facts import SubjectFacts
from core.formatting import format_list

Group = Literal["size", "voxel size", "intensity", "labels", "memory"]
MIN_SUBJECTS = 8  # below, no value is called unusual
MIN_RATIO = 1.5  # to the median, below which no value is unusual however alike the others are
MAX_ODD_SHARE = 0.1  # of the subjects, up to which another orientation is unusual
MAX_DEVIATIONS = 6.0  # of the logarithm from its median, in robust standard deviations
BYTES_PER_INTENSITY, BYTES_PER_LABEL = 2, 1  # half precision and a class index, as training keeps them
ANOTHER_KIND = "it may be of another protocol, or have a wrong unit in its header; or the data set has few of its kind"
ANOTHER_ORIENTATION = "all are turned to RAS on reading; if its header is wrong, this case is mirrored or turned"
MEANINGS: dict[Group, str] = {
    "size": ANOTHER_KIND,
    "voxel size": ANOTHER_KIND,
    "intensity": "it was scaled differently: normalising each image removes this, the normalisation for CT does not",
    "labels": "the class is much smaller or larger than elsewhere: a rare case, or a wrong or incomplete label map",
    "memory": "",
}
FIX = "look at its picture; leave the case out if it is wrong"


@dataclass(frozen=True)
class Measure:
    """One number of each subject.

    Attributes
    ----------
    title : str. What is measured.
    group : str. Measures of a group have the same unit and share an axis.
    unit : str. Unit of the values.
    values : dict. Value by subject id; subjects without it are left out.
    """

    title: str
    group: Group
    unit: str
    values: dict[str, float]

    @property
    def outliers(self) -> tuple[str, ...]:
        """Ids of the subjects whose value is far from the others, the farthest first.

        Values are compared as logarithms: a class that is ten times smaller is as far away as one ten times larger.
        Values of 0 and below are left out. Nothing is unusual among fewer than :data:`MIN_SUBJECTS` values.
        """
        logs = {id: float(np.log(value)) for id, value in self.values.items() if value > 0}
        if len(logs) < MIN_SUBJECTS:
            return ()
        centre = float(np.median(list(logs.values())))
        away = {id: abs(value - centre) for id, value in logs.items()}
        spread = 1.4826 * float(np.median(list(away.values())))
        limit = max(float(np.log(MIN_RATIO)), MAX_DEVIATIONS * spread)
        return tuple(id for id in sorted(away, key=lambda id: -away[id]) if away[id] > limit)

    def quartiles(self) -> tuple[float, float]:
        """First and third quartile of the values."""
        first, third = np.percentile(list(self.values.values()), (25, 75))
        return float(first), float(third)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "title": self.title,
            "group": self.group,
            "unit": self.unit,
            "values": self.values,
            "outliers": self.outliers,
        }


def measure(subjects: Sequence[SubjectFacts], modalities: Iterable[str], classes: Iterable[str]) -> list[Measure]:
    """The measures of subjects; those without any value are left out.

    Parameters
    ----------
    subjects : sequence of SubjectFacts. Facts about the subjects that could be read.
    modalities : iterable of str. Modalities of the data set.
    classes : iterable of str. Names of the classes, without the background.
    """
    read = [s for s in subjects if s.shape is not None and s.spacing_mm is not None]
    measures = [_geometry(read, axis) for axis in range(3)] + [_geometry(read, axis, True) for axis in range(3)]
    for modality in modalities:
        values = {s.id: s.medians[modality] for s in read if modality in s.medians}
        measures.append(Measure(f"{modality}, median of the voxels that are not 0", "intensity", "", values))
    labelled = [s for s in read if s.label_shares]
    for name in classes:
        values = {s.id: _volume_ml(s) * s.label_shares[name] * (1 - s.ignored_share) for s in labelled}
        measures.append(Measure(name, "labels", "ml", values))
    names = list(classes)
    if len(names) > 1:
        values = {s.id: _volume_ml(s) * (1 - s.ignored_share) * sum(s.label_shares[n] for n in names) for s in labelled}
        measures.append(Measure("all classes", "labels", "ml", values))
    memory = {s.id: _resident_bytes(s) / 2**20 for s in read}
    measures.append(Measure("resident", "memory", "MB", memory))
    return [m for m in measures if m.values]


def judge_outliers(measures: Sequence[Measure]) -> list[Finding]:
    """Notes on subjects that are unlike the others by a measure; memory is left out, since it follows from the size.

    Several subjects that are unlike the others by one measure are one note.
    """
    reasons: dict[str, list[tuple[str, Group]]] = {}
    findings: list[Finding] = []
    for found in measures:
        ids = found.outliers if found.group != "memory" else ()
        unit = f" {found.unit}" if found.unit else ""
        typical = f"in most others {_range(found.quartiles())}{unit}"
        if len(ids) > MAX_SINGLE_FINDINGS:
            values = [found.values[id] for id in ids]
            text = (
                f"{len(ids)} of {len(found.values)} subjects are unlike the others, {format_list(ids, 4)}: "
                f"{found.title}: {_range((min(values), max(values)))}{unit}, {typical}"
            )
            findings.append(Finding("note", text, fix=FIX, subjects=ids, meaning=MEANINGS[found.group]))
            continue
        for id in ids:
            text = f"{found.title}: {_number(found.values[id])}{unit}, {typical}"
            reasons.setdefault(id, []).append((text, found.group))
    for id, own in reasons.items():
        text = f"unlike the other subjects: {format_list([text for text, _ in own], 3)}"
        findings.append(Finding("note", text, id, fix=FIX, meaning=MEANINGS[own[0][1]]))
    return findings


def judge_orientations(subjects: Sequence[SubjectFacts]) -> list[Finding]:
    """Notes on subjects that are stored in another orientation than nearly all others, such as one LAS among RAS.

    Nothing is unusual among fewer than :data:`MIN_SUBJECTS`, or where more than :data:`MAX_ODD_SHARE` differ.
    """
    stored = {s.id: s.orientation for s in subjects if s.orientation}
    if len(stored) < MIN_SUBJECTS:
        return []
    (usual, count), *_ = Counter(stored.values()).most_common()
    odd = {id: axes for id, axes in stored.items() if axes != usual}
    if not odd or len(odd) > max(1, MAX_ODD_SHARE * len(stored)):
        return []
    fix = "compare left and right in its picture with what is known of the case; leave the case out if they are wrong"
    if len(odd) > MAX_SINGLE_FINDINGS:
        named = format_list([f"{id} ({axes})" for id, axes in odd.items()], 4)
        text = f"{len(odd)} of {len(stored)} subjects are stored in another orientation than {usual}: {named}"
        return [Finding("note", text, fix=fix, subjects=tuple(odd), meaning=ANOTHER_ORIENTATION)]
    return [
        Finding(
            "note",
            f"unlike the other subjects: stored as {axes}, {count} of {len(stored)} as {usual}",
            id,
            fix=fix,
            meaning=ANOTHER_ORIENTATION,
        )
        for id, axes in odd.items()
    ]


def _range(ends: tuple[float, float]) -> str:
    low, high = map(_number, ends)
    return low if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _geometry(subjects: Iterable[SubjectFacts], axis: int, spacing: bool = False) -> Measure:
    name = "ijk"[axis]
    if spacing:
        values = {s.id: float(s.spacing_mm[axis]) for s in subjects if s.spacing_mm is not None}
        return Measure(f"voxel size along {name}", "voxel size", "mm", values)
    values = {s.id: float(s.shape[axis]) for s in subjects if s.shape is not None}
    return Measure(f"size along {name}", "size", "voxels", values)


def _volume_ml(subject: SubjectFacts) -> float:
    assert subject.shape is not None and subject.voxel_ml is not None
    return float(np.prod(subject.shape, dtype=float)) * subject.voxel_ml


def _resident_bytes(subject: SubjectFacts) -> float:
    assert subject.shape is not None
    channels = BYTES_PER_INTENSITY * len(subject.modalities) + BYTES_PER_LABEL * subject.labelled
    return float(np.prod(subject.shape, dtype=float)) * channels
