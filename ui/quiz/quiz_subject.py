"""A subject of the quiz: image, truth and prediction on one grid, and the questions cut from them.

All games on a subject share it (:func:`quiz_subject`); its voxels are on disk.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from core.datasets import Dataset, load_subject
from core.datasets.loading import class_mapping
from core.errors import DatasetError, VolumeError
from core.files import file_stamp
from core.imaging.display import Grid, channels, encode_image, encode_label
from core.imaging.geometry import Geometry
from core.imaging.volume import read_label
from core.labels import IGNORE_INDEX, LabelSpace
from core.study.questions import (
    PLANE_AXES,
    Candidate,
    Question,
    explain_difference,
    find_candidates,
    joint_foreground_box,
    question_box,
)
from core.types import Plane
from ui.quiz.game import Case, GameQuestion
from ui.quiz.mapped_arrays import MappedArrays
from ui.shared.heavy_work import heavy_work, one_at_a_time
from ui.shared.paths import cache_root
from ui.viewer.scenes import described, missing_classes, subject_hash
from ui.viewer.volumes import CacheWriteError

MARGIN_MM = 8.0  # around the labelled voxels
MAX_BYTES = 2 * 2**30  # of subjects on disk for later games; the least recently used are removed

_subjects: OrderedDict[str, QuizSubject] = OrderedDict()
_lock = threading.Lock()


def quiz_subject(dataset: Dataset, case: Case, labels: LabelSpace) -> QuizSubject:
    """The subject of a case, read if no earlier game has read it, or its files or its prediction have changed.

    Parameters
    ----------
    dataset, case, labels : as for :class:`QuizSubject`.

    Raises
    ------
    UserError
        As for :class:`QuizSubject`, or if there is no room for its voxels.
    """
    files = subject_hash(dataset, case.subject)
    key = json.dumps(
        [
            files,
            str(case.file),
            file_stamp(case.file),
            case.epoch,
            case.step,
            dataset.labels.to_json(),
            labels.to_json(),
        ]
    )
    with one_at_a_time(("quiz", key)):
        with _lock:
            found = _subjects.get(key)
        if found is None:
            with heavy_work():
                found = QuizSubject(dataset, case, labels)
        with _lock:
            _subjects[key] = found
            _subjects.move_to_end(key)
            while len(_subjects) > 1 and sum(kept.nbytes for kept in _subjects.values()) > MAX_BYTES:
                _subjects.popitem(last=False)
    return found


class QuizSubject:
    """A subject with its truth and its prediction in the classes of the network.

    Parameters
    ----------
    dataset : Dataset. Data set of the subject.
    case : Case. Subject id and file of the prediction.
    labels : LabelSpace. Classes of the network.

    Raises
    ------
    UserError
        If a file cannot be read, the subject has no label map, or not the classes of the network, or the prediction has
        another shape.
    """

    def __init__(self, dataset: Dataset, case: Case, labels: LabelSpace) -> None:
        loaded = load_subject(dataset, case.subject)
        if loaded.label is None:
            raise DatasetError(f"{dataset.path}: expected a label map of {case.subject}, found none")
        if missing := missing_classes(labels, dataset):
            raise DatasetError(
                f"{dataset.path}: expected labels of the model's classes {', '.join(labels.names[1:])}; this data set "
                f"has no {', '.join(missing)}; choose another one"
            )
        self.case = case
        self._labels = labels
        self._geometry = loaded.geometry
        self._channels = channels(loaded.image, dataset.modalities)
        truth = class_mapping(dataset.labels.names, labels.names)[loaded.label]
        stored = read_label(case.file, geometry=None if loaded.geometry.oriented else loaded.stored)
        prediction = labels.to_index(stored.data[0])
        if prediction.shape != truth.shape:
            raise VolumeError(
                f"{case.file}: expected a segmentation of {truth.shape} voxels, the shape of the subject, found "
                f"{prediction.shape}; segment the subject again"
            )
        # Where the truth is ignored, both are background to the questions, and both are shown as ignored.
        ignored = truth == IGNORE_INDEX
        self._ignore = None
        if ignored.any() and dataset.labels.ignore is not None:
            self._ignore = described(dataset.labels.ignore)
            truth, prediction = (np.where(ignored, np.uint8(0), v) for v in (truth, prediction))
        margin = [round(MARGIN_MM / spacing_mm) for spacing_mm in self._geometry.spacing_mm]
        self._box = joint_foreground_box(truth, prediction, margin)
        self._candidates = find_candidates(truth, prediction, case.subject)
        folder = cache_root() / "quiz"
        try:
            self._mapped = MappedArrays(folder, (loaded.image, truth, prediction, ignored))
        except OSError as error:
            raise CacheWriteError(
                f"{folder}: expected a folder with room for volumes, cannot write: {error.strerror or error}; "
                "make room there"
            ) from error

    @property
    def nbytes(self) -> int:
        """Size of its voxels on disk."""
        return self._mapped.nbytes

    def candidates(self, planes: Sequence[Plane]) -> list[Candidate]:
        """Slices that can be questions, in order of plane and index."""
        return [candidate for plane in planes for candidate in self._candidates if candidate.plane == plane]

    def grid(self, question: Question) -> Grid:
        """The grid of the volumes that a question shows."""
        box = question_box(question, self._box)
        affine = self._geometry.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
        i, j, k = (side.stop - side.start for side in box)
        return Grid.from_geometry(Geometry((i, j, k), affine, self._geometry.oriented))

    def question(self, question: Question) -> GameQuestion:
        """A question with the volumes that it shows."""
        box = question_box(question, self._box)
        whole_image, whole_truth, whole_prediction, whole_ignored = self._mapped.arrays
        ignored = whole_ignored[box]
        truth, prediction = (np.where(ignored, np.uint8(IGNORE_INDEX), v[box]) for v in (whole_truth, whole_prediction))
        index, axis = question.candidate.index, PLANE_AXES[question.candidate.plane]
        values = np.ascontiguousarray(whole_image[:, *box])
        explanation = explain_difference(
            whole_truth.take(index, axis), whole_prediction.take(index, axis), self._labels.names
        )
        self._mapped.release()
        image = encode_image(values, self._channels)
        return GameQuestion(
            question,
            self.case,
            self.grid(question),
            image,
            b"" if image.exact else values.astype("<f4", copy=False).tobytes(),
            encode_label(truth),
            encode_label(prediction),
            explanation,
            self._ignore,
        )
