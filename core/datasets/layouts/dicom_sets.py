"""Subjects of a folder of DICOM files: series of images, with the segmentations and contours that refer to them.

Files are matched by the UIDs in their headers, not by names; subjects are named by their folders. A subject is a
series, or, where a description names series by what they show (``modalities``), a study with a series of each modality.
Label maps of another format are found by the patterns of the description, whose ``{case}`` is the id of the subject.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from core.datasets.layouts.assignment import IMAGE, Assignment, Case
from core.datasets.layouts.base import natural_key
from core.datasets.layouts.dicom_files import FoundFiles, FoundSeries
from core.datasets.layouts.dicom_studies import Study, choose_studies, names_series
from core.datasets.layouts.listing import Listing
from core.datasets.layouts.set_description import SetDescription
from core.formatting import format_list
from core.imaging.dicom_index import LabelObject
from core.imaging.segments import segment_key


def assign_dicom(description: SetDescription, listing: Listing) -> Assignment:
    """Match the DICOM files of a folder.

    A subject is a series to which a segmentation or contours refer; series of the same kind in studies without any are
    subjects for prediction, other series are not read. Where the description names series by their descriptions or
    protocols, a subject is a study with a series for each modality.

    Raises
    ------
    DatasetError
        If a folder of DICOM files cannot be read.
    """
    found = FoundFiles(listing)
    if names_series(description.modalities, found):
        studies, modalities = choose_studies(description.modalities, found)
        texts = dict(description.modalities)
    else:
        studies, texts = _series_as_subjects(description, found)
        modalities = tuple(dict.fromkeys(texts.values()))
    ids = _ids([s.parts for s in studies], listing.folder.absolute().name)
    patients = _patients([s.patient for s in studies])
    cases = [
        Case(id, {"case": id, **patient}, {m: s.path for m, s in study.images.items()}, _named_labels(study.labels))
        for study, id, patient in zip(studies, ids, patients, strict=True)
    ]
    cases.sort(key=lambda case: natural_key(case.id))
    problems = _put_label_files(description, listing, cases) if description.labels else ()
    labels = {file for case in cases for file in case.labels.values()}
    return Assignment(
        description,
        tuple(cases),
        modalities,
        tuple(problems),
        tuple(f for f in listing.images if f not in labels),
        sum(len(c.files) for c in cases),
        modality_texts=texts,
        segments={} if description.labels else _segments(found.labels),
        notes=tuple(found.notes),
        warnings=tuple(found.warnings),
    )


def _put_label_files(description: SetDescription, listing: Listing, cases: Sequence[Case]) -> list[str]:
    """Give the subjects the label maps that patterns name, in place of segmentations and contours; what contradicts."""
    owners = {case.id.casefold(): case for case in cases}
    problems = []
    for case in cases:
        case.labels.clear()
    for file in listing.images:
        values = next((v for p in description.labels if (v := p.match(file)) is not None), None)
        owner = owners.get(values["case"].casefold()) if values else None
        if values is None or owner is None:
            continue
        role = values.get("label", values.get("rater", ""))
        if owner.labels.setdefault(role, file) != file:
            problems.append(f"{owner.labels[role]} and {file} are both the label map of {owner.id}")
    return problems


def _series_as_subjects(description: SetDescription, found: FoundFiles) -> tuple[list[Study], dict[str, str]]:
    """A subject for each series; and the name of the modality by what headers state."""
    chosen = _chosen(found)
    stated = {s.series.modality for s in chosen}
    texts = {m: description.modalities.get(m.casefold(), m) for m in sorted(stated)}
    if len(set(texts.values())) > 1:
        found.notes.append(f"series of {' and '.join(sorted(stated))} are one modality, {IMAGE}")
        texts = dict.fromkeys(texts, IMAGE)
    return [Study(s.parts, {texts[s.series.modality]: s}, s.series.patient) for s in chosen], texts


def _chosen(found: FoundFiles) -> list[FoundSeries]:
    """The series that are subjects."""
    labelled = [s for s in found.series.values() if s.labels]
    kinds = {s.series.modality for s in labelled}
    studies = {s.series.study for s in labelled}
    others = [
        s
        for s in found.series.values()
        if not s.labels and s.series.study not in studies and (not kinds or s.series.modality in kinds)
    ]
    unread = [s.path for s in found.series.values() if not s.labels and s not in others]
    if unread:
        found.notes.append(
            f"{len(unread)} further series have no segmentation or contours and are not read: "
            f"{format_list(unread, 3)}; File names, below Import options on Data, or data describe reads series of a "
            "study as modalities"
        )
    return labelled + others


def _ids(places: Sequence[tuple[str, ...]], folder: str) -> list[str]:
    """Ids of subjects: the first of their folders that tell them apart, without those that all share."""
    shared = 0
    if len(places) > 1:
        while len({p[: shared + 1] for p in places}) == 1 and all(len(p) > shared + 1 for p in places):
            shared += 1
    rest = [p[shared:] or (folder,) for p in places]
    for length in range(1, max(map(len, rest), default=0) + 1):
        ids = ["_".join(p[:length]) for p in rest]
        if len({id.casefold() for id in ids}) == len(ids):
            return ids
    counts: Counter[str] = Counter()
    ids = []
    for place in rest:
        id = "_".join(place)
        counts[id.casefold()] += 1
        ids.append(f"{id}_{counts[id.casefold()]}")
    return ids


def _patients(ids: Sequence[str]) -> list[dict[str, str]]:
    """The patient of each subject as an entity, without their id itself; nothing where all have the same, or none."""
    if not all(ids) or len(set(ids)) < min(2, len(ids)):
        return [{} for _ in ids]
    return [{"patient": hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()[:8]} for id in ids]


def _named_labels(labels: Sequence[tuple[str, LabelObject]]) -> dict[str, str]:
    """Label maps of a series by rater: "" for a single one, else kind, and description or file."""
    if len(labels) < 2:
        return dict.fromkeys([""], labels[0][0]) if labels else {}
    kinds = Counter(label.kind for _, label in labels)
    named: dict[str, str] = {}
    for file, label in sorted(labels):
        name = label.kind if kinds[label.kind] == 1 else f"{label.kind} {label.description or file.rpartition('/')[2]}"
        named[name if name not in named else f"{name} {file}"] = file
    return named


def _segments(labels: Sequence[LabelObject]) -> dict[str, str]:
    """Colour by name of all segments, in natural order; the first spelling and colour count."""
    found: dict[str, tuple[str, str]] = {}
    for segment in (s for label in labels for s in label.segments):
        name, colour = found.get(segment_key(segment.name), (segment.name, ""))
        found[segment_key(segment.name)] = (name, colour or segment.colour)
    return dict(sorted(found.values(), key=lambda pair: natural_key(pair[0].casefold())))
