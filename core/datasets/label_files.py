"""Label maps that by name, or by size and place, belong to the image of another subject."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from core.datasets.findings import Finding
from core.datasets.layouts.base import Dataset
from core.datasets.layouts.files import image_stem
from core.errors import UserError
from core.formatting import format_list
from core.imaging.geometry import Geometry, geometry_difference
from core.imaging.headers import read_header

MEANING = "if image and labels do not belong together, the network learns wrong labels, and scores compare with them"
MAX_SINGLE_FINDINGS = 3  # with more, one finding names the first subjects


def judge_file_names(dataset: Dataset) -> list[Finding]:
    """Warnings for label maps that are named like the image of another subject.

    Names are compared by their words and numbers, without those that all images, or all label maps, have. Nothing is
    said where the names of images and label maps have nothing in common.
    """
    subjects = [s for s in dataset.subjects if s.label is not None and s.images]
    images = _distinct_words([next(iter(s.images.values())).path for s in subjects], dataset.path)
    labels = _distinct_words([s.label for s in subjects if s.label is not None], dataset.path)
    owner = {words: s.id for words, s in zip(images, subjects, strict=True)}
    if len(owner) < len(subjects) or len(set(labels)) < len(subjects):
        return []
    named = {
        subject.id: (subject, owner[label])
        for subject, image, label in zip(subjects, images, labels, strict=True)
        if label != image and label in owner
    }
    fix = "correct the names or the list of files"
    if len(named) <= MAX_SINGLE_FINDINGS:
        message = "its label map is named like the image of {}"
        return [
            Finding("warning", message.format(other), s.id, str(s.label), fix, meaning=MEANING)
            for s, other in named.values()
        ]
    pairs = format_list([f"{other} for {s.id}" for s, other in named.values()], 4)
    message = f"{len(named)} of {len(subjects)} label maps are named like images of other subjects: {pairs}"
    return [Finding("warning", message, fix=fix, meaning=MEANING)]


def judge_places(dataset: Dataset, ids: Collection[str]) -> list[Finding]:
    """Warnings for label maps that have the size and place of another subject's image.

    Parameters
    ----------
    ids : collection of str. Subjects whose label map does not fit their own image.
    """
    if not ids:
        return []
    places = {s.id: _place(next(iter(s.images.values())).path) for s in dataset.subjects if s.images}
    findings = []
    for subject in (dataset.subject(id) for id in ids):
        own = _place(subject.label)
        if own is None or places.get(subject.id) is None:  # nothing to compare with
            continue
        fitting = [id for id, place in places.items() if place is not None and geometry_difference(place, own) is None]
        if fitting and subject.id not in fitting:
            message = f"its label map has the size and place of the image of {format_list(fitting, 3)}"
            fix = "does it belong to that one?"
            findings.append(Finding("warning", message, subject.id, str(subject.label), fix, meaning=MEANING))
    return findings


def _place(file: Path | None) -> Geometry | None:
    """Canonical geometry of a file; ``None`` if there is none that can be read."""
    if file is None:
        return None
    try:
        return read_header(file).geometry.canonical
    except UserError:
        return None


def _distinct_words(paths: Sequence[Path], folder: Path) -> list[tuple[str, ...]]:
    """Words and numbers of file and folder names, without those that all paths have."""
    words = []
    for path in paths:
        relative = path.relative_to(folder) if path.is_relative_to(folder) else path
        text = "/".join([*relative.parent.parts, image_stem(relative.name)]).lower()
        words.append([w.lstrip("0") or "0" if w.isdigit() else w for w in re.findall(r"[^\W\d_]+|[0-9]+", text)])
    common = [w for w, count in Counter(w for ws in words for w in set(ws)).items() if count == len(paths)]
    return [tuple(w for w in ws if w not in common) for ws in words]
